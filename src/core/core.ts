import { invariant } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { Assignments } from './assignments.ts';
import type { CoreCounters, CoreEffects, FailureOutcome, PayloadReader } from './effects.ts';
import { Ended } from './ended.ts';
import { type Failure, Failures } from './failures.ts';
import { IdIndex } from './id-index.ts';
import type { Kind, KindSpec } from './kind.ts';
import { Kinds } from './kinds.ts';
import { Producers } from './producers.ts';
import type { Queue, RetentionPolicy } from './queue.ts';
import { Queues } from './queues.ts';
import { DroppedReferences } from './references.ts';
import { type NewRelations, Relations, type RelationsOf } from './relations.ts';
import { Schedules } from './schedules.ts';
import { Sequences } from './sequences.ts';
import {
  FLAG_CANCEL_REQUESTED,
  FLAG_DEFERRED,
  FLAG_FAILURES,
  FLAG_LOST,
  FLAG_RELATED,
  FLAG_SUSPECT,
  FLAG_WALL,
  FLAG_WATCHED,
  KIND_MASK,
  KIND_STATE,
  NEXT,
  NONE,
  OFFSET,
  SEGMENT_ATTEMPTS,
  STATE_MASK,
  STATE_SHIFT,
  State,
  TaskTable,
  timeTicks,
} from './task-table.ts';
import { Timers } from './timers.ts';
import type { CoreWatcher } from './watcher.ts';
import type { CoreWorker } from './worker.ts';

/** Tasks of one kind and time that were enqueued together; their bytes (u32 length, bytes, each) were checked before. */
export interface EnqueuedSection {
  /** The others follow on. */
  readonly firstId: number;
  readonly count: number;
  readonly enqueuedAtMs: number;
  readonly bytes: Uint8Array;
  /** Where the first task's bytes begin in `bytes`, and in the segment. */
  readonly start: number;
  readonly segment: number;
  readonly offset: number;
  /** 0: ready now. */
  readonly dueMs: number;
  /** Whether `dueMs` is wall time. */
  readonly wall: boolean;
}

const STATE_CLEARED = ~(STATE_MASK << STATE_SHIFT);

/**
 * The queue as a deterministic state machine. The owner journals what happens and calls the matching method; the same
 * methods replay the journal. Nothing here reads a clock, a file or randomness.
 *
 * Payloads, results and errors stay in the journal: the core keeps where they lie (a segment tag of 16 bits and a byte
 * offset, meaningless to it) and tells the owner when it takes or drops a reference.
 *
 *   enqueue ─► scheduled ──due──► ready ──take──► active ──complete──► completed ─┐
 *                  ▲                ▲               │ fail                         ├─ retention ─► forgotten
 *                  └── backoff ─────┴──── release ──┤                              │
 *                                   ▲               ├─ attempts used ─► dead ──────┤
 *                                   └── retry ──────┼──────────────────── ┘        │
 *                                                   └─ cancel ─► cancelled ────────┘
 *
 * A core begins loading: ready tasks are counted but not listed. `loaded` lists them in the order of their ids, whatever
 * the order in which the journal had them.
 */
export class Core {
  readonly table = new TaskTable();
  readonly ids = new Sequences();
  readonly #kinds = new Kinds();
  readonly assignments: Assignments;
  readonly index = new IdIndex();
  readonly queues: Queues;
  readonly producers = new Producers({
    producersMax: LIMITS.producersMax,
    batchesMax: LIMITS.unconfirmedBatchesMax * 2,
    allBatchesMax: LIMITS.rememberedBatchesMax,
    existingMax: LIMITS.rememberedExistingMax,
    idleMs: LIMITS.producerIdleMs,
  });
  readonly schedules = new Schedules();
  /** Of scheduled tasks. */
  readonly timers = new Timers(this.table);
  /** Since this process started. */
  readonly counters: CoreCounters = { enqueued: 0, completed: 0, failed: 0 };

  /** Set while somebody wants to know. */
  watcher: CoreWatcher | undefined;

