import type { QueueTotals } from '../core/queue.ts';
import type { Schedule } from '../core/schedules.ts';
import { invariant } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import { formatTime } from '../io/clock.ts';
import { NO_LIMITS, type QueueLimits } from '../limits.ts';
import { readF64, readU16, readU32, readU64, writeF64, writeU64 } from '../protocol/bytes.ts';

/**
 * What the engine writes into the journal. Version 1. To change a body: give it a new type number, keep reading the old
 * one, and add a golden file to test/format.
 *
 * ```
 * ENQUEUE   f64 steadyMs, u64 firstId, producer (16 bytes), then the body of the ENQUEUE frame as it came
 * COMPLETE  f64 steadyMs, then the body of the COMPLETE frame (tokens are ignored)
 * FAIL      f64 steadyMs, n × (u64 id, u8 outcome, u16 attempt, f64 dueMs, u32 length, error JSON)
 * COMMAND   JSON, one of `Command`
 * SNAPSHOT  n × task, see snapshot.ts: tasks copied forward from a segment that is given up
 * SUBMIT    as ENQUEUE, then a plan (JSON, see submissions.ts), u32 length of the plan
 * FIRE      f64 steadyMs, u64 firstId, f64 dueMs, f64 nextMs (Infinity: none), key (8 bytes; 0: it was due), u8 length,
 *           name of the schedule, then the tasks like the body of an ENQUEUE frame
 * ```
 * `steadyMs` is steady time (milliseconds since 1970, not moved by clock changes while the server ran).
 */
export const RECORD = { ENQUEUE: 16, COMPLETE: 17, FAIL: 18, COMMAND: 19, SNAPSHOT: 20, SUBMIT: 21, FIRE: 22 } as const;

export const ENQUEUE_HEAD_BYTES = 32;
export const PRODUCER_BYTES = 16;
export const TIME_BYTES = 8;
export const FAILURE_HEAD_BYTES = 23;
/** Before the schedule's name. */
const FIRE_FIXED_BYTES = 41;
const FIRE_KEY_BYTES = 8;

const COMMAND_CHARACTERS_MAX = 300;
/** More than any command is given; what says more is no command of ours. */
const RUN_IDS_MAX = 1_000_000;

export const OUTCOME = { retry: 1, dead: 2, cancelled: 3 } as const;
/** Added to an outcome: the worker was lost. */
export const OUTCOME_LOST = 0x80;

/** `ids` are runs: first id, count, first id, count … */
export type Command =
  | { op: 'cancel' | 'requestCancel'; id: number; at: number }
  | { op: 'retry' | 'kept'; ids: number[]; at: number }
  /** Many at once: those that waited, and those that ran. */
  | { op: 'cancelMany'; ids: number[]; requested: number[]; at: number }
  | { op: 'pause' | 'resume'; queue: string }
  /** As they are: what they counted may lie in segments that have been given up. */
  | { op: 'totals'; queues: { name: string; totals: QueueTotals }[] }
  | { op: 'purge'; ids: number[]; at: number }
  /** What followed for tasks from the ends of those that they depend on; see core/relations.ts. */
  | { op: 'related'; unblocked: number[]; cancelled: number[]; closed: number[]; at: number }
  | { op: 'limits'; queue: string; limits: KeptLimits; at: number }
  | { op: 'schedule'; schedule: Schedule }
  | { op: 'moveSchedule'; name: string; paused: boolean; nextMs: number | null }
  | { op: 'removeSchedule'; name: string }
  | {
      op: 'retention';
      queue: string;
      retention: { completedCountMax: number; completedAgeMs: number; deadCountMax: number; deadAgeMs: number };
    };

/** What is not there whoever wrote it did not know: there is no such limit. */
export type KeptLimits = Partial<QueueLimits>;

/** Undefined: none at all. */
export function readLimits(kept: KeptLimits): QueueLimits | undefined {
  const limits = { ...NO_LIMITS, ...kept };
  return Object.values(limits).every((limit) => limit === null) ? undefined : limits;
}

/** Ids as runs of consecutive ones. */
export function idRuns(ids: readonly number[]): number[] {
  const runs: number[] = [];
  for (const id of ids) {
    const last = runs.length - 2;
    if (last >= 0 && runs[last] + runs[last + 1] === id) runs[last + 1]++;
    else runs.push(id, 1);
  }
  return runs;
}

export function forEachId(runs: readonly number[], visit: (id: number) => void): void {
  for (let at = 0; at < runs.length; at += 2) {
    const count = runs[at + 1];
    invariant(count <= RUN_IDS_MAX, `a run of ${count} ids; a command has at most ${RUN_IDS_MAX}`);
    for (let i = 0; i < count; i++) visit(runs[at] + i);
  }
}

export function packEnqueueHead(steadyMs: number, firstId: number, producer: string): Buffer {
  const head = Buffer.allocUnsafe(ENQUEUE_HEAD_BYTES);
  writeF64(head, 0, steadyMs);
  writeU64(head, 8, firstId);
  head.write(producer, 16, PRODUCER_BYTES, 'hex');
  return head;
}

