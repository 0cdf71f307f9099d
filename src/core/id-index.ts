import { NONE } from './task-table.ts';

const PAGE_BITS = 10;
const PAGE_SIZE = 1 << PAGE_BITS;
/** A page with so few tasks left moves into the map: one straggler must not hold four kilobytes. */
const SPARSE_MAX = 16;

/**
 * Pages whose survivors share a map: a scan puts so many in order at a time, however many there are in all. No more than
 * SPARSE_MAX of each page, as a rule.
 */
const REGION_PAGES = 1024;

/** Returns whether to go on. */
type Visit = (id: number, slot: number) => boolean;

interface Page {
  readonly slots: Uint32Array;
  live: number;
}

/**
 * From id to slot. Ids are given out in order, so pages of consecutive ids serve nearly all look-ups without hashing;
 * what is left of an old page lives in a map, one for each region of ids.
 */
export class IdIndex {
  readonly #pages = new Map<number, Page>();
  /** By region. */
  readonly #sparse = new Map<number, Map<number, number>>();
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
    let size = 0;
    for (const sparse of this.#sparse.values()) size += sparse.size;
    for (const page of this.#pages.values()) size += page.live;
    return size;
  }

  set(id: number, slot: number): void {
    const key = Math.floor(id / PAGE_SIZE);
    let page = this.#page(key);
    if (page === undefined) {
      if (key < this.#growingKey && !this.#loading) {
        this.#setSparse(id, slot);
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
    return this.#sparse.size === 0 ? NONE : (this.#sparse.get(regionOf(id))?.get(id) ?? NONE);
  }

  delete(id: number): void {
    const key = Math.floor(id / PAGE_SIZE);
    const page = this.#page(key);
    if (page === undefined) {
      this.#deleteSparse(id);
      return;
    }
    const at = id - key * PAGE_SIZE;
    if (page.slots[at] === NONE) return;
    page.slots[at] = NONE;
    page.live--;
    if (key < this.#growingKey && page.live <= (this.#loading ? 0 : SPARSE_MAX)) this.#dissolve(key, page);
  }

  /** Visits tasks in the order of their ids, from `fromId` on, until `visit` returns false. */
  scan(fromId: number, visit: Visit): void {
    const from = regionOf(fromId);
    for (const region of this.#regions()) {
      if (region >= from && !this.#scanRegion(region, fromId, 1, visit)) return;
    }
  }

  /** As `scan`, from `fromId` down. */
  scanBack(fromId: number, visit: Visit): void {
    const from = regionOf(fromId);
    for (const region of this.#regions().reverse()) {
      if (region <= from && !this.#scanRegion(region, fromId, -1, visit)) return;
    }
  }

  /** Those in which there are tasks, ascending. */
  #regions(): number[] {
    const regions = new Set(this.#sparse.keys());
    for (const key of this.#pages.keys()) regions.add(Math.floor(key / REGION_PAGES));
    return [...regions].sort((a, b) => a - b);
  }

  #scanRegion(region: number, fromId: number, step: 1 | -1, visit: Visit): boolean {
    const sparse = this.#sparseFrom(region, fromId, step);
    const [first, last] = [region * REGION_PAGES, (region + 1) * REGION_PAGES - 1];
    const fromKey = Math.floor(fromId / PAGE_SIZE);
    const begin = step > 0 ? Math.max(first, fromKey) : Math.min(last, fromKey);
    let next = 0;
    for (let key = begin; key >= first && key <= last; key += step) {
      const page = this.#pages.get(key);
      if (page === undefined) continue;
      // Where there is a page, nothing of it is sparse.
      while (next < sparse.length && (sparse[next] - key * PAGE_SIZE) * step < 0) {
        if (!this.#visitSparse(region, sparse[next++], visit)) return false;
      }
      const edge = step > 0 ? 0 : PAGE_SIZE - 1;
      for (let at = key === fromKey ? fromId - key * PAGE_SIZE : edge; at >= 0 && at < PAGE_SIZE; at += step) {
        const slot = page.slots[at];
        if (slot !== NONE && !visit(key * PAGE_SIZE + at, slot)) return false;
      }
    }
    while (next < sparse.length) if (!this.#visitSparse(region, sparse[next++], visit)) return false;
    return true;
  }

  #sparseFrom(region: number, fromId: number, step: 1 | -1): Float64Array {
    const ids = [...(this.#sparse.get(region)?.keys() ?? [])].filter((id) => (id - fromId) * step >= 0);
    const sorted = Float64Array.from(ids).sort();
    return step > 0 ? sorted : sorted.reverse();
  }

  #visitSparse(region: number, id: number, visit: Visit): boolean {
    return visit(id, this.#sparse.get(region)?.get(id) ?? NONE);
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

  #setSparse(id: number, slot: number): void {
    const region = regionOf(id);
    const sparse = this.#sparse.get(region);
    if (sparse === undefined) this.#sparse.set(region, new Map([[id, slot]]));
    else sparse.set(id, slot);
  }

  #deleteSparse(id: number): void {
    const region = regionOf(id);
    const sparse = this.#sparse.get(region);
    if (sparse?.delete(id) === true && sparse.size === 0) this.#sparse.delete(region);
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
        if (slot !== NONE) this.#setSparse(key * PAGE_SIZE + at, slot);
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

function regionOf(id: number): number {
  return Math.floor(id / (PAGE_SIZE * REGION_PAGES));
}