  readonly relations = new Relations({
    slotOf: (id) => this.index.get(id),
    stateOf: (slot) => this.table.state(slot),
    queueOf: (slot) => this.kindOf(slot).spec.queue,
    related: (slot) => this.table.setFlag(slot, FLAG_RELATED),
    block: (slot) => this.#block(slot),
    unblock: (slot, dueMs, atMs) => this.#unblock(slot, dueMs, atMs),
    cancel: (slot, atMs) => this.cancel(slot, atMs),
    hold: (slot) => this.ended.hold(slot),
    letGo: (slot) => this.#letGo(slot),
  });
  readonly #dropped = new DroppedReferences((segment, delta) => this.#effects.referenced(segment, delta));
  readonly ended = new Ended(
    this.table,
    this.#dropped,
    (slot) => this.kindOf(slot),
    (slot, queue) => this.#evict(slot, queue),
  );

  readonly #effects: CoreEffects;
  readonly #failures = new Failures();
  #loading = true;
  /** Ends of attempts until one is sampled again, and from the last sample to that one. */
  #untilSample = 1;
  #sampledFrom = 1;

  constructor(options: { effects: CoreEffects; retention: RetentionPolicy; graceMs: number }) {
    this.#effects = options.effects;
    this.assignments = new Assignments(this.table, this.#kinds, {
      graceMs: options.graceMs,
      startedAfter: (ms, count) => options.effects.startedAfter(ms, count),
    });
    this.queues = new Queues(this.table, this.assignments, {
      retention: options.retention,
      isLoading: () => this.#loading,
    });
  }

  // ── Queues and kinds ──────────────────────────────────────────────────────────────────────────────────────────────

  /** The queue, made if it is new. Throws QUEUE_FULL, like `Queues.open`. */
  queue(name: string): Queue {
    return this.queues.open(name);
  }

  get kindCount(): number {
    return this.#kinds.count;
  }

  knownKind(key: string): Kind | undefined {
    return this.#kinds.known(key);
  }

  /** Interns a spec that is not known yet. Throws QUEUE_FULL when there are too many kinds or queues, like `queue`. */
  addKind(key: string, packed: Uint8Array, spec: KindSpec): Kind {
    if (!this.#loading) this.#kinds.checkRoom();
    return this.#kinds.add(key, packed, spec, this.queue(spec.queue));
  }

  kindOf(slot: number): Kind {
    return this.#kinds.at(this.table.kind(slot));
  }

  dropKindIfUnused(kind: Kind): void {
    this.#kinds.dropIfUnused(kind);
  }

  // ── Enqueue ───────────────────────────────────────────────────────────────────────────────────────────────────────

  enqueue(kind: Kind, section: EnqueuedSection): void {
    const { firstId, count, enqueuedAtMs, bytes, start, segment, offset, dueMs, wall } = section;
    const { table, index } = this;
    const { queue, group } = kind;
    const { priority } = kind.spec;
    const ticks = timeTicks(enqueuedAtMs);
    const ready = dueMs === 0;
    const kindState = kind.index | ((ready ? State.READY : State.SCHEDULED) << STATE_SHIFT);
    const listed = ready && !this.#loading;
    const timers = this.timers.heap(wall);
    const shift = offset - start;
    let position = start;
    for (let i = 0; i < count; i++) {
      const slot = table.allocate();
      const id = firstId + i;
      index.set(id, slot);
      table.setIdAndTime(slot, id, ticks);
      const words = table.words(slot);
      const at = table.at(slot);
      words[at + OFFSET] = position + shift;
      words[at + SEGMENT_ATTEMPTS] = segment << 16;
      words[at + KIND_STATE] = kindState;
      if (listed) queue.pushBack(slot, group, priority);
      else if (!ready) {
        words[at + KIND_STATE] = kindState | FLAG_DEFERRED | (wall ? FLAG_WALL : 0);
        timers.push(slot, dueMs);
      }
      // The top bit of a length is a flag of its owner's.
      const top = bytes[position + 3] & 0x7f;
      position += 4 + (bytes[position] | (bytes[position + 1] << 8) | (bytes[position + 2] << 16) | (top << 24));
    }
    if (!ready) queue.scheduled += count;
    else if (!listed) queue.ready += count;
    else this.queues.mark(queue);
    kind.taskCount += count;
    queue.totals.enqueued += count;
    this.counters.enqueued += count;
    this.#effects.referenced(segment, count);
    if (this.watcher !== undefined) this.watcher.enqueued(kind, firstId, count, enqueuedAtMs);
  }

  /** Tasks that were just enqueued, all together, depend on others or have unique keys. */
  relate(tasks: readonly NewRelations[], atMs: number): void {
    for (const { id, edges, unique } of tasks) {
      if (edges.length > 0 || unique !== undefined) this.table.setFlag(this.index.get(id), FLAG_RELATED);
    }
    this.relations.relate(tasks, atMs);
    this.#dropped.report();
  }

  #block(slot: number): number {
    const kind = this.kindOf(slot);
    const dueMs = this.table.state(slot) === State.SCHEDULED ? this.dueMs(slot) : 0;
    this.#leave(slot, kind.queue, kind, 0);
    this.table.setState(slot, State.BLOCKED);
    this.table.setFlag(slot, FLAG_DEFERRED);
    kind.queue.blocked++;
    return dueMs;
  }

  #letGo(slot: number): void {
    if (this.ended.letGo(slot)) this.#trim(this.kindOf(slot).queue, this.table.state(slot) === State.DEAD);
  }

  /** A moment of the wall clock may be over already; the timer sees. */
  #unblock(slot: number, dueMs: number, atMs: number): void {
    const kind = this.kindOf(slot);
    kind.queue.blocked--;
    if (dueMs > atMs || this.table.hasFlag(slot, FLAG_WALL)) this.#schedule(slot, kind.queue, dueMs);
    else this.#becomeReady(slot, kind, false);
  }

  // ── Delivery ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The token of the first task of the last `take`; the others follow on. */
  firstToken = 0;
  /** What the tasks of the last `take` have in the journal: payloads, headers and their lengths. */
  takenBytes = 0;
  /** The last `take` stopped at a task whose bytes are not in memory. */
  missing = NONE;

  /**
   * Leases up to `countMax` ready tasks with up to `bytesMax` of payload (one at least) to the worker, highest priority
   * first, and writes their slots to `out`. Stops at a task whose bytes are not in memory.
   */
  take(
    worker: CoreWorker,
    queue: Queue,
    countMax: number,
    bytesMax: number,
    reader: PayloadReader,
    nowMs: number,
    out: Uint32Array,
  ): number {
    const { table, assignments } = this;
    const { epoch } = this.ids;
    let token = this.ids.nextToken;
    this.firstToken = this.ids.token(token);
    this.missing = NONE;
    let count = 0;
    let bytes = 0;
    worker.account(nowMs);
    const { rotation } = queue;
    const most = queue.limits === undefined ? countMax : Math.min(countMax, queue.allowance(nowMs));
    while (count < most) {
      const group = rotation === undefined ? queue.plain : rotation.next();
      if (group === undefined) break;
      const { lists } = group;
      const priority = rotation === undefined ? lists.topPriority : rotation.priority;
      if (priority < 0) break;
      const slot = lists.head(priority);
      const words = table.words(slot);
      const at = table.at(slot);
      const length = reader.lengthAt(words[at + SEGMENT_ATTEMPTS] >>> 16, words[at + OFFSET]);
      if (length < 0) {
        this.missing = slot;
        break;
      }
      if (bytes + length > bytesMax && count > 0) break;
      bytes += length;
      lists.shift(priority, words[at + NEXT]);
      if (rotation !== undefined) {
        group.active++;
        rotation.taken(group);
      }
      words[at + NEXT] = assignments.add(worker, slot, epoch, token++);
      words[at + KIND_STATE] = (words[at + KIND_STATE] & STATE_CLEARED) | (State.ACTIVE << STATE_SHIFT);
      out[count++] = slot;
    }
    this.takenBytes = bytes;
    this.ids.useTokens(count);
    queue.active += count;
    queue.ready -= count;
    this.queues.spend(queue, count);
    if (count > 0) assignments.touch(worker);
    return count;
  }

  /**
   * Gives a task that is ready, or set aside, back to a worker that still runs it, also beyond its prefetch; undefined when
   * the task has gone on without it: then its attempt is over, whoever made it. `charged`: losing the worker had counted as a
   * failed attempt, which the owner takes back with `uncharge`.
   */
  resume(
    worker: CoreWorker,
    id: number,
    attempt: number | undefined,
    nowMs: number,
  ): { token: number; charged: boolean } | undefined {
    const slot = this.index.get(id);
    if (slot === NONE) return undefined;
    const kind = this.kindOf(slot);
    const state = this.table.state(slot);
    const next = this.table.attempts(slot) + 1;
    // What is set aside was not charged: a charge that it carries is for a worker that was lost before.
    const charged = state === State.READY && attempt !== next && this.table.hasFlag(slot, FLAG_LOST);
    const isOver = attempt !== undefined && attempt !== (charged ? next - 1 : next);
    if (isOver || !worker.queues.includes(kind.queue)) return undefined;
    if (state === State.READY) {
      kind.queue.remove(slot, kind.group, kind.spec.priority);
      kind.queue.active++;
      if (kind.queue.rotation !== undefined) kind.group.active++;
    } else if (state === State.ACTIVE && this.assignments.isAside(slot)) this.assignments.end(slot, nowMs);
    else return undefined;
    const tokenLow = this.ids.nextToken;
    this.ids.useTokens(1);
    worker.account(nowMs);
    this.table.set(slot, NEXT, this.assignments.add(worker, slot, this.ids.epoch, tokenLow));
    this.table.setState(slot, State.ACTIVE);
    this.assignments.touch(worker);
    return { token: this.ids.token(tokenLow), charged };
  }

  /** Takes back the failure that losing its worker was. */
  uncharge(slot: number): void {
    if (!this.table.hasFlag(slot, FLAG_LOST)) return;
    this.table.clearFlag(slot, FLAG_LOST);
    this.table.setAttempts(slot, this.table.attempts(slot) - 1);
    const segment = this.#failures.pop(slot);
    if (segment >= 0) this.#dropped.add(segment);
    const { totals } = this.kindOf(slot).queue;
    totals.failed--;
    this.#dropped.report();
  }

  // ── Settling ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The slot of a task that this worker holds under this token, or NONE: the lease is lost. */
  leased(worker: CoreWorker, id: number, token: number): number {
    const slot = this.index.get(id);
    if (slot === NONE || this.table.state(slot) !== State.ACTIVE) return NONE;
    return this.assignments.leases.holds(this.table.get(slot, NEXT), worker.index, token) ? slot : NONE;
  }

  /** `resultSegment` NONE: no result. */
  complete(slot: number, atMs: number, resultSegment: number, resultOffset: number): void {
    const kind = this.kindOf(slot);
    const { queue } = kind;
    if (--this.#untilSample <= 0) this.#sampleEnd(slot, atMs, true);
    this.#leave(slot, queue, kind, atMs);
    queue.totals.completed++;
    this.counters.completed++;
    if (resultSegment !== NONE) this.#effects.referenced(resultSegment, 1);
    this.#finish(slot, queue, State.COMPLETED, atMs, resultSegment, resultOffset);
  }

  holds(worker: CoreWorker, id: number, token: number): boolean {
    return this.leased(worker, id, token) !== NONE;
  }

  /** An attempt has failed; its error lies at (segment, offset). `lost`: with its worker, and is ready again, in front. */
  fail(slot: number, failure: Failure, outcome: FailureOutcome, dueMs: number, lost: boolean): void {
    const kind = this.kindOf(slot);
    const { queue } = kind;
    if (--this.#untilSample <= 0) this.#sampleEnd(slot, failure.atMs, false);
    this.#leave(slot, queue, kind, failure.atMs);
    queue.totals.failed++;
    this.counters.failed++;
    this.table.setAttempts(slot, failure.attempt);
    if (lost) this.table.setFlag(slot, FLAG_LOST | FLAG_SUSPECT);
    else this.table.clearFlag(slot, FLAG_LOST | FLAG_SUSPECT);
    this.addFailure(slot, failure);
    if (outcome === 'retry') {
      if (dueMs <= failure.atMs) this.#becomeReady(slot, kind, lost);
      else this.#schedule(slot, queue, dueMs);
    } else if (outcome === 'dead') {
      queue.totals.dead++;
      this.#finish(slot, queue, State.DEAD, failure.atMs, NONE, 0);
    } else {
      queue.totals.cancelled++;
      this.#finish(slot, queue, State.CANCELLED, failure.atMs, NONE, 0);
    }
    this.#dropped.report();
  }

  /** While the task still has its worker. */
  #sampleEnd(slot: number, atMs: number, completed: boolean): void {
    const count = this.#sampledFrom;
    this.#untilSample = this.#sampledFrom = this.assignments.sampling.next(atMs);
    if (this.#loading || this.table.state(slot) !== State.ACTIVE) return;
    const ranForMs = this.assignments.ranForMs(slot, atMs);
    this.#effects.ranFor(ranForMs ?? 0, count);
    if (this.table.hasFlag(slot, FLAG_DEFERRED)) return;
    const sinceEnqueueMs = atMs - this.table.enqueuedAtMs(slot);
    // Of what begins and ends at once, only the end is told.
    if (ranForMs === undefined && this.table.attempts(slot) === 0) this.#effects.startedAfter(sinceEnqueueMs, count);
    if (completed) this.#effects.completedAfter(sinceEnqueueMs, count);
  }

  addFailure(slot: number, failure: Failure): void {
    const dropped = this.#failures.add(slot, failure);
    if (dropped >= 0) this.#dropped.add(dropped);
    this.table.setFlag(slot, FLAG_FAILURES);
    this.#effects.referenced(failure.segment, 1);
  }

  /** Failed attempts, oldest first, the last LIMITS.attemptsKeptMax. */
  failures(slot: number): Failure[] {
    return this.table.hasFlag(slot, FLAG_FAILURES) ? this.#failures.get(slot) : [];
  }

  /** Hands an active task back, uncharged and first in its list. `suspect`: it may be why its worker is gone. */
  release(slot: number, nowMs: number, suspect = false): void {
    const kind = this.kindOf(slot);
    if (suspect) this.table.setFlag(slot, FLAG_SUSPECT);
    this.#leave(slot, kind.queue, kind, nowMs);
    this.#becomeReady(slot, kind, true);
  }

  /** A waiting task is cancelled at once; of an active one it is requested, and its worker told. */
  cancel(slot: number, atMs: number): void {
    const kind = this.kindOf(slot);
    this.watcher?.cancelled(slot);
    this.#leave(slot, kind.queue, kind, atMs);
    kind.queue.totals.cancelled++;
    this.#finish(slot, kind.queue, State.CANCELLED, atMs, NONE, 0);
    this.#dropped.report();
  }

  requestCancel(slot: number): void {
    this.table.setFlag(slot, FLAG_CANCEL_REQUESTED);
    if (this.table.state(slot) !== State.ACTIVE) return;
    const { worker, token } = this.assignments.of(slot);
    this.#effects.revoked(worker, this.table.id(slot), token, 'cancelled');
  }

  /** A dead or scheduled task becomes ready; a dead one with fresh attempts. */
  retry(slot: number, atMs: number): void {
    const kind = this.kindOf(slot);
    const wasDead = this.table.state(slot) === State.DEAD;
    if (wasDead) this.table.setAttempts(slot, 0);
    this.table.clearFlag(slot, FLAG_LOST);
    this.table.setFlag(slot, FLAG_DEFERRED);
    this.#leave(slot, kind.queue, kind, atMs);
    this.#becomeReady(slot, kind, false);
    if (wasDead && this.table.hasFlag(slot, FLAG_RELATED)) this.relations.reopened(this.table.id(slot));
  }

  /** Removes a waiting task without a trace, unless others depend on it: these see that it was cancelled. */
  purge(slot: number, atMs: number): void {
    const kind = this.kindOf(slot);
    const id = this.table.id(slot);
    if (this.table.hasFlag(slot, FLAG_RELATED)) {
      if (this.relations.hasChildren(id)) {
        this.cancel(slot, atMs);
        return;
      }
      this.relations.ended(id, State.CANCELLED, atMs);
    }
    this.watcher?.cancelled(slot);
    this.#leave(slot, kind.queue, kind, atMs);
    kind.queue.totals.cancelled++;
    if (this.table.hasFlag(slot, FLAG_WATCHED)) this.#effects.finished(id, slot, State.CANCELLED);
    this.#forget(slot);
    this.#dropped.report();
  }

  watch(slot: number): void {
    this.table.setFlag(slot, FLAG_WATCHED);
  }

  cancelRequested(slot: number): boolean {
    return this.table.hasFlag(slot, FLAG_CANCEL_REQUESTED);
  }

  /** Who has the task under this token. */
  holder(id: number, token: number): CoreWorker | undefined {
    const slot = this.index.get(id);
    if (slot === NONE || this.table.state(slot) !== State.ACTIVE) return undefined;
    const lease = this.assignments.of(slot);
    return lease.token === token ? lease.worker : undefined;
  }

  // ── Time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** When `tick` or a schedule next has something to do, as (steady, wall) times; Infinity for none. */
  nextSteadyMs(): number {
    return Math.min(this.timers.nextSteadyMs, this.assignments.nextDeadlineMs(), this.queues.nextPacedMs());
  }

  nextWallMs(): number {
    return Math.min(this.timers.nextWallMs, this.schedules.nextMs);
  }

  /** Makes what is due ready, `countMax` tasks at most; returns whether more is due. */
  tick(steadyMs: number, wallMs: number, countMax: number): boolean {
    this.queues.markPaced(steadyMs);
    for (let left = countMax; left > 0; left--) {
      const slot = this.timers.pop(steadyMs, wallMs);
      if (slot === NONE) return false;
      const kind = this.kindOf(slot);
      kind.queue.scheduled--;
      this.#becomeReady(slot, kind, false);
    }
    return true;
  }

  dueMs(slot: number): number {
    return this.timers.dueMs(slot);
  }

  /** Forgets finished tasks that are older than their queue keeps them, `countMax` at most. */
  expire(steadyMs: number, countMax: number): void {
    this.ended.expire(this.queues.values(), steadyMs, countMax);
    this.relations.expire(steadyMs, countMax);
    this.#dropped.report();
    this.producers.expire(steadyMs);
  }

  // ── Loading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  get loading(): boolean {
    return this.#loading;
  }

  /**
   * The journal has been replayed: lists what is ready, in the order of ids. Returns the slots of those whose cancelling
   * was asked for while they ran: their workers went with the server, and the owner cancels them.
   */
  loaded(atMs: number): number[] {
    this.#loading = false;
    this.index.loaded();
    for (const queue of this.queues.values()) queue.ready = 0;
    const cancelled: number[] = [];
    this.index.scan(0, (_id, slot) => {
      if (this.table.state(slot) === State.READY) {
        const kind = this.kindOf(slot);
        kind.queue.pushBack(slot, kind.group, kind.spec.priority);
        if (this.table.hasFlag(slot, FLAG_CANCEL_REQUESTED)) cancelled.push(slot);
      }
      return true;
    });
    for (const queue of this.queues.values()) {
      queue.finished.sort();
      queue.dead.sort();
      this.enforceRetention(queue);
    }
    this.relations.loaded(atMs);
    this.counters.enqueued = 0;
    this.counters.completed = 0;
    this.counters.failed = 0;
    return cancelled;
  }

  /**
   * A task as it stands, copied forward from a segment that is to be given up; replaces what is known of it. `atMs` is
   * the due time of a scheduled task and the end of a finished one.
   */
  restore(task: {
    kind: Kind;
    id: number;
    state: State;
    flags: number;
    attempts: number;
    enqueuedAtMs: number;
    atMs: number;
    segment: number;
    offset: number;
    result: { segment: number; offset: number } | undefined;
    failures: Failure[];
    relations: RelationsOf | undefined;
  }): void {
    invariant(this.#loading, 'a task is restored only while loading');
    // First, so that the kind does not go with the task that is replaced.
    task.kind.taskCount++;
    const known = this.index.get(task.id);
    if (known !== NONE) {
      const kind = this.kindOf(known);
      this.#leave(known, kind.queue, kind, task.atMs);
      this.#forget(known);
    }
    const { queue } = task.kind;
    const slot = this.table.allocate();
    this.index.set(task.id, slot);
    this.table.setIdAndTime(slot, task.id, timeTicks(task.enqueuedAtMs));
    this.table.set(slot, OFFSET, task.offset);
    this.table.set(slot, SEGMENT_ATTEMPTS, (task.segment << 16) | task.attempts);
    const isRelated = task.relations !== undefined || this.relations.hasChildren(task.id);
    const flags = isRelated ? task.flags | FLAG_RELATED : task.flags & ~FLAG_RELATED;
    this.table.set(slot, KIND_STATE, (task.kind.index & KIND_MASK) | flags);
    this.#effects.referenced(task.segment, 1);
    for (const failure of task.failures) this.addFailure(slot, failure);
    if (task.state === State.SCHEDULED) this.#schedule(slot, queue, task.atMs);
    else if (task.state === State.READY) {
      this.table.setState(slot, State.READY);
      queue.ready++;
    } else if (task.state === State.BLOCKED) {
      this.table.setState(slot, State.BLOCKED);
      queue.blocked++;
    } else {
      // Before it ends, so that those see it who hold it.
      if (task.relations !== undefined) this.relations.restore(slot, task.id, task.relations, task.atMs);
      if (task.result !== undefined) this.#effects.referenced(task.result.segment, 1);
      this.#finish(slot, queue, task.state, task.atMs, task.result?.segment ?? NONE, task.result?.offset ?? 0);
    }
    if (task.relations !== undefined && task.state < State.COMPLETED) {
      this.relations.restore(slot, task.id, task.relations, task.enqueuedAtMs);
    }
    this.#dropped.report();
  }

  /** Points a task at the copies of its bytes. */
  relocate(
    slot: number,
    payload: { segment: number; offset: number },
    result: { segment: number; offset: number } | undefined,
    failures: readonly { segment: number; offset: number }[],
  ): void {
    this.#dropped.add(this.table.segment(slot));
    this.table.setPayload(slot, payload.segment, payload.offset);
    this.#effects.referenced(payload.segment, 1);
    if (result !== undefined) {
      const history = this.ended.historyOf(slot);
      this.#dropped.add(history.resultSegment(slot));
      history.setResult(slot, result.segment, result.offset);
      this.#effects.referenced(result.segment, 1);
    }
    for (const failure of this.failures(slot)) this.#dropped.add(failure.segment);
    for (const place of failures) this.#effects.referenced(place.segment, 1);
    this.#failures.relocate(slot, failures);
    this.#dropped.report();
  }

  // ── Transitions ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes the task out of whatever its state keeps it in. */
  #leave(slot: number, queue: Queue, kind: Kind, nowMs: number): void {
    const state = this.table.state(slot);
    switch (state) {
      case State.ACTIVE:
        this.assignments.end(slot, nowMs);
        queue.active--;
        if (queue.rotation !== undefined || queue.limits !== undefined) this.#freed(kind);
        break;
      case State.READY:
        if (this.#loading) queue.ready--;
        else queue.remove(slot, kind.group, kind.spec.priority);
        break;
      case State.SCHEDULED:
        this.timers.remove(slot);
        queue.scheduled--;
        break;
      case State.COMPLETED:
      case State.CANCELLED:
        this.ended.remove(slot, queue, false);
        if (state === State.CANCELLED) queue.cancelledKept--;
        break;
      case State.DEAD:
        this.ended.remove(slot, queue, true);
        break;
      case State.BLOCKED:
        queue.blocked--;
        break;
      case State.FREE:
        invariant(false, `a task cannot leave state ${state}`);
        break;
      default:
        state satisfies never;
    }
  }

  /** A task of a queue with limits is with its worker no more: another may be. */
  #freed({ queue, group }: Kind): void {
    if (queue.rotation !== undefined) {
      group.active--;
      queue.rotation.enlist(group);
    }
    this.queues.mark(queue);
  }

  #becomeReady(slot: number, kind: Kind, front: boolean): void {
    this.table.setState(slot, State.READY);
    const { queue } = kind;
    if (this.#loading) {
      queue.ready++;
      return;
    }
    if (front) queue.pushFront(slot, kind.group, kind.spec.priority);
    else queue.pushBack(slot, kind.group, kind.spec.priority);
    this.queues.mark(queue);
  }

  #schedule(slot: number, queue: Queue, dueMs: number): void {
    const wall = this.table.hasFlag(slot, FLAG_WALL) && this.table.attempts(slot) === 0;
    if (!wall) this.table.clearFlag(slot, FLAG_WALL);
    this.table.setFlag(slot, FLAG_DEFERRED);
    this.table.setState(slot, State.SCHEDULED);
    this.timers.push(slot, dueMs);
    queue.scheduled++;
  }

  #finish(slot: number, queue: Queue, state: State, atMs: number, resultSegment: number, resultOffset: number): void {
    this.table.setState(slot, state);
    const dead = state === State.DEAD;
    const related = this.table.hasFlag(slot, FLAG_RELATED);
    if (related && this.relations.isHeld(this.table.id(slot), atMs)) this.ended.markHeld(slot);
    const history = related ? this.ended.historyOf(slot) : dead ? queue.dead : queue.finished;
    history.push(slot, atMs, resultSegment, resultOffset);
    if (state === State.CANCELLED) queue.cancelledKept++;
    if (this.table.hasFlag(slot, FLAG_WATCHED)) {
      this.table.clearFlag(slot, FLAG_WATCHED);
      this.#effects.finished(this.table.id(slot), slot, state);
    }
    if (related) this.relations.ended(this.table.id(slot), state, atMs);
    this.#trim(queue, dead);
  }

  /**
   * While loading, copies stand behind those that died later: the one that went first would now be another, and a record
   * that follows may retry it.
   */
  #trim(queue: Queue, dead: boolean): void {
    if (!dead || !this.#loading) this.ended.trim(queue, dead);
  }

  /** Applies a queue's retention after it was lowered. */
  enforceRetention(queue: Queue): void {
    this.#trim(queue, false);
    this.#trim(queue, true);
    this.#dropped.report();
  }

  #evict(slot: number, queue: Queue): void {
    this.#leave(slot, queue, this.kindOf(slot), 0);
    this.#forget(slot);
  }

  #forget(slot: number): void {
    const { table } = this;
    this.#dropped.add(table.segment(slot));
    if (table.hasFlag(slot, FLAG_FAILURES)) {
      for (const failure of this.#failures.get(slot)) this.#dropped.add(failure.segment);
      this.#failures.delete(slot);
    }
    if (table.hasFlag(slot, FLAG_RELATED)) this.relations.forget(table.id(slot));
    this.index.delete(table.id(slot));
    const kind = this.kindOf(slot);
    if (--kind.taskCount === 0) this.dropKindIfUnused(kind);
    table.free(slot);
  }

  /** The owner calls it after a run of completions; every other method does so itself. */
  reportDropped(): void {
    this.#dropped.report();
  }
}
