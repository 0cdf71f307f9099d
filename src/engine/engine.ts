import { Core } from '../core/core.ts';
import type { Kind } from '../core/kind.ts';
import type { Existing } from '../core/producers.ts';
import type { RetentionPolicy } from '../core/queue.ts';
import { NONE, State } from '../core/task-table.ts';
import type { CoreWorker } from '../core/worker.ts';
import { MillraceError } from '../errors.ts';
import { type Clock, settlesWithin, type Timer } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import type { Random } from '../io/random.ts';
import { type FsyncPolicy, Journal, type OpenReport } from '../journal/journal.ts';
import { LIMITS } from '../limits.ts';
import { checkTasks, EnqueueReader } from '../protocol/batch.ts';
import { packTrailer, parseRelations, splitSubmission } from '../protocol/submission.ts';
import { Cleaner } from './cleaner.ts';
import { Commands } from './commands.ts';
import { type DeliveryTarget, Dispatcher } from './dispatcher.ts';
import { Events } from './events.ts';
import { QueueRoom } from './queue-room.ts';
import { describeRecord, ENQUEUE_HEAD_BYTES, packEnqueueHead, RECORD } from './records.ts';
import { Replay } from './replay.ts';
import { Scheduler } from './scheduler.ts';
import { type KeptOutcome, SegmentReader, type StoredOutcome } from './segment-reader.ts';
import { Settlements } from './settlements.ts';
import { applyEnqueue, kindOfSpec, packState } from './state.ts';
import { Stats } from './stats.ts';
import { applySubmission, planSubmission, type Shape, shapeOf } from './submissions.ts';
import { TaskLogs } from './task-logs.ts';
import { Turns } from './turns.ts';
import { Unreadable } from './unreadable.ts';
import { Waiters, type Waiting } from './waiters.ts';

/**
 * Core and journal bound together: what the server and an embedded queue both are. Every change is appended to the
 * journal, then applied; answers wait until `durableSequence` has passed the `appendedSequence` they were given under,
 * deliveries do not.
 *
 *   open ─► running ──stop──► stopping (no deliveries) ──close──► closed
 *              └── a write or sync fails ──► failed (nothing is confirmed any more)
 */
export interface EngineOptions {
  /** null: nothing is kept. */
  directory: string | null;
  fsync: FsyncPolicy;
  fsyncIntervalMs: number;
  segmentBytes: number;
  cacheBytes: number;
  retention: RetentionPolicy;
  timeoutGraceMs: number;
  /** How long a task is kept for its worker that was lost in its last attempt. 0: it is dead at once. */
  lostGraceMs: number;
  disk: Disk;
  clock: Clock;
  random: Random;
  /** Everything up to this sequence may be confirmed. */
  onDurable: (sequence: number) => void;
  /** Storage failed: end the process, or the embedding client. */
  onFailure: (error: MillraceError) => void;
  /** Something that an operator should know; one line. */
  onNotice: (level: 'info' | 'warn', message: string) => void;
}

export interface Confirmation {
  batch: number;
  firstId: number;
  count: number;
}

const NO_ROOM = 'the disk is full: no new tasks are taken until there is room; completions are';
const ROOM_AGAIN = 'there is room on the disk again: new tasks are taken';
const TICK_TASKS_MAX = 10_000;
const HOUSEKEEPING_MS = 1000;
const TIMER_SLACK_MS = 0.5;
const EXPIRE_TASKS_MAX = 20_000;
/** On a full disk, deliveries end while there is still room for so much of what they lead to. */
const OUTCOME_ROOM_BYTES = 256 * 1024;
/** An epoch is ended while it still has room for whatever is under way. */
const EPOCH_RESERVE = 2 ** 24;

export class Engine {
  readonly core: Core;
  readonly journal: Journal;
  readonly reader: SegmentReader;
  readonly commands: Commands;
  readonly settlements: Settlements;
  readonly scheduler: Scheduler;
  readonly stats = new Stats();
  readonly logs = new TaskLogs();
  readonly waiters: Waiters;
  readonly events: Events;
  /** For what takes long, or is asked for in any amount. */
  readonly turns: Turns;
  readonly clock: Clock;
  readonly startedAtMs: number;
  readonly #onFailure: (error: MillraceError) => void;
  readonly #dispatcher: Dispatcher;
  readonly #cleaner: Cleaner;
  readonly #unreadable: Unreadable;
  readonly #enqueues = new EnqueueReader();
  readonly #newKinds: Kind[] = [];
  readonly #queueRoom = new QueueRoom();
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #housekeeping: Timer | undefined;
  #dispatchDeferred = false;
  /** Deliveries wait for the disk. */
  #heldBack = false;
  #stopping = false;
  #closed = false;
  #advancingEpoch = false;
  #failure: MillraceError | undefined;
  #totalsDue = false;

