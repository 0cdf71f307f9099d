import { NONE } from './task-table.ts';

const PAGE_BITS = 10;
const PAGE_SIZE = 1 << PAGE_BITS;
/** A page with so few tasks left moves into the map: one straggler must not hold four kilobytes. */
const SPARSE_MAX = 16;

interface Page {
  readonly slots: Uint32Array;
  live: number;
}

/**
 * From id to slot. Ids are given out in order, so pages of consecutive ids serve nearly all look-ups without hashing;
 * what is left of an old page lives in a map.
 */
export class IdIndex {
  readonly #pages = new Map<number, Page>();
  readonly #sparse = new Map<number, number>();
  readonly #spare: Page[] = [];
  #cachedKey = -1;
  #cachedPage: Page | undefined;
  /** Pages at or above this may still be filled. */
  #growingKey = 0;
  /** While a log is replayed ids come in any order, so that every page may still be filled. */
  #loading = true;

  /** Ends the loading phase, in which an index begins. */
  loaded(): void {
    this.#loading = false;
    for (const [key, page] of this.#pages) {
      if (key < this.#growingKey && page.live <= SPARSE_MAX) this.#dissolve(key, page);
    }
  }

  get size(): number {
    let size = this.#sparse.size;
    for (const page of this.#pages.values()) size += page.live;
    return size;
  }

  set(id: number, slot: number): void {
    const key = Math.floor(id / PAGE_SIZE);
    let page = this.#page(key);
    if (page === undefined) {
      if (key < this.#growingKey && !this.#loading) {
        this.#sparse.set(id, slot);
        return;
      }
      if (key > this.#growingKey) this.#seal(key);
      page = this.#spare.pop() ?? { slots: new Uint32Array(PAGE_SIZE), live: 0 };
      page.slots.fill(NONE);
      this.#pages.set(key, page);
      this.#cachedKey = key;
      this.#cachedPage = page;
    }
    const at = id - key * PAGE_SIZE;
    if (page.slots[at] === NONE) page.live++;
    page.slots[at] = slot;
  }

  /** The slot, or NONE. */
  get(id: number): number {
    const key = Math.floor(id / PAGE_SIZE);
    const page = this.#page(key);
    if (page !== undefined) return page.slots[id - key * PAGE_SIZE];
    return this.#sparse.size === 0 ? NONE : (this.#sparse.get(id) ?? NONE);
  }

  delete(id: number): void {
    const key = Math.floor(id / PAGE_SIZE);
    const page = this.#page(key);
    if (page === undefined) {
      this.#sparse.delete(id);
      return;
    }
    const at = id - key * PAGE_SIZE;
    if (page.slots[at] === NONE) return;
    page.slots[at] = NONE;
    page.live--;
    if (key < this.#growingKey && page.live <= (this.#loading ? 0 : SPARSE_MAX)) this.#dissolve(key, page);
  }

  /** Visits tasks in the order of their ids, from `fromId` on, until `visit` returns false. */
  scan(fromId: number, visit: (id: number, slot: number) => boolean): void {
    const fromKey = Math.floor(fromId / PAGE_SIZE);
    const keys = [...this.#pages.keys()].filter((key) => key >= fromKey).sort((a, b) => a - b);
    const sparse = [...this.#sparse.keys()].filter((id) => id >= fromId).sort((a, b) => a - b);
    let nextSparse = 0;
    for (const key of keys) {
      while (nextSparse < sparse.length && sparse[nextSparse] < key * PAGE_SIZE) {
        const id = sparse[nextSparse++];
        if (!visit(id, this.#sparse.get(id) ?? NONE)) return;
      }
      const page = this.#pages.get(key);
      if (page === undefined) continue;
      for (let at = 0; at < PAGE_SIZE; at++) {
        const slot = page.slots[at];
        const id = key * PAGE_SIZE + at;
        if (slot !== NONE && id >= fromId && !visit(id, slot)) return;
      }
    }
    while (nextSparse < sparse.length) {
      const id = sparse[nextSparse++];
      if (!visit(id, this.#sparse.get(id) ?? NONE)) return;
    }
  }

  #page(key: number): Page | undefined {
    if (key === this.#cachedKey) return this.#cachedPage;
    const page = this.#pages.get(key);
    if (page !== undefined) {
      this.#cachedKey = key;
      this.#cachedPage = page;
    }
    return page;
  }

  /** A new page begins: older ones fill no more, so those that are nearly empty already dissolve. */
  #seal(key: number): void {
    const previous = this.#growingKey;
    this.#growingKey = key;
    const page = this.#pages.get(previous);
    if (page !== undefined && page.live <= (this.#loading ? 0 : SPARSE_MAX)) this.#dissolve(previous, page);
  }

  #dissolve(key: number, page: Page): void {
    if (page.live > 0) {
      for (let at = 0; at < PAGE_SIZE; at++) {
        const slot = page.slots[at];
        if (slot !== NONE) this.#sparse.set(key * PAGE_SIZE + at, slot);
      }
    }
    this.#pages.delete(key);
    if (this.#cachedKey === key) {
      this.#cachedKey = -1;
      this.#cachedPage = undefined;
    }
    page.live = 0;
    if (this.#spare.length < 64) this.#spare.push(page);
  }
}
