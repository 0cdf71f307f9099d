import type { TaskNumber } from '../../ids.ts';
import { LIMITS } from '../../limits.ts';
import type { HeldRun } from './held-run.ts';

/** Runs with tasks that are held, or settled and not answered, in the order in which they came. */
export class HeldRuns implements Iterable<HeldRun> {
  readonly #runs = new Set<HeldRun>();
  /** Those of one task, by its id: retries come one by one, and there may be very many. */
  readonly #single = new Map<TaskNumber, HeldRun>();
  readonly #longer = new Set<HeldRun>();
  #count = 0;

  [Symbol.iterator](): Iterator<HeldRun> {
    return this.#runs.values();
  }

  add(run: HeldRun): void {
    run.order = ++this.#count;
    this.#runs.add(run);
    if (run.length === 1) this.#single.set(run.firstId, run);
    else this.#longer.add(run);
  }

  /** Call after tasks of the run were dropped. */
  forgetIfGone(run: HeldRun): void {
    if (run.remaining > 0) return;
    this.#runs.delete(run);
    this.#longer.delete(run);
    if (this.#single.get(run.firstId) === run) this.#single.delete(run.firstId);
  }

  clear(): void {
    this.#runs.clear();
    this.#single.clear();
    this.#longer.clear();
  }

  /** A task may be here twice: settled and, before the answer came, delivered anew. */
  find(id: TaskNumber, state: 'held' | 'settled'): [HeldRun, number] | [undefined, -1] {
    const isWanted = (run: HeldRun, index: number): boolean =>
      index !== -1 && (state === 'held' ? run.isHeld(index) : run.isSettled(index));
    const single = this.#single.get(id);
    if (single !== undefined && isWanted(single, 0)) return [single, 0];
    for (const run of this.#longer) {
      const index = run.indexOf(id);
      if (isWanted(run, index)) return [run, index];
    }
    return [undefined, -1];
  }

  /**
   * What to name after a reconnect: what is held and what was settled without an answer. Of the latter there may be more
   * than a server hears of: what is not named runs again, unless its settlement had arrived.
   */
  resumable(): [string, string, number][] {
    const resume = new Map<string, [string, string, number]>();
    let settledLeft = LIMITS.prefetchMax;
    const each = (visit: (run: HeldRun, index: number) => void): void => {
      for (const run of this.#runs) for (let index = 0; index < run.length; index++) visit(run, index);
    };
    each((run, index) => {
      if (run.isHeld(index)) settledLeft--;
    });
    each((run, index) => {
      if (run.isHeld(index) || (run.isSettled(index) && settledLeft-- > 0)) {
        const id = run.id(index);
        // Where its newest delivery stands: what is kept gets new tokens in this order.
        resume.delete(id);
        resume.set(id, [id, String(run.token(index)), run.attempt]);
      }
    });
    return [...resume.values()];
  }

  /**
   * After a reconnect: goes on with what was kept, under its new tokens, and drops the rest. Of a task that is here twice
   * only the newest delivery is kept: the server has taken the settlement of the other, or it would not have come again.
   */
  sort(kept: ReadonlyMap<TaskNumber, number>, lost: (run: HeldRun, index: number) => void): void {
    const left = new Map(kept);
    for (const run of [...this.#runs].reverse()) {
      for (let index = 0; index < run.length; index++) {
        if (run.isGone(index)) continue;
        const token = left.get(run.firstId + index);
        if (token !== undefined) {
          left.delete(run.firstId + index);
          run.keep(index, token);
          continue;
        }
        const held = run.isHeld(index);
        run.lose(index);
        // One that was settled may have been taken before the connection went: nobody is told anything.
        if (held) lost(run, index);
      }
      this.forgetIfGone(run);
    }
  }

  /** The token of the last task that is held up to this one; tokens follow the order of delivery. 0 for none. */
  lastHeldToken(last: HeldRun, lastIndex: number): number {
    let token = 0;
    for (const run of this.#runs) {
      if (run.order > last.order) break;
      const to = run === last ? lastIndex : run.length - 1;
      for (let index = to; index >= 0; index--) {
        if (!run.isHeld(index)) continue;
        token = run.token(index);
        break;
      }
    }
    return token;
  }
}