  static async open(options: EngineOptions): Promise<{ engine: Engine; report: OpenReport }> {
    const { clock } = options;
    const reader = new SegmentReader();
    const waiters = new Waiters();
    // Core and journal need each other before there is an engine: the journal is opened by replaying it into the core.
    let engine: Engine | undefined;
    let references: Journal | undefined;
    const core = new Core({
      retention: options.retention,
      graceMs: options.timeoutGraceMs,
      effects: {
        referenced: (tag, delta) => {
          if (delta > 0) references?.retain(reader.full(tag), delta);
          else references?.release(reader.full(tag), -delta);
          reader.references += delta;
        },
        finished: (id, slot, state) => waiters.finished(id, reader.outcome(core, slot, state)),
        revoked: (worker, id, token, reason) => engine?.revoke(worker, id, token, reason),
        startedAfter: (ms, count) => engine?.stats.startedAfter(ms, count),
        completedAfter: (ms, count) => engine?.stats.completedAfter(ms, count),
        ranFor: (ms, count) => engine?.stats.taskRun.record(ms, count),
      },
    });
    const replay = new Replay(core, reader);
    const { journal, report } = await Journal.open(
      {
        directory: options.directory,
        disk: options.disk,
        clock,
        fsync: options.fsync,
        fsyncIntervalMs: options.fsyncIntervalMs,
        segmentBytes: options.segmentBytes,
        cacheBytes: options.cacheBytes,
        describe: describeRecord,
        segmentState: () => packState(core),
        onEmptied: () => engine?.emptied(),
        onDurable: (sequence) => {
          options.onDurable(sequence);
          engine?.durable();
        },
        onFailure: (error) => engine?.fail(error),
        onRoom: (hasRoom) => {
          options.onNotice(hasRoom ? 'info' : 'warn', hasRoom ? ROOM_AGAIN : NO_ROOM);
          engine?.durable();
        },
      },
      (record, opening) => {
        references = opening;
        replay.apply(record);
      },
    );
    references = journal;
    reader.journal = journal;
    core.ids.begin(journal.epoch);
    core.producers.begin(clock.steadyMs());
    engine = new Engine(options, { core, journal, reader, waiters });
    for (const slot of core.loaded(clock.steadyMs())) engine.commands.cancelNow(slot);
    engine.#housekeep();
    if (journal.asksForEmptied) engine.emptied();
    engine.#dispatchSoon();
    return { engine, report };
  }

