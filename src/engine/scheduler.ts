import type { Core } from '../core/core.ts';
import type { KindSpec } from '../core/kind.ts';
import type { Queue } from '../core/queue.ts';
import { type Misfire, type Schedule, scheduleBytes } from '../core/schedules.ts';
import { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import type { Clock } from '../io/clock.ts';
import type { Journal } from '../journal/journal.ts';
import { LIMITS } from '../limits.ts';
import { EnqueueReader } from '../protocol/batch.ts';
import { BatchWriter, manyBytesBound } from '../protocol/batch-writer.ts';
import type { EncodedBytes } from '../protocol/encoded-bytes.ts';
import { HEADER_BYTES } from '../protocol/frames.ts';
import { encodeSpec } from '../protocol/spec.ts';
import { packHeaders } from '../protocol/task-headers.ts';
import { BufferPool } from '../protocol/writer.ts';
import { checkSchedulePayload, type Plan, parseMisfire, planFiring } from '../schedule/plan.ts';
import { nextDueMs, parseTiming, sameTiming, type TimingOptions } from '../schedule/timing.ts';
import type { Commands } from './commands.ts';
import { checkQueueRoom } from './queue-room.ts';
import { packFireHead, RECORD } from './records.ts';
import type { SegmentReader } from './segment-reader.ts';
import { applyFire, kindOfSpec } from './state.ts';

/** What is said of a schedule when it is set, not checked but for `spec`. */
export interface ScheduleSettings {
  timing: TimingOptions;
  misfire: unknown;
  spec: KindSpec;
  payload: EncodedBytes;
  headers?: Schedule['headers'] | undefined;
}

/** The shape of the contract's ScheduleInfo. */
export interface InspectedSchedule {
  name: string;
  cron?: string;
  timeZone?: string;
  everyMs?: number;
  misfire: Misfire;
  paused: boolean;
  task: string;
  queue: string;
  priority: number;
  maxAttempts: number;
  timeoutMs: number;
  backoff: KindSpec['backoff'];
  concurrencyKey?: string | undefined;
  nextAtMs?: number;
  lastAtMs?: number;
  lastTaskId?: string;
  firedCount: number;
  payloadBytes: number;
  payload?: EncodedBytes;
  headers?: Schedule['headers'];
}

/** Tasks that one turn of the event loop fires, and those and their bytes in one record. */
const TURN_TASKS_MAX = 100;
const RECORD_TASKS_MAX = 50;
const RECORD_BYTES_MAX = 1024 * 1024;

/**
 * Fires what is due. One record moves a schedule on and enqueues its task, so that each due time has one firing, whatever
 * the server goes through. The times of a schedule only go forward: a wall clock that is set back is waited for.
 */
export class Scheduler {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #reader: SegmentReader;
  readonly #commands: Commands;
  /** What all schedules may take at the begin of each segment. */
  readonly bytesMax: number;
  readonly #checkRoom: (bytes: number, taskCount: number) => void;
  readonly #changed: () => void;
  readonly #notice: (message: string) => void;
  readonly #enqueues = new EnqueueReader();
  readonly #buffers = new BufferPool();
  /** How many of its missed times a schedule that makes up for all has fired in a row. */
  readonly #madeUp = new WeakMap<Schedule, number>();
  /** What kept schedules from firing last, whatever their queue. */
  #trouble = '';
  /** Queues of which it was said that they are full, and whose schedules have not fired since. */
  readonly #full = new WeakSet<Queue>();

  constructor(parts: {
    core: Core;
    journal: Journal;
    clock: Clock;
    reader: SegmentReader;
    commands: Commands;
    /** What all schedules may take at the begin of each segment. */
    bytesMax: number;
    /** Throws when there is no room for tasks. */
    checkRoom: (bytes: number, taskCount: number) => void;
    /** Called when something was enqueued. */
    changed: () => void;
    notice: (message: string) => void;
  }) {
    this.#core = parts.core;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#reader = parts.reader;
    this.#commands = parts.commands;
    this.bytesMax = parts.bytesMax;
    this.#checkRoom = parts.checkRoom;
    this.#changed = parts.changed;
    this.#notice = parts.notice;
  }

  /**
   * Makes the schedule, or replaces it: when it is due stays as it is unless that is what changes, and so do its pause and
   * what is known of its firings. Throws INVALID_ARGUMENT, QUEUE_FULL for too many, DISK_FULL.
   */
  set(name: string, settings: ScheduleSettings): InspectedSchedule {
    const known = this.#core.schedules.get(name);
    const nowMs = this.#clock.wallMs();
    const timing = parseTiming(settings.timing, nowMs);
    const goesOn = known !== undefined && sameTiming(known.timing, timing);
    const { paused, nextMs, lastMs, lastId, firedCount, runs } = known ?? NEVER_FIRED;
    const misfire = parseMisfire(settings.misfire);
    const { spec, payload, headers } = settings;
    checkSchedulePayload(Buffer.byteLength(payload.data, payload.encoding));
    const schedule: Schedule = {
      name,
      timing: goesOn ? known.timing : timing,
      misfire,
      spec,
      payload,
      ...(headers === undefined ? {} : { headers }),
      paused,
      nextMs: paused ? null : goesOn ? nextMs : nextDueMs(timing, nowMs),
      lastMs,
      lastId,
      firedCount,
      runs: [...runs],
    };
    // Programs say what they need each time they start.
    if (known === undefined || JSON.stringify(known) !== JSON.stringify(schedule)) {
      this.#checkSchedulesRoom(schedule, known);
      this.#commands.run({ op: 'schedule', schedule });
    }
    return inspectSchedule(schedule);
  }

  #checkSchedulesRoom(schedule: Schedule, known: Schedule | undefined): void {
    const { schedules } = this.#core;
    if (known === undefined && schedules.count >= LIMITS.schedulesMax) {
      const message = `there are ${schedules.count} schedules; at most ${LIMITS.schedulesMax} are allowed: remove some, or let one task enqueue others`;
      throw new MillraceError('QUEUE_FULL', message, { details: { bound: LIMITS.schedulesMax } });
    }
    const bytes = schedules.bytes + scheduleBytes(schedule) - (known === undefined ? 0 : scheduleBytes(known));
    if (bytes > this.bytesMax) {
      const message = `all schedules together would take ${bytes} bytes; at most ${this.bytesMax} are allowed, since each segment of the journal begins with them: store large payloads elsewhere and schedule where they are`;
      throw new MillraceError('QUEUE_FULL', message, { details: { bytes, bound: this.bytesMax } });
    }
    this.#checkRoom(scheduleBytes(schedule), 0);
  }

  /** Throws NOT_FOUND. */
  get(name: string): InspectedSchedule {
    const schedule = this.#find(name);
    const { payload, headers } = schedule;
    return { ...inspectSchedule(schedule), payload, ...(headers === undefined ? {} : { headers }) };
  }

  /** In the order of their names. */
  list(): InspectedSchedule[] {
    const schedules = [...this.#core.schedules.values()];
    return schedules.sort((a, b) => (a.name < b.name ? -1 : 1)).map(inspectSchedule);
  }

  /** Throws NOT_FOUND. */
  pause(name: string): void {
    if (!this.#find(name).paused) this.#commands.run({ op: 'moveSchedule', name, paused: true, nextMs: null });
  }

  /** Goes on with the next time from now on. Throws NOT_FOUND. */
  resume(name: string): void {
    const { timing, paused } = this.#find(name);
    if (!paused) return;
    const nextMs = nextDueMs(timing, this.#clock.wallMs());
    this.#commands.run({ op: 'moveSchedule', name, paused: false, nextMs });
  }

  /** Whether there was one. */
  remove(name: string): boolean {
    if (this.#core.schedules.get(name) === undefined) return false;
    this.#commands.run({ op: 'removeSchedule', name });
    return true;
  }

  /** Fires once now, paused or not; the same `key` (16 hex digits) gives the same task. Throws NOT_FOUND, DISK_FULL, QUEUE_FULL. */
  runNow(name: string, key: string): string {
    const schedule = this.#find(name);
    const known = schedule.runs.find(([one]) => one === key);
    if (known !== undefined) return formatTaskId(known[1]);
    const dueMs = Math.floor(this.#clock.wallMs());
    return formatTaskId(this.#fire(schedule, { count: 1, dueMs, nextMs: schedule.nextMs }, key));
  }

  /** Fires what is due, a part of it when that is much: call it again at `core.nextWallMs()`. */
  fireDue(wallMs: number): void {
    const { schedules } = this.#core;
    for (let left = TURN_TASKS_MAX; left > 0; ) {
      const schedule = schedules.due(wallMs);
      if (schedule === undefined) return;
      left -= this.#fireOrPutAside(schedule, wallMs);
    }
  }

  /** What could not fire is tried again. */
  retry(): void {
    this.#core.schedules.bringBack();
  }

  /** Returns how much work it was, in tasks. */
  #fireOrPutAside(schedule: Schedule, wallMs: number): number {
    try {
      const plan = this.#plan(schedule, wallMs);
      if (plan.count > 0) this.#fire(schedule, plan, '');
      else this.#commands.run({ op: 'moveSchedule', name: schedule.name, paused: false, nextMs: plan.nextMs });
      if (plan.madeUp > 0) this.#madeUp.set(schedule, plan.madeUp);
      else this.#madeUp.delete(schedule);
      this.#trouble = '';
      const queue = this.#queueOf(schedule);
      if (queue !== undefined) this.#full.delete(queue);
      return Math.max(plan.count, 1);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      this.#core.schedules.putAside();
      if (this.#isNews(schedule, error)) {
        const name = JSON.stringify(schedule.name);
        this.#notice(
          `the schedule ${name} is due and cannot fire (${error.code}: ${error.message}); it is tried again each second`,
        );
      }
      return 1;
    }
  }

  /** Once for each queue that is full, and for what concerns all. */
  #isNews(schedule: Schedule, error: MillraceError): boolean {
    const queue = this.#queueOf(schedule);
    if (queue !== undefined && error.details.queue === queue.name) {
      const isNews = !this.#full.has(queue);
      this.#full.add(queue);
      return isNews;
    }
    const isNews = this.#trouble !== error.code;
    this.#trouble = error.code;
    return isNews;
  }

  /** Undefined when it has never been used. */
  #queueOf({ spec }: Schedule): Queue | undefined {
    return this.#core.queues.get(spec.queue);
  }

  #plan(schedule: Schedule, wallMs: number): Plan {
    const fitting = Math.floor(
      RECORD_BYTES_MAX / (schedule.payload.data.length + 4 + (prefixOf(schedule)?.length ?? 0)),
    );
    const room = this.#queueOf(schedule)?.room ?? RECORD_TASKS_MAX;
    return planFiring(schedule, schedule.nextMs as number, wallMs, {
      countMax: Math.max(1, Math.min(RECORD_TASKS_MAX, fitting, room)),
      madeUp: this.#madeUp.get(schedule) ?? 0,
    });
  }

  /** Returns the id of the last task. Throws DISK_FULL, QUEUE_FULL; then nothing has happened. */
  #fire(schedule: Schedule, { count, dueMs, nextMs }: Omit<Plan, 'madeUp'>, key: string): number {
    const { name, spec } = schedule;
    const queue = this.#queueOf(schedule);
    if (queue !== undefined) checkQueueRoom(queue, count);
    const { frame, release } = this.#pack(schedule, count);
    try {
      const body = frame.subarray(HEADER_BYTES);
      this.#checkRoom(body.length, count);
      const packed = encodeSpec(spec);
      kindOfSpec(this.#core, packed, 0, packed.length);
      const journal = this.#journal;
      const firstId = this.#core.ids.reserveIds(count);
      const fire = { steadyMs: this.#clock.steadyMs(), firstId, dueMs, nextMs, key, name };
      const head = packFireHead(fire);
      journal.append(RECORD.FIRE, head, body);
      const shift = journal.lastOffset + head.length;
      const segment = this.#reader.tag(journal.lastSegment);
      applyFire(this.#core, this.#enqueues, fire, { bytes: body, start: 0, segment, shift });
      this.#changed();
      return firstId + count - 1;
    } finally {
      release();
    }
  }

  #pack(schedule: Schedule, count: number): { frame: Buffer; release: () => void } {
    const { spec, payload } = schedule;
    const prefix = prefixOf(schedule);
    const payloads = new Array<Buffer>(count).fill(Buffer.from(payload.data, payload.encoding));
    const writer = new BatchWriter(this.#buffers);
    writer.addMany(spec, { kind: 'now' }, payloads, manyBytesBound(payloads, prefix?.length), prefix);
    const frame = writer.seal(1);
    writer.address(0, 1);
    return { frame, release: () => writer.release() };
  }

  #find(name: string): Schedule {
    const schedule = this.#core.schedules.get(name);
    if (schedule !== undefined) return schedule;
    const names = [...this.#core.schedules.values()].slice(0, NAMES_SHOWN).map((one) => one.name);
    const known = names.length === 0 ? 'there are none yet' : `there are ${names.join(', ')}`;
    throw new MillraceError('NOT_FOUND', `there is no schedule ${JSON.stringify(name)}; ${known}`);
  }
}

function prefixOf({ headers }: Schedule): Buffer | undefined {
  return headers === undefined ? undefined : packHeaders(headers);
}

const NAMES_SHOWN = 20;
const NEVER_FIRED = { paused: false, nextMs: null, lastMs: null, lastId: null, firedCount: 0, runs: [] };

function inspectSchedule(schedule: Schedule): InspectedSchedule {
  const { name, timing, misfire, paused, spec, nextMs, lastMs, lastId, firedCount, payload } = schedule;
  const { name: task, ...options } = spec;
  return {
    name,
    ...('cron' in timing ? timing : { everyMs: timing.everyMs }),
    misfire,
    paused,
    task,
    ...options,
    ...(nextMs === null ? {} : { nextAtMs: nextMs }),
    ...(lastMs === null ? {} : { lastAtMs: lastMs }),
    ...(lastId === null ? {} : { lastTaskId: formatTaskId(lastId) }),
    firedCount,
    payloadBytes: Buffer.byteLength(payload.data, payload.encoding),
  };
}
