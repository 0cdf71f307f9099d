import type { DeliveryRun } from '../broker/contract.ts';

/** Deliveries that were not started yet, in order. */
export class Backlog {
  readonly #runs: DeliveryRun[] = [];
  #head = 0;
  /** In the run at the head: the first task not started. */
  #next = 0;
  /** Tasks that were revoked before they started. */
  readonly #revoked = new Map<DeliveryRun, Set<number>>();

  /** The run whose task is next; undefined when there is none. */
  get run(): DeliveryRun | undefined {
    return this.#runs[this.#head];
  }

  /** Index of the next task in `run`. */
  get index(): number {
    return this.#next;
  }

  push(run: DeliveryRun): void {
    this.#runs.push(run);
  }

  /** How many of the next tasks, at most `max`, can be taken together. */
  available(max: number): number {
    const run = this.run;
    if (run === undefined) return 0;
    const count = Math.min(max, run.length - this.#next);
    const revoked = this.#revoked.get(run);
    if (revoked === undefined) return count;
    for (let offset = 0; offset < count; offset++) if (revoked.has(this.#next + offset)) return offset;
    return count;
  }

  take(count: number): void {
    this.#next += count;
    this.#skip();
  }

  /** False when the task is not waiting here. */
  revoke(run: DeliveryRun, index: number): boolean {
    const at = this.#runs.indexOf(run, this.#head);
    if (at === -1 || (at === this.#head && index < this.#next)) return false;
    const revoked = this.#revoked.get(run);
    if (revoked === undefined) this.#revoked.set(run, new Set([index]));
    else revoked.add(index);
    this.#skip();
    return true;
  }

  /** Takes everything out. */
  drain(each: (run: DeliveryRun, index: number) => void): void {
    for (let run = this.run; run !== undefined; run = this.run) {
      const index = this.#next;
      this.take(1);
      each(run, index);
    }
  }

  /** Moves on to the next task that was not revoked. */
  #skip(): void {
    for (let run = this.run; run !== undefined; run = this.run) {
      if (this.#revoked.size > 0) while (this.#revoked.get(run)?.has(this.#next) === true) this.#next++;
      if (this.#next < run.length) return;
      this.#revoked.delete(run);
      this.#next = 0;
      this.#head++;
      if (this.#head < 64 && this.#head < this.#runs.length) continue;
      this.#runs.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
