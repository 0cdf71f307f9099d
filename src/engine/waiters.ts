import type { StoredOutcome } from './segment-reader.ts';

/** Someone who waits for tasks to end. */
export interface Waiting {
  settled(id: number, outcome: StoredOutcome): void;
}

/** Who waits for which task. */
export class Waiters {
  readonly #byTask = new Map<number, Set<Waiting>>();

  add(id: number, waiting: Waiting): void {
    const known = this.#byTask.get(id);
    if (known === undefined) this.#byTask.set(id, new Set([waiting]));
    else known.add(waiting);
  }

  remove(id: number, waiting: Waiting): void {
    const known = this.#byTask.get(id);
    if (known === undefined) return;
    known.delete(waiting);
    if (known.size === 0) this.#byTask.delete(id);
  }

  finished(id: number, outcome: StoredOutcome): void {
    const known = this.#byTask.get(id);
    if (known === undefined) return;
    this.#byTask.delete(id);
    for (const waiting of known) waiting.settled(id, outcome);
  }
}
