import { NEXT, NONE, PREV, type TaskTable } from './task-table.ts';

export const PRIORITY_COUNT = 10;

/** Ten first-in-first-out lists threaded through the task table, one a priority. */
export class ReadyLists {
  readonly #table: TaskTable;
  readonly #heads = new Uint32Array(PRIORITY_COUNT).fill(NONE);
  readonly #tails = new Uint32Array(PRIORITY_COUNT).fill(NONE);
  /** Bit p is set when list p is not empty. */
  occupied = 0;

  constructor(table: TaskTable) {
    this.#table = table;
  }

  /** The highest priority that has a ready task, or -1. */
  get topPriority(): number {
    return 31 - Math.clz32(this.occupied);
  }

  head(priority: number): number {
    return this.#heads[priority];
  }

  pushBack(slot: number, priority: number): void {
    const tail = this.#tails[priority];
    const words = this.#table.words(slot);
    const at = this.#table.at(slot);
    words[at + NEXT] = NONE;
    words[at + PREV] = tail;
    if (tail === NONE) {
      this.#heads[priority] = slot;
      this.occupied |= 1 << priority;
    } else this.#table.set(tail, NEXT, slot);
    this.#tails[priority] = slot;
  }

  pushFront(slot: number, priority: number): void {
    const head = this.#heads[priority];
    this.#table.set(slot, NEXT, head);
    this.#table.set(slot, PREV, NONE);
    if (head === NONE) {
      this.#tails[priority] = slot;
      this.occupied |= 1 << priority;
    } else this.#table.set(head, PREV, slot);
    this.#heads[priority] = slot;
  }

  /** Takes the head of a list whose head it is: `next` is its NEXT word. */
  shift(priority: number, next: number): void {
    this.#heads[priority] = next;
    if (next === NONE) {
      this.#tails[priority] = NONE;
      this.occupied &= ~(1 << priority);
    } else this.#table.set(next, PREV, NONE);
  }

  remove(slot: number, priority: number): void {
    const next = this.#table.get(slot, NEXT);
    const prev = this.#table.get(slot, PREV);
    if (prev === NONE) this.#heads[priority] = next;
    else this.#table.set(prev, NEXT, next);
    if (next === NONE) this.#tails[priority] = prev;
    else this.#table.set(next, PREV, prev);
    if (this.#heads[priority] === NONE) this.occupied &= ~(1 << priority);
  }
}
