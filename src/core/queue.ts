import type { QueueLimits } from '../limits.ts';
import { History } from './history.ts';
import { KeyGroup, KeyRotation } from './key-rotation.ts';
import type { ReadyLists } from './ready-lists.ts';
import type { TaskTable } from './task-table.ts';
import { type Rate, TokenBucket } from './token-bucket.ts';
import type { CoreWorker } from './worker.ts';

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

/** A queue: its ready tasks, its finished ones, its limits, and who listens. */
export class Queue {
  readonly name: string;
  readonly #table: TaskTable;
  readonly #defaultRetention: RetentionPolicy;
  /** Ready tasks without a concurrency key; for most queues all. */
  readonly plain: KeyGroup;
  readonly #groups = new Map<string, KeyGroup>();
  /** While there are tasks with keys. */
  rotation: KeyRotation | undefined;
  /** Replaced as a whole when someone sets them. */
  limits: QueueLimits | undefined;
  bucket: TokenBucket | undefined;
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
    this.plain = new KeyGroup('', table);
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
      this.kindCount === 0 &&
      this.workers.length === 0 &&
      !this.paused &&
      this.limits === undefined &&
      this.retention === this.#defaultRetention
    );
  }

  // ── Ready tasks ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The group of a key, made if it is new; '' is none. */
  group(key: string): KeyGroup {
    if (key === '') return this.plain;
    let group = this.#groups.get(key);
    if (group !== undefined) return group;
    group = new KeyGroup(key, this.#table);
    this.#groups.set(key, group);
    if (this.rotation === undefined) {
      this.rotation = new KeyRotation();
      this.rotation.activeMax = this.limits?.concurrencyPerKey ?? Number.POSITIVE_INFINITY;
      this.rotation.enlist(this.plain);
    }
    return group;
  }

  dropGroup(group: KeyGroup): void {
    this.#groups.delete(group.key);
    if (this.#groups.size > 0 || group === this.plain) return;
    this.rotation = undefined;
    this.plain.rounds = 0;
  }

  pushBack(slot: number, group: KeyGroup, priority: number): void {
    group.lists.pushBack(slot, priority);
    this.ready++;
    this.rotation?.enlist(group);
  }

  pushFront(slot: number, group: KeyGroup, priority: number): void {
    group.lists.pushFront(slot, priority);
    this.ready++;
    this.rotation?.enlist(group);
  }

  remove(slot: number, group: KeyGroup, priority: number): void {
    group.lists.remove(slot, priority);
    this.ready--;
  }

  /** Of all groups. */
  *readyLists(): Iterable<ReadyLists> {
    yield this.plain.lists;
    for (const { lists } of this.#groups.values()) yield lists;
  }

  // ── Limits ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Tasks that have not ended. */
  get length(): number {
    return this.ready + this.active + this.scheduled + this.blocked;
  }

  /** How many new tasks it takes. */
  get room(): number {
    const lengthMax = this.limits?.length ?? null;
    return lengthMax === null ? Number.POSITIVE_INFINITY : Math.max(0, lengthMax - this.length);
  }

  setLimits(limits: QueueLimits | undefined, nowMs: number): void {
    this.limits = limits;
    // A bucket that goes on with the same rate is not filled again.
    if (limits?.rate === null || limits === undefined) this.bucket = undefined;
    else if (this.bucket === undefined || !isSameRate(this.bucket.rate, limits.rate)) {
      this.bucket = new TokenBucket(limits.rate, nowMs);
    }
    if (this.rotation === undefined) return;
    this.rotation.activeMax = limits?.concurrencyPerKey ?? Number.POSITIVE_INFINITY;
    for (const group of this.#groups.values()) this.rotation.enlist(group);
  }

  /** How many tasks may be handed out now. */
  allowance(nowMs: number): number {
    const { limits, bucket } = this;
    const free = Math.max(0, (limits?.concurrency ?? Number.POSITIVE_INFINITY) - this.active);
    return bucket === undefined ? free : Math.min(free, bucket.available(nowMs));
  }
}

function isSameRate(a: Rate, b: Rate): boolean {
  return a.count === b.count && a.periodMs === b.periodMs && a.burst === b.burst;
}
