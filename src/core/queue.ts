import { History } from './history.ts';
import { NEXT, NONE, PREV, type TaskTable } from './task-table.ts';
import type { CoreWorker } from './worker.ts';

export const PRIORITY_COUNT = 10;

export interface RetentionPolicy {
  completedCountMax: number;
  completedAgeMs: number;
  deadCountMax: number;
  deadAgeMs: number;
}

/** Counted since the queue was first used, over restarts. */
export interface QueueTotals {
  enqueued: number;
  completed: number;
  failed: number;
  dead: number;
  cancelled: number;
}

/** A queue: ten first-in-first-out lists threaded through the task table, its finished tasks, and who listens. */
export class Queue {
  readonly name: string;
  readonly #table: TaskTable;
  readonly #defaultRetention: RetentionPolicy;
  readonly #heads = new Uint32Array(PRIORITY_COUNT).fill(NONE);
  readonly #tails = new Uint32Array(PRIORITY_COUNT).fill(NONE);
  /** Bit p is set when list p is not empty. */
  #occupied = 0;
  /** Kinds of its tasks; 0 when it has none. */
  kindCount = 0;
  ready = 0;
  active = 0;
  scheduled = 0;
  blocked = 0;
  cancelledKept = 0;
  paused = false;
  /** Replaced as a whole when someone sets it. */
  retention: RetentionPolicy;
  /** Completed and cancelled ones. */
  readonly finished: History;
  readonly dead: History;
  /** Ended tasks that retention does not touch: others need them. */
  readonly held: History;
  readonly heldDead: History;
  readonly totals: QueueTotals = { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 };
  readonly workers: CoreWorker[] = [];
  /** Whose turn it is among the workers. */
  turn = 0;
  /** Counts deliveries of all queues, as of its last one. */
  servedAt = 0;
  /** Is in the core's list of queues to dispatch. */
  marked = false;

  constructor(name: string, table: TaskTable, retention: RetentionPolicy) {
    this.name = name;
    this.#table = table;
    this.retention = retention;
    this.#defaultRetention = retention;
    this.finished = new History(table);
    this.dead = new History(table);
    this.held = new History(table);
    this.heldDead = new History(table);
  }

  get hasOwnRetention(): boolean {
    return this.retention !== this.#defaultRetention;
  }

  /** How many ended tasks there are, held ones included. */
  get endedCount(): { finished: number; dead: number } {
    return { finished: this.finished.count + this.held.count, dead: this.dead.count + this.heldDead.count };
  }

  /** Nothing would be lost with it but its totals. */
  get unused(): boolean {
    return (
      this.kindCount === 0 && this.workers.length === 0 && !this.paused && this.retention === this.#defaultRetention
    );
  }

  /** The highest priority that has a ready task, or -1. */
  get topPriority(): number {
    return 31 - Math.clz32(this.#occupied);
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
      this.#occupied |= 1 << priority;
    } else this.#table.set(tail, NEXT, slot);
    this.#tails[priority] = slot;
    this.ready++;
  }

  pushFront(slot: number, priority: number): void {
    const head = this.#heads[priority];
    this.#table.set(slot, NEXT, head);
    this.#table.set(slot, PREV, NONE);
    if (head === NONE) {
      this.#tails[priority] = slot;
      this.#occupied |= 1 << priority;
    } else this.#table.set(head, PREV, slot);
    this.#heads[priority] = slot;
    this.ready++;
  }

  /** Takes the head of a list whose head it is: `next` is its NEXT word. */
  shift(priority: number, next: number): void {
    this.#heads[priority] = next;
    if (next === NONE) {
      this.#tails[priority] = NONE;
      this.#occupied &= ~(1 << priority);
    } else this.#table.set(next, PREV, NONE);
    this.ready--;
  }

  remove(slot: number, priority: number): void {
    const next = this.#table.get(slot, NEXT);
    const prev = this.#table.get(slot, PREV);
    if (prev === NONE) this.#heads[priority] = next;
    else this.#table.set(prev, NEXT, next);
    if (next === NONE) this.#tails[priority] = prev;
    else this.#table.set(next, PREV, prev);
    if (this.#heads[priority] === NONE) this.#occupied &= ~(1 << priority);
    this.ready--;
  }
}
