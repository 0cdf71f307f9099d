import { FLAG_WALL, NONE, type TaskTable } from './task-table.ts';
import { TimerHeap } from './timer-heap.ts';

/** Scheduled tasks, each by the clock that its flags say. */
export class Timers {
  readonly #table: TaskTable;
  readonly #steady: TimerHeap;
  readonly #wall: TimerHeap;

  constructor(table: TaskTable) {
    this.#table = table;
    this.#steady = new TimerHeap(table);
    this.#wall = new TimerHeap(table);
  }

  get nextSteadyMs(): number {
    return this.#steady.nextDueMs;
  }

  get nextWallMs(): number {
    return this.#wall.nextDueMs;
  }

  get size(): number {
    return this.#steady.size + this.#wall.size;
  }

  /** In no order; valid until the next change. */
  *slots(): Generator<number> {
    yield* this.#steady.slots();
    yield* this.#wall.slots();
  }

  /** Where tasks with this flag wait, for many at once. */
  heap(wall: boolean): TimerHeap {
    return wall ? this.#wall : this.#steady;
  }

  push(slot: number, dueMs: number): void {
    this.#of(slot).push(slot, dueMs);
  }

  remove(slot: number): void {
    this.#of(slot).remove(slot);
  }

  dueMs(slot: number): number {
    return this.#of(slot).dueMsOf(slot);
  }

  /** Takes out a task that is due; NONE when none is. */
  pop(steadyMs: number, wallMs: number): number {
    if (this.#steady.nextDueMs <= steadyMs) return this.#steady.pop();
    return this.#wall.nextDueMs <= wallMs ? this.#wall.pop() : NONE;
  }

  #of(slot: number): TimerHeap {
    return this.heap(this.#table.hasFlag(slot, FLAG_WALL));
  }
}
