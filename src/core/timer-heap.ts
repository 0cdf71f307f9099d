import { NEXT, type TaskTable } from './task-table.ts';

/**
 * Tasks by due time, then by the order in which they were added: a 4-ary heap in typed arrays. Each task's NEXT word is
 * its position, so that a cancelled one is removed without a search.
 */
export class TimerHeap {
  readonly #table: TaskTable;
  #dueMs = new Float64Array(64);
  #order = new Float64Array(64);
  #slots = new Uint32Array(64);
  #size = 0;
  #added = 0;

  constructor(table: TaskTable) {
    this.#table = table;
  }

  get size(): number {
    return this.#size;
  }

  /** Infinity when empty. */
  get nextDueMs(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#dueMs[0];
  }

  dueMsOf(slot: number): number {
    return this.#dueMs[this.#table.get(slot, NEXT)];
  }

  push(slot: number, dueMs: number): void {
    if (this.#size === this.#slots.length) this.#grow();
    this.#siftUp(this.#size++, slot, dueMs, this.#added++);
  }

  /** The earliest task; only when size > 0. */
  pop(): number {
    const slot = this.#slots[0];
    this.#removeAt(0);
    return slot;
  }

  remove(slot: number): void {
    this.#removeAt(this.#table.get(slot, NEXT));
  }

  /** In no order. */
  slots(): Uint32Array {
    return this.#slots.subarray(0, this.#size);
  }

  #removeAt(at: number): void {
    const last = --this.#size;
    if (at === last) return;
    const slot = this.#slots[last];
    const dueMs = this.#dueMs[last];
    const order = this.#order[last];
    if (at > 0 && this.#before(dueMs, order, (at - 1) >> 2)) this.#siftUp(at, slot, dueMs, order);
    else this.#siftDown(at, slot, dueMs, order);
  }

  #before(dueMs: number, order: number, at: number): boolean {
    const other = this.#dueMs[at];
    return dueMs < other || (dueMs === other && order < this.#order[at]);
  }

  #place(at: number, slot: number, dueMs: number, order: number): void {
    this.#slots[at] = slot;
    this.#dueMs[at] = dueMs;
    this.#order[at] = order;
    this.#table.set(slot, NEXT, at);
  }

  #move(from: number, to: number): void {
    this.#place(to, this.#slots[from], this.#dueMs[from], this.#order[from]);
  }

  #siftUp(start: number, slot: number, dueMs: number, order: number): void {
    let at = start;
    while (at > 0) {
      const parent = (at - 1) >> 2;
      if (!this.#before(dueMs, order, parent)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#place(at, slot, dueMs, order);
  }

  #siftDown(start: number, slot: number, dueMs: number, order: number): void {
    let at = start;
    for (;;) {
      const first = at * 4 + 1;
      if (first >= this.#size) break;
      let least = first;
      const end = Math.min(first + 4, this.#size);
      for (let child = first + 1; child < end; child++) {
        if (this.#before(this.#dueMs[child], this.#order[child], least)) least = child;
      }
      if (this.#before(dueMs, order, least)) break;
      this.#move(least, at);
      at = least;
    }
    this.#place(at, slot, dueMs, order);
  }

  #grow(): void {
    const capacity = this.#slots.length * 2;
    const dueMs = new Float64Array(capacity);
    const order = new Float64Array(capacity);
    const slots = new Uint32Array(capacity);
    dueMs.set(this.#dueMs);
    order.set(this.#order);
    slots.set(this.#slots);
    this.#dueMs = dueMs;
    this.#order = order;
    this.#slots = slots;
  }
}
