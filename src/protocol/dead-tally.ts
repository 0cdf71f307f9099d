import type { DeadGroup, DeadGroups } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { type ErrorKind, groupOf } from './error-kind.ts';

/** Counts dead tasks by the kind of their newest failure. Beyond LIMITS.deadGroupsMax kinds tasks are only seen. */
export class DeadTally {
  readonly #groups = new Map<string, DeadGroup>();
  #scanned = 0;
  #isWhole = true;

  add(id: string, atMs: number, kind: ErrorKind): void {
    this.#scanned++;
    const name = groupOf(kind);
    const known = this.#groups.get(name);
    if (known !== undefined) {
      known.count++;
      known.oldestAtMs = Math.min(known.oldestAtMs, atMs);
      if (atMs > known.newestAtMs) known.sampleId = id;
      known.newestAtMs = Math.max(known.newestAtMs, atMs);
    } else if (this.#groups.size < LIMITS.deadGroupsMax) {
      const ends = { count: 1, oldestAtMs: atMs, newestAtMs: atMs, sampleId: id };
      this.#groups.set(name, { group: name, ...kind, ...ends });
    } else this.#isWhole = false;
  }

  /** `isAll`: every dead task was added. */
  report(isAll: boolean): DeadGroups {
    const groups = [...this.#groups.values()].sort((a, b) => b.count - a.count || b.newestAtMs - a.newestAtMs);
    return { groups, scanned: this.#scanned, complete: isAll && this.#isWhole };
  }
}
