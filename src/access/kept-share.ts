import type { Grant } from './grant.ts';

interface Kept<Key> {
  /** What one who may use some queues only has of it at most: how many, and of what size together. */
  readonly countMax: number;
  readonly sizeMax: number;
  sizeOf(key: Key): number;
  /** Of all, whosever they are. */
  total(): number;
  forget(key: Key): void;
}

/**
 * What the server keeps until its room is needed for others, those that were used last for longest. Who may use some queues only
 * and needs more than his share gives up what is his.
 */
export class KeptShare<Key> {
  readonly #kept: Kept<Key>;
  /** By the name of a grant; the one that was used last stands at the end. */
  readonly #ofGrant = new Map<string, Set<Key>>();

  constructor(kept: Kept<Key>) {
    this.#kept = kept;
  }

  used({ name, ofAllQueues }: Grant, key: Key): void {
    if (ofAllQueues || name === undefined) return;
    const own = this.#ofGrant.get(name) ?? new Set();
    this.#ofGrant.set(name, own);
    own.delete(key);
    own.add(key);
    for (const oldest of own) {
      if (own.size === 1 || !this.#isTooMuch(own)) return;
      own.delete(oldest);
      this.#kept.forget(oldest);
    }
  }

  #isTooMuch(own: ReadonlySet<Key>): boolean {
    const { countMax, sizeMax } = this.#kept;
    if (own.size > countMax) return true;
    if (this.#kept.total() <= sizeMax) return false;
    let size = 0;
    for (const key of own) size += this.#kept.sizeOf(key);
    return size > sizeMax;
  }
}