  private constructor(
    options: EngineOptions,
    parts: { core: Core; journal: Journal; reader: SegmentReader; waiters: Waiters },
  ) {
    const { core, journal, reader, waiters } = parts;
    const { clock, random } = options;
    this.core = core;
    this.journal = journal;
    this.reader = reader;
    this.waiters = waiters;
    this.clock = clock;
    this.startedAtMs = clock.steadyMs();
    this.#onFailure = options.onFailure;
    this.turns = new Turns(clock);
    this.events = new Events(core, journal, clock);
    const { turns } = this;
    this.commands = new Commands({ core, journal, clock, turns, changed: () => this.#dispatchSoon() });
    this.settlements = new Settlements({
      core,
      journal,
      clock,
      random,
      commands: this.commands,
      events: this.events,
      reader,
      lostGraceMs: options.lostGraceMs,
    });
    this.scheduler = new Scheduler({
      core,
      journal,
      clock,
      reader,
      commands: this.commands,
      bytesMax: Math.min(LIMITS.schedulesBytesMax, options.segmentBytes / 2),
      checkRoom: (bytes, taskCount) => this.#checkRoom(bytes, taskCount),
      changed: () => this.#dispatchSoon(),
      notice: (message) => options.onNotice('warn', message),
    });
    const { settlements } = this;
    this.#unreadable = new Unreadable({
      core,
      clock,
      reader,
      settlements,
      notice: (message) => options.onNotice('warn', message),
    });
    this.#dispatcher = new Dispatcher(
      core,
      clock,
      reader,
      (queue, error, again) => this.#readFailed(error, (known) => this.#unreadable.next(queue, known, again)),
      () => this.#dispatchSoon(),
    );
    this.#cleaner = new Cleaner(core, journal, reader, (error) =>
      this.#readFailed(error, (known) => this.#unreadable.report(known)),
    );
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  /** Why nothing is confirmed any more. */
  get failure(): MillraceError | undefined {
    return this.#failure;
  }

  /** No deliveries from here on; everything else goes on until `close`. */
  stop(): void {
    this.#stopping = true;
  }

  /** Writes what is left, for a bounded time. Rejects when that was not all. Workers must be gone. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopping = true;
    this.#timer?.cancel();
    this.#housekeeping?.cancel();
    await settlesWithin(this.clock, LIMITS.closeTimeoutMs, this.#cleaner.stop());
    try {
      if (this.#failure === undefined) this.#keep();
    } finally {
      await this.journal.close();
    }
  }

  /** Nothing is confirmed any more; the owner ends what it can. */
  fail(error: MillraceError): void {
    if (this.#closed || this.#failure !== undefined) return;
    this.#failure = error;
    this.#stopping = true;
    this.#timer?.cancel();
    this.#housekeeping?.cancel();
    this.#onFailure(error);
  }

  // ── Enqueue ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes the body of an ENQUEUE frame; confirm it once the journal's `appendedSequence` of now is durable. Throws
   * DISK_FULL, QUEUE_FULL, CONFLICT, and what the readers throw; then nothing of the batch was taken now.
   */
  enqueue(producer: string, buffer: Buffer, start: number, end: number): Confirmation {
    const reader = this.#enqueues;
    reader.open(buffer, start, end);
    const { batch, lowestUnconfirmed, taskCount } = reader;
    const known = this.#findBatch(producer, batch);
    if (known >= 0) return { batch, firstId: known, count: taskCount };
    this.#checkRoom(end - start, taskCount);
    this.#checkSections(buffer);
    const nowMs = this.clock.steadyMs();
    const place = this.#place(RECORD.ENQUEUE, producer, taskCount, nowMs, start, buffer.subarray(start, end));
    const { firstId } = place;
    applyEnqueue(this.core, reader, buffer, start, end, place);
    this.core.producers.remember(producer, batch, lowestUnconfirmed, firstId, taskCount, nowMs);
    return { batch, firstId, count: taskCount };
  }

  /**
   * Takes the body of a SUBMIT frame, as `enqueue` does; throws what that throws, NOT_FOUND for a parent that is not there
   * and INVALID_ARGUMENT for a circle.
   */
  submit(producer: string, buffer: Buffer, start: number, end: number): Confirmation & { existing: Existing } {
    const reader = this.#enqueues;
    const { producers } = this.core;
    const { enqueueEnd, relations } = splitSubmission(buffer, start, end);
    reader.open(buffer, start, enqueueEnd);
    const { batch, lowestUnconfirmed, taskCount } = reader;
    const known = this.#findBatch(producer, batch);
    if (known >= 0) return { batch, firstId: known, count: taskCount, existing: producers.existing(producer, batch) };
    this.#checkRoom(end - start, taskCount);
    const parsed = parseRelations(relations, taskCount);
    const nowMs = this.clock.steadyMs();
    const firstId = this.core.ids.reserveIds(0);
    const plan = this.#checkSections(buffer, () => {
      const shape = (): Shape => shapeOf(this.core, reader, buffer, start, enqueueEnd);
      const planned = planSubmission(this.core, parsed, shape, firstId, nowMs);
      if (planned.existing.length > 0 && !this.#queueRoom.isEmpty) this.#leaveOut(planned.existing, shape());
      return planned;
    });
    const parts = [buffer.subarray(start, enqueueEnd), packTrailer(plan)];
    const place = this.#place(RECORD.SUBMIT, producer, taskCount, nowMs, start, ...parts);
    applySubmission(this.core, reader, buffer, start, enqueueEnd, place, plan);
    const { existing } = plan;
    producers.remember(producer, batch, lowestUnconfirmed, firstId, taskCount, nowMs, existing);
    return { batch, firstId, count: taskCount, existing };
  }

  /** Journals the tasks; returns where they lie and which ids they have. */
  #place(
    type: typeof RECORD.ENQUEUE | typeof RECORD.SUBMIT,
    producer: string,
    taskCount: number,
    nowMs: number,
    start: number,
    ...parts: readonly Uint8Array[]
  ): { segment: number; shift: number; steadyMs: number; firstId: number } {
    // Before anything is appended, so that deliveries go out before the write begins.
    this.#dispatchSoon();
    const { journal } = this;
    const firstId = this.core.ids.reserveIds(taskCount);
    journal.append(type, packEnqueueHead(nowMs, firstId, producer), ...parts);
    const shift = journal.lastOffset + ENQUEUE_HEAD_BYTES - start;
    return { segment: this.reader.tag(journal.lastSegment), shift, steadyMs: nowMs, firstId };
  }

  /** The first id of a batch that is known; -1 when it is new. Throws CONFLICT when that is forgotten. */
  #findBatch(producer: string, batch: number): number {
    const known = this.core.producers.find(producer, batch);
    if (known === -2) throw this.#forgotten(producer, batch);
    return known;
  }

  #forgotten(producer: string, batch: number): MillraceError {
    const bound = this.core.producers.lowest(producer);
    return new MillraceError(
      'CONFLICT',
      `batch ${batch} of producer ${producer} came when those below ${bound} were forgotten: they are once the client says that it needs them no longer, or when there are too many later ones (at most ${LIMITS.unconfirmedBatchesMax} may be unconfirmed). It may or may not have been enqueued before: look for its tasks with tasks.list before enqueueing them again`,
      { details: { producer, batch, bound } },
    );
  }

  #checkRoom(bytes: number, taskCount: number): void {
    if (!this.journal.hasRoom(bytes, 'task')) {
      throw new MillraceError('DISK_FULL', NO_ROOM);
    }
    if (this.core.table.count + taskCount > LIMITS.tasksMax) {
      const { count } = this.core.table;
      const message = `the server holds ${count} tasks, and ${taskCount} more would be beyond the ${LIMITS.tasksMax} that it may: let workers finish some, keep fewer ended ones (millrace queue retention), or divide them over several servers`;
      throw new MillraceError('QUEUE_FULL', message, { details: { count, bound: LIMITS.tasksMax } });
    }
  }

  /** What exists already adds nothing to its queue. */
  #leaveOut(existing: readonly Existing[number][], { queues }: Shape): void {
    for (const [index] of existing) this.#queueRoom.add(this.core.queue(queues[index] as string), -1);
  }

  /** All sections or none: specs, lengths and room are checked before anything is written. */
  #checkSections<T>(buffer: Buffer, then: () => T): T;
  #checkSections(buffer: Buffer): void;
  #checkSections<T>(buffer: Buffer, then?: () => T): T | undefined {
    const reader = this.#enqueues;
    const kinds = this.#newKinds;
    const room = this.#queueRoom;
    try {
      while (reader.next()) {
        const kind = kindOfSpec(this.core, buffer, reader.specStart, reader.specEnd);
        if (kind.taskCount === 0) kinds.push(kind);
        room.add(kind.queue, reader.count);
        checkTasks(buffer, reader.tasksStart, reader.tasksEnd, reader.count);
      }
      const result = then?.();
      room.check();
      return result;
    } catch (error) {
      for (const kind of kinds) this.core.dropKindIfUnused(kind);
      throw error;
    } finally {
      kinds.length = 0;
      room.clear();
    }
  }

  // ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  addWorker(queues: readonly string[], concurrency: number, prefetch: number, target: DeliveryTarget): CoreWorker {
    const worker = this.core.queues.addWorker(queues, concurrency, prefetch, this.clock.steadyMs());
    this.#dispatcher.targets.set(worker.index, target);
    this.#dispatchSoon();
    return worker;
  }

  /** A worker has come back and names what it still runs. Answers with the new token for what it keeps. */
  resume(worker: CoreWorker, held: readonly { id: number; attempt: number | undefined }[]): Map<number, number> {
    const nowMs = this.clock.steadyMs();
    const kept = new Map<number, number>();
    const charged: number[] = [];
    for (const { id, attempt } of held) {
      const lease = this.core.resume(worker, id, attempt, nowMs);
      if (lease === undefined) continue;
      kept.set(id, lease.token);
      if (lease.charged) charged.push(id);
    }
    if (charged.length > 0) this.commands.kept(charged);
    return kept;
  }

  /** The worker has begun everything up to the task with this token. */
  begun(worker: CoreWorker, token: number): void {
    if (this.events.isWatched) this.events.begun(worker, token);
    this.core.assignments.begin(worker, token, this.clock.steadyMs());
    this.#dispatchSoon();
  }

  /** The worker has answered: it is there. */
  heard(worker: CoreWorker): void {
    if (this.core.assignments.heard(worker, this.clock.steadyMs())) this.core.queues.markQueuesOf(worker);
    this.#dispatchSoon();
  }

  /** A worker is gone; `lost` without having handed back what it held. */
  removeWorker(worker: CoreWorker, lost: boolean): void {
    worker.paused = true;
    if (this.#failure !== undefined) this.settlements.abandon(worker);
    else this.settlements.takeBack(worker, lost);
    this.core.queues.removeWorker(worker);
    this.#dispatcher.targets.delete(worker.index);
    this.#dispatchSoon();
  }

  /** The worker's link has room again, or it may take tasks again. */
  workerReady(worker: CoreWorker): void {
    this.core.queues.markQueuesOf(worker);
    this.#dispatchSoon();
  }

  revoke(worker: CoreWorker, id: number, token: number, reason: 'cancelled' | 'lease-lost'): void {
    this.#dispatcher.revoke(worker, id, token, reason);
  }

  // ── Waiting for outcomes ──────────────────────────────────────────────────────────────────────────────────────────

  /** Calls `waiting.settled` now or when the task ends. The answer may be sent when the journal's state of then is durable. */
  wait(id: number, waiting: Waiting): void {
    const slot = this.core.index.get(id);
    if (slot === NONE) {
      waiting.settled(id, { state: 'notFound' });
      return;
    }
    if (!this.hasEnded(id)) {
      this.core.watch(slot);
      this.waiters.add(id, waiting);
      return;
    }
    void this.outcome(id).then((outcome) => {
      if (outcome !== undefined) waiting.settled(id, outcome);
      else if (!this.#closed && this.#failure === undefined) this.wait(id, waiting);
    });
  }

  hasEnded(id: number): boolean {
    const slot = this.core.index.get(id);
    return slot !== NONE && this.core.table.state(slot) >= State.COMPLETED;
  }

  /** How the task has ended, to be read later, even if it is forgotten by then; undefined when it has not, or is. */
  keepOutcome(id: number): KeptOutcome | undefined {
    return this.hasEnded(id) ? this.reader.keepOutcome(this.core, this.core.index.get(id)) : undefined;
  }

  /** Undefined when the engine has failed meanwhile. */
  async readKept(kept: KeptOutcome): Promise<StoredOutcome | undefined> {
    let outcome: StoredOutcome | undefined;
    try {
      outcome = await this.reader.loadKept(kept);
    } catch (error) {
      this.#readFailed(error, (known) => {
        this.#unreadable.report(known);
        outcome = { state: 'unreadable', error: known };
      });
    }
    return outcome;
  }

  /** How the task has ended; undefined when it has not, or not any more. */
  async outcome(id: number): Promise<StoredOutcome | undefined> {
    const slot = this.core.index.get(id);
    if (slot === NONE) return { state: 'notFound' };
    if (!this.hasEnded(id)) return undefined;
    let outcome: StoredOutcome | undefined;
    try {
      outcome = await this.reader.loadOutcome(this.core, slot);
      // Retried while its error was read: it ends another time.
      if (outcome.state === 'notFound' && this.core.index.get(id) !== NONE) return undefined;
    } catch (error) {
      this.#readFailed(error, (known) => {
        this.#unreadable.report(known);
        outcome = { state: 'unreadable', error: known };
      });
    }
    return outcome;
  }

  /** What cannot be read concerns those who need it; anything else is a failure of the whole. */
  #readFailed(error: unknown, known: (error: MillraceError) => void): void {
    if (this.#closed || this.#failure !== undefined) return;
    if (error instanceof MillraceError) known(error);
    else this.fail(asStorageError(error));
  }

  // ── Time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #dispatchSoon(): void {
    if (this.#dispatchDeferred) return;
    this.#dispatchDeferred = true;
    this.clock.defer(this.#dispatch);
  }

  readonly #dispatch = (): void => {
    this.#dispatchDeferred = false;
    if (this.#closed || this.#failure !== undefined) return;
    const steadyMs = this.clock.steadyMs();
    this.#keep();
    this.#heldBack = !this.#canDeliver;
    if (!this.#stopping && !this.#heldBack) this.#dispatcher.run(steadyMs);
    this.core.assignments.presume(steadyMs);
    this.#arm();
  };

  /** What is delivered comes back as outcomes: none go out while the disk could not take these. */
  get #canDeliver(): boolean {
    const { journal } = this;
    return journal.unwrittenBytes <= LIMITS.unconfirmedBytesMax && journal.hasRoom(OUTCOME_ROOM_BYTES, 'outcome');
  }

  /** The journal has moved on: what was held back may go. */
  durable(): void {
    if (this.#heldBack) this.#dispatchSoon();
  }

  /** One timer serves every delay and timeout; it is set anew only when something comes before what it is set for. */
  #arm(): void {
    const steadyMs = this.clock.steadyMs();
    const dueMs = Math.min(this.core.nextSteadyMs(), steadyMs + (this.core.nextWallMs() - this.clock.wallMs()));
    if (dueMs >= this.#timerAtMs - TIMER_SLACK_MS) return;
    this.#timer?.cancel();
    this.#timerAtMs = dueMs;
    this.#timer = this.clock.setTimer(Math.ceil(Math.max(dueMs - steadyMs, 1)), this.#onTimer);
    this.#timer.unref();
  }

  readonly #onTimer = (): void => {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    if (this.#closed) return;
    const steadyMs = this.clock.steadyMs();
    const wallMs = this.clock.wallMs();
    this.core.tick(steadyMs, wallMs, TICK_TASKS_MAX);
    this.scheduler.fireDue(wallMs);
    // A process that was stopped, or busy, for long finds what has ended in time behind its own timer.
    if (this.core.assignments.nextDeadlineMs() <= steadyMs) this.clock.deferPastInput(this.#endOverdue);
    this.#dispatchSoon();
  };

  /** Workers end their handlers themselves; this is for those that do not. */
  readonly #endOverdue = (): void => {
    if (this.#closed || this.#failure !== undefined) return;
    const steadyMs = this.clock.steadyMs();
    for (
      let slots = this.core.assignments.overdue(steadyMs);
      slots.length > 0;
      slots = this.core.assignments.overdue(steadyMs)
    ) {
      for (const slot of slots) {
        if (this.#putOff(slot, steadyMs)) continue;
        const { timeoutMs } = this.core.kindOf(slot).spec;
        const { worker, token } = this.core.assignments.of(slot);
        const id = this.core.table.id(slot);
        const message = `the attempt ran longer than ${timeoutMs} ms`;
        this.settlements.failOne(slot, { name: 'TaskTimeout', code: 'TASK_TIMEOUT', message });
        this.revoke(worker, id, token, 'lease-lost');
        this.core.queues.markQueuesOf(worker);
      }
    }
    this.#dispatchSoon();
  };

  /** What is overdue without having run beyond its time: it was only presumed to run, or its worker did not come back. */
  #putOff(slot: number, steadyMs: number): boolean {
    const { assignments } = this.core;
    if (assignments.isAside(slot)) {
      this.settlements.loseForGood(slot);
      return true;
    }
    const { worker } = assignments.of(slot);
    if (!assignments.isPresumed(worker, slot)) return false;
    if (!worker.probed) {
      assignments.probe(worker, steadyMs);
      this.#dispatcher.probe(worker);
      return true;
    }
    worker.silent = true;
    for (const [id, token] of this.settlements.takeUnbegun(worker)) this.revoke(worker, id, token, 'lease-lost');
    return true;
  }

  readonly #housekeep = (): void => {
    if (this.#closed) return;
    const steadyMs = this.clock.steadyMs();
    this.core.expire(steadyMs, EXPIRE_TASKS_MAX);
    this.stats.second(this.core, steadyMs);
    this.#cleaner.consider();
    if (this.core.ids.left < EPOCH_RESERVE) this.#advanceEpoch();
    this.scheduler.retry();
    // A wall clock that was set forward makes appointments due without any timer of ours.
    if (this.core.nextWallMs() <= this.clock.wallMs()) this.#onTimer();
    this.#housekeeping = this.clock.setTimer(HOUSEKEEPING_MS, this.#housekeep);
    this.#housekeeping.unref();
  };

  /** Segments are to be given up, and with them the counts of records that speak of what began there. */
  emptied(): void {
    this.#totalsDue = true;
    this.#dispatchSoon();
  }

  /** What follows from records that a replay may not understand any more. */
  #keep(): void {
    this.commands.keepConsequences();
    if (!this.#totalsDue) return;
    this.#totalsDue = false;
    this.commands.keepTotals();
    this.journal.settleEmptied();
  }

  #advanceEpoch(): void {
    if (this.#advancingEpoch) return;
    this.#advancingEpoch = true;
    this.journal.advanceEpoch().then(
      (epoch) => {
        this.#advancingEpoch = false;
        this.core.ids.begin(epoch);
      },
      (error: unknown) => this.fail(asStorageError(error)),
    );
  }
}

export function asStorageError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new MillraceError('STORAGE_FAILED', `reading or writing the journal failed: ${message}`, { cause: error });
}
