import { NEXT, NONE, type TaskTable } from './task-table.ts';

/**
 * Finished tasks of a queue, oldest first, in a ring that grows up to what the retention asks for. A task's NEXT word is
 * its position, counted on for ever; a task taken out of the middle (redriven) leaves a hole.
 */
export class History {
  readonly #table: TaskTable;
  #slots = new Uint32Array(16).fill(NONE);
  #finishedAtMs = new Float64Array(16);
  #resultSegment = new Uint32Array(16);
  #resultOffset = new Uint32Array(16);
  /** Positions modulo 2^32; the capacity is a power of two, so wrapping does no harm. */
  #head = 0;
  #tail = 0;
  #count = 0;

  constructor(table: TaskTable) {
    this.#table = table;
  }

  get count(): number {
    return this.#count;
  }

  /** `resultSegment` NONE: no result. */
  push(slot: number, finishedAtMs: number, resultSegment: number, resultOffset: number): void {
    if ((this.#tail - this.#head) >>> 0 === this.#slots.length) this.#makeRoom();
    const at = this.#tail & (this.#slots.length - 1);
    this.#slots[at] = slot;
    this.#finishedAtMs[at] = finishedAtMs;
    this.#resultSegment[at] = resultSegment;
    this.#resultOffset[at] = resultOffset;
    this.#table.set(slot, NEXT, this.#tail);
    this.#tail = (this.#tail + 1) >>> 0;
    this.#count++;
  }

  /** NONE when empty. */
  oldest(): number {
    if (this.#count === 0) {
      this.#head = this.#tail;
      return NONE;
    }
    const mask = this.#slots.length - 1;
    while (this.#slots[this.#head & mask] === NONE) this.#head = (this.#head + 1) >>> 0;
    return this.#slots[this.#head & mask];
  }

  remove(slot: number): void {
    this.#slots[this.#index(slot)] = NONE;
    this.#count--;
  }

  finishedAtMs(slot: number): number {
    return this.#finishedAtMs[this.#index(slot)];
  }

  resultSegment(slot: number): number {
    return this.#resultSegment[this.#index(slot)];
  }

  resultOffset(slot: number): number {
    return this.#resultOffset[this.#index(slot)];
  }

  setResult(slot: number, segment: number, offset: number): void {
    const at = this.#index(slot);
    this.#resultSegment[at] = segment;
    this.#resultOffset[at] = offset;
  }

  /** Oldest first; `visit` must not change the history. */
  forEach(visit: (slot: number) => void): void {
    const mask = this.#slots.length - 1;
    for (let position = this.#head; position !== this.#tail; position = (position + 1) >>> 0) {
      const slot = this.#slots[position & mask];
      if (slot !== NONE) visit(slot);
    }
  }

  /** The last ones, newest first. */
  newest(countMax: number): number[] {
    const mask = this.#slots.length - 1;
    const slots: number[] = [];
    for (let position = this.#tail; position !== this.#head && slots.length < countMax; ) {
      position = (position - 1) >>> 0;
      const slot = this.#slots[position & mask];
      if (slot !== NONE) slots.push(slot);
    }
    return slots;
  }

  /** By when they ended: a journal may give them in another order. */
  sort(): void {
    const entries: { slot: number; atMs: number; segment: number; offset: number }[] = [];
    this.forEach((slot) => {
      const [atMs, segment, offset] = [this.finishedAtMs(slot), this.resultSegment(slot), this.resultOffset(slot)];
      entries.push({ slot, atMs, segment, offset });
    });
    entries.sort((a, b) => a.atMs - b.atMs);
    this.#slots.fill(NONE);
    this.#head = this.#tail;
    this.#count = 0;
    for (const { slot, atMs, segment, offset } of entries) this.push(slot, atMs, segment, offset);
  }

  #index(slot: number): number {
    return this.#table.get(slot, NEXT) & (this.#slots.length - 1);
  }

  /** Closes holes; doubles when more than half is really used. */
  #makeRoom(): void {
    if (this.#count === this.#slots.length) this.#double();
    else this.#rebuild(this.#count * 2 > this.#slots.length ? this.#slots.length * 2 : this.#slots.length);
  }

  /** Without holes every position stays what it is, and with it what the tasks say of theirs. */
  #double(): void {
    const capacity = this.#slots.length;
    const from = this.#head & (capacity - 1);
    const to = this.#head & (2 * capacity - 1);
    // The ring of twice the size goes on where the old one began anew.
    const rest = (to + capacity - from) & (2 * capacity - 1);
    const grow = <Ring extends Uint32Array | Float64Array>(old: Ring, ring: Ring): Ring => {
      ring.set(old.subarray(from), to);
      ring.set(old.subarray(0, from), rest);
      return ring;
    };
    this.#slots = grow(this.#slots, new Uint32Array(2 * capacity).fill(NONE));
    this.#finishedAtMs = grow(this.#finishedAtMs, new Float64Array(2 * capacity));
    this.#resultSegment = grow(this.#resultSegment, new Uint32Array(2 * capacity));
    this.#resultOffset = grow(this.#resultOffset, new Uint32Array(2 * capacity));
  }

  #rebuild(capacity: number): void {
    const old = {
      slots: this.#slots,
      finishedAtMs: this.#finishedAtMs,
      resultSegment: this.#resultSegment,
      resultOffset: this.#resultOffset,
      head: this.#head,
      tail: this.#tail,
    };
    this.#slots = new Uint32Array(capacity).fill(NONE);
    this.#finishedAtMs = new Float64Array(capacity);
    this.#resultSegment = new Uint32Array(capacity);
    this.#resultOffset = new Uint32Array(capacity);
    this.#head = 0;
    this.#tail = 0;
    this.#count = 0;
    const mask = old.slots.length - 1;
    for (let position = old.head; position !== old.tail; position = (position + 1) >>> 0) {
      const at = position & mask;
      const slot = old.slots[at];
      if (slot === NONE) continue;
      this.push(slot, old.finishedAtMs[at], old.resultSegment[at], old.resultOffset[at]);
    }
  }
}