/** A firing as its record begins. */
export interface FireHead {
  steadyMs: number;
  firstId: number;
  dueMs: number;
  nextMs: number | null;
  /** 16 hex digits, or empty. */
  key: string;
  name: string;
}

export function packFireHead({ steadyMs, firstId, dueMs, nextMs, key, name }: FireHead): Buffer {
  const nameBytes = Buffer.from(name, 'utf8');
  const head = Buffer.alloc(FIRE_FIXED_BYTES + nameBytes.length);
  writeF64(head, 0, steadyMs);
  writeU64(head, 8, firstId);
  writeF64(head, 16, dueMs);
  writeF64(head, 24, nextMs ?? Number.POSITIVE_INFINITY);
  head.write(key, 32, FIRE_KEY_BYTES, 'hex');
  head[FIRE_FIXED_BYTES - 1] = nameBytes.length;
  head.set(nameBytes, FIRE_FIXED_BYTES);
  return head;
}

export function unpackFireHead(body: Buffer): FireHead {
  const nextMs = readF64(body, 24);
  const key = body.toString('hex', 32, 32 + FIRE_KEY_BYTES);
  return {
    steadyMs: readF64(body, 0),
    firstId: readU64(body, 8),
    dueMs: readF64(body, 16),
    nextMs: nextMs === Number.POSITIVE_INFINITY ? null : nextMs,
    key: /^0+$/.test(key) ? '' : key,
    name: body.toString('utf8', FIRE_FIXED_BYTES, fireTasksStart(body)),
  };
}

/** Where the batch begins in a FIRE. */
export function fireTasksStart(body: Buffer): number {
  return FIRE_FIXED_BYTES + body[FIRE_FIXED_BYTES - 1];
}

export function packTime(steadyMs: number): Buffer {
  const head = Buffer.allocUnsafe(TIME_BYTES);
  writeF64(head, 0, steadyMs);
  return head;
}

/** A record in words, for `journal dump` and for damage reports. Never throws: the body may be damaged. */
export function describeRecord(type: number, body: Buffer): string {
  try {
    return describe(type, body);
  } catch {
    return `record of type ${type} that cannot be read`;
  }
}

function describe(type: number, body: Buffer): string {
  switch (type) {
    case RECORD.ENQUEUE: {
      const firstId = readU64(body, 8);
      const count = readU32(body, ENQUEUE_HEAD_BYTES + 12);
      return `enqueue ${describeIds(firstId, count)} at ${time(body)}`;
    }
    case RECORD.SUBMIT: {
      const firstId = readU64(body, 8);
      const count = readU32(body, ENQUEUE_HEAD_BYTES + 12);
      return `enqueue ${describeIds(firstId, count)}, which have to do with others, at ${time(body)}`;
    }
    case RECORD.COMPLETE: {
      const runs: string[] = [];
      for (let at = TIME_BYTES; at < body.length && runs.length < 5; ) {
        runs.push(describeIds(readU64(body, at), readU32(body, at + 16)));
        at += 24 + readU32(body, at + 20);
      }
      return `complete ${runs.join(', ')} at ${time(body)}`;
    }
    case RECORD.FAIL: {
      const failures: string[] = [];
      for (let at = TIME_BYTES; at < body.length && failures.length < 5; ) {
        const outcome = ['?', 'retry', 'dead', 'cancelled'][body[at + 8] & 3];
        failures.push(`${formatTaskId(readU64(body, at))} attempt ${readU16(body, at + 9)} → ${outcome}`);
        at += FAILURE_HEAD_BYTES + readU32(body, at + 19);
      }
      return `fail ${failures.join(', ')} at ${time(body)}`;
    }
    case RECORD.COMMAND:
      return describeCommand(JSON.parse(body.toString()) as { op: string; at?: number });
    case RECORD.SNAPSHOT:
      return `tasks copied forward, the first is ${formatTaskId(readU64(body, 4))}`;
    case RECORD.FIRE: {
      const { firstId, dueMs, name } = unpackFireHead(body);
      const count = readU32(body, fireTasksStart(body) + 12);
      return `schedule ${JSON.stringify(name)}, due at ${formatTime(dueMs)}, enqueues ${describeIds(firstId, count)} at ${time(body)}`;
    }
    default:
      return `record of type ${type}`;
  }
}

function describeCommand({ op, at, ...rest }: { op: string; at?: number }): string {
  const when = at === undefined ? '' : ` at ${formatTime(at)}`;
  return `command ${op} ${JSON.stringify(rest).slice(0, COMMAND_CHARACTERS_MAX)}${when}`;
}

function describeIds(firstId: number, count: number): string {
  return count === 1
    ? formatTaskId(firstId)
    : `${formatTaskId(firstId)} … ${formatTaskId(firstId + count - 1)} (${count})`;
}

function time(body: Buffer): string {
  return formatTime(readF64(body, 0));
}
