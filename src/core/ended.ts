import type { History } from './history.ts';
import type { Kind } from './kind.ts';
import type { Queue } from './queue.ts';
import type { DroppedReferences } from './references.ts';
import { NONE, State, type TaskTable } from './task-table.ts';

/**
 * Ended tasks: in which history of its queue each stands, and which go when a queue keeps no more. Those that others need
 * are held apart, and retention does not touch them.
 */
export class Ended {
  readonly #table: TaskTable;
  readonly #dropped: DroppedReferences;
  readonly #kindOf: (slot: number) => Kind;
  readonly #evict: (slot: number, queue: Queue) => void;
  readonly #held = new Set<number>();

  constructor(
    table: TaskTable,
    dropped: DroppedReferences,
    kindOf: (slot: number) => Kind,
    evict: (slot: number, queue: Queue) => void,
  ) {
    this.#table = table;
    this.#dropped = dropped;
    this.#kindOf = kindOf;
    this.#evict = evict;
  }

  historyOf(slot: number): History {
    const { queue } = this.#kindOf(slot);
    const isHeld = this.#held.size > 0 && this.#held.has(slot);
    if (this.#table.state(slot) === State.DEAD) return isHeld ? queue.heldDead : queue.dead;
    return isHeld ? queue.held : queue.finished;
  }

  /** Takes the task out, and drops its result. */
  remove(slot: number, queue: Queue, dead: boolean): void {
    if (this.#held.size > 0 && this.#held.has(slot)) this.#removeHeld(slot);
    else this.#removeFrom(dead ? queue.dead : queue.finished, slot);
  }

  #removeHeld(slot: number): void {
    this.#removeFrom(this.historyOf(slot), slot);
    this.#held.delete(slot);
  }

  /** The segment stays here: NONE is no small integer, and would take room on the heap where it is handed on. */
  #removeFrom(history: History, slot: number): void {
    const segment = history.resultSegment(slot);
    if (segment !== NONE) this.#dropped.add(segment);
    history.remove(slot);
  }

  /** Before the task is added, or at any time after. */
  markHeld(slot: number): void {
    this.#held.add(slot);
  }

  hold(slot: number): void {
    if (!this.#held.has(slot)) this.#move(slot, () => this.#held.add(slot));
  }

  /** Returns false when it was not held. */
  letGo(slot: number): boolean {
    if (!this.#held.has(slot)) return false;
    this.#move(slot, () => this.#held.delete(slot));
    return true;
  }

  /** Between the histories of its queue. */
  #move(slot: number, change: () => void): void {
    const from = this.historyOf(slot);
    const [atMs, segment, offset] = [from.finishedAtMs(slot), from.resultSegment(slot), from.resultOffset(slot)];
    from.remove(slot);
    change();
    this.historyOf(slot).push(slot, atMs, segment, offset);
  }

  /** Forgets what is beyond the count that a queue keeps, of the dead or of the others. */
  trim(queue: Queue, dead: boolean): void {
    const history = dead ? queue.dead : queue.finished;
    const countMax = dead ? queue.retention.deadCountMax : queue.retention.completedCountMax;
    while (history.count > countMax) this.#evict(history.oldest(), queue);
  }

  /** Forgets what is older than its queue keeps it, `countMax` tasks at most. */
  expire(queues: Iterable<Queue>, steadyMs: number, countMax: number): void {
    let left = countMax;
    for (const queue of queues) {
      const { completedAgeMs, deadAgeMs } = queue.retention;
      left = this.#expireFrom(queue.finished, queue, steadyMs - completedAgeMs, left);
      left = this.#expireFrom(queue.dead, queue, steadyMs - deadAgeMs, left);
    }
  }

  #expireFrom(history: History, queue: Queue, endedMs: number, countMax: number): number {
    let left = countMax;
    for (; left > 0; left--) {
      const oldest = history.oldest();
      if (oldest === NONE || history.finishedAtMs(oldest) > endedMs) break;
      this.#evict(oldest, queue);
    }
    return left;
  }
}
