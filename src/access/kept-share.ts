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

/** What is one's own, with its size when it was used last: what was forgotten since is counted until it stands first. */
interface Own<Key> {
  /** The one that was used last stands at the end. */
  readonly sizes: Map<Key, number>;
  /** All together. */
  size: number;
}

/**
 * What the server keeps until its room is needed for others, those that were used last for longest. Who may use some queues only
 * and needs more than his share gives up what is his.
 */
export class KeptShare<Key> {
  readonly #kept: Kept<Key>;
  /** By the name of a grant. */
  readonly #ofGrant = new Map<string, Own<Key>>();

  constructor(kept: Kept<Key>) {
    this.#kept = kept;
  }

  used({ name, ofAllQueues }: Grant, key: Key): void {
    if (ofAllQueues || name === undefined) return;
    const own = this.#ofGrant.get(name) ?? { sizes: new Map(), size: 0 };
    this.#ofGrant.set(name, own);
    const size = this.#kept.sizeOf(key);
    own.size += size - (own.sizes.get(key) ?? 0);
    own.sizes.delete(key);
    own.sizes.set(key, size);
    for (const [oldest, oldestSize] of own.sizes) {
      if (own.sizes.size === 1 || !this.#isTooMuch(own)) return;
      own.sizes.delete(oldest);
      own.size -= oldestSize;
      this.#kept.forget(oldest);
    }
  }

  #isTooMuch({ sizes, size }: Own<Key>): boolean {
    const { countMax, sizeMax } = this.#kept;
    return sizes.size > countMax || (size > sizeMax && this.#kept.total() > sizeMax);
  }
}
