import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { malformed, readF64, readU16, readU32, readU48, readU64 } from './bytes.ts';
import { FRAME } from './frames.ts';
import { checkPacked, HEADERS_FLAG, taskBytes } from './task-headers.ts';
import type { FrameWriter } from './writer.ts';

/** ENQUEUE and CONFIRM as the server reads them. */
export const WHEN = { NOW: 0, DELAY: 1, AT: 2 } as const;

export const BATCH_HEADER_BYTES = 16;
/** Without the spec: u16 specLength, u8 whenKind, f64 whenMs, u32 count, u32 byteLength. */
export const SECTION_FIXED_BYTES = 19;
/** Of these, the start time, and what stands between it and the tasks. */
export const WHEN_BYTES = 9;
export const SECTION_LENGTHS_BYTES = 8;
/** The last instant that a JavaScript Date can hold. */
const WALL_MS_MAX = 8.64e15;

/**
 * Walks the sections of an ENQUEUE body. One object serves many frames:
 * `open(…)`, then `while (reader.next()) …` with the section's fields. Everything but the tasks' own lengths is checked;
 * these are for `checkTasks`. Throws PROTOCOL for a body that is not well-formed, INVALID_ARGUMENT for a time out of bounds.
 */
export class EnqueueReader {
  batch = 0;
  lowestUnconfirmed = 0;
  taskCount = 0;

  specStart = 0;
  specEnd = 0;
  whenKind = 0;
  whenMs = 0;
  /** Tasks in this section; at least 1. */
  count = 0;
  /** The tasks, `u32 length, bytes` each: see task-headers.ts. */
  tasksStart = 0;
  tasksEnd = 0;

  #buffer: Buffer = Buffer.alloc(0);
  #offset = 0;
  #end = 0;
  #seen = 0;

  open(buffer: Buffer, start: number, end: number): void {
    if (end - start < BATCH_HEADER_BYTES) throw malformed('ENQUEUE ends inside its header');
    this.batch = readU48(buffer, start);
    this.lowestUnconfirmed = readU48(buffer, start + 6);
    this.taskCount = readU32(buffer, start + 12);
    if (this.batch === 0 || this.lowestUnconfirmed === 0 || this.lowestUnconfirmed > this.batch) {
      throw malformed(
        `batch ${this.batch} with ${this.lowestUnconfirmed} as the lowest unconfirmed; both count from 1`,
      );
    }
    if (this.taskCount === 0 || this.taskCount > LIMITS.batchTasksMax) {
      throw malformed(`a batch of ${this.taskCount} tasks; allowed are 1 to ${LIMITS.batchTasksMax}`);
    }
    this.#buffer = buffer;
    this.#offset = start + BATCH_HEADER_BYTES;
    this.#end = end;
    this.#seen = 0;
  }

  next(): boolean {
    const buffer = this.#buffer;
    const offset = this.#offset;
    const end = this.#end;
    if (offset === end) {
      if (this.#seen !== this.taskCount) throw malformed(`a batch of ${this.taskCount} tasks holds ${this.#seen}`);
      return false;
    }
    const specEnd = end - offset < 2 ? end + 1 : offset + 2 + readU16(buffer, offset);
    const tasksStart = specEnd + SECTION_FIXED_BYTES - 2;
    if (tasksStart > end) throw malformed('ENQUEUE ends inside a section’s header');
    this.specStart = offset + 2;
    this.specEnd = specEnd;
    this.whenKind = buffer[specEnd];
    this.whenMs = readF64(buffer, specEnd + 1);
    this.count = readU32(buffer, specEnd + 9);
    this.tasksStart = tasksStart;
    this.tasksEnd = tasksStart + readU32(buffer, specEnd + 13);
    if (this.tasksEnd > end) throw malformed('ENQUEUE ends inside a section’s tasks');
    this.#seen += this.count;
    if (this.count === 0 || this.#seen > this.taskCount) throw malformed('a section’s count does not fit the batch’s');
    checkWhen(this.whenKind, this.whenMs);
    this.#offset = this.tasksEnd;
    return true;
  }
}

function checkWhen(kind: number, ms: number): void {
  if (kind > WHEN.AT) throw malformed(`there is no kind of start time ${kind}`);
  const bound = kind === WHEN.NOW ? 0 : kind === WHEN.DELAY ? LIMITS.delayMsMax : WALL_MS_MAX;
  if (ms >= 0 && ms <= bound) return;
  const what = kind === WHEN.AT ? 'runAt' : 'delayMs';
  throw new MillraceError('INVALID_ARGUMENT', `${what} is ${ms} ms; allowed are 0 to ${bound}`, {
    details: { value: ms, bound },
  });
}

/**
 * Checks that `buffer[start … end-1]` is exactly `count` tasks, each within its limit. Throws PROTOCOL when the lengths do
 * not add up, PAYLOAD_TOO_LARGE with the index of the task, INVALID_ARGUMENT for headers out of bounds.
 */
export function checkTasks(buffer: Uint8Array, start: number, end: number, count: number): void {
  const lengthMax = LIMITS.payloadBytesMax;
  let offset = start;
  for (let index = 0; index < count; index++) {
    if (end - offset < 4) throw malformed(`task ${index} of ${count} is not there`);
    let length = readU32(buffer, offset);
    offset += 4;
    if (length >= HEADERS_FLAG) {
      const taskEnd = offset + taskBytes(buffer, offset - 4);
      // The end may lie beyond what is there; headers may not.
      offset = checkPacked(buffer, offset, Math.min(taskEnd, end), index);
      length = taskEnd - offset;
    }
    if (length > lengthMax) throw payloadTooLarge(length, index);
    offset += length;
  }
  if (offset !== end) throw malformed(`${count} tasks take ${offset - start} bytes, their section says ${end - start}`);
}

export function payloadTooLarge(bytes: number, index: number | undefined): MillraceError {
  const which = index === undefined ? 'the payload' : `payload ${index}`;
  return new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `${which} has ${bytes} bytes; at most ${LIMITS.payloadBytesMax} are allowed: store large data elsewhere and enqueue where it is`,
    { details: { bytes, bound: LIMITS.payloadBytesMax, index } },
  );
}

/** The ids of a confirmed batch are `firstId … firstId + count - 1`. */
export function writeConfirm(
  writer: FrameWriter,
  requestId: number,
  batch: number,
  firstId: number,
  count: number,
): void {
  writer.begin(FRAME.CONFIRM, requestId);
  writer.u48(batch);
  writer.u64(firstId);
  writer.u32(count);
  writer.end();
}

export function readConfirm(
  buffer: Buffer,
  start: number,
  end: number,
): { batch: number; firstId: number; count: number } {
  if (end - start !== 18) throw malformed(`CONFIRM has ${end - start} bytes, not 18`);
  return { batch: readU48(buffer, start), firstId: readU64(buffer, start + 6), count: readU32(buffer, start + 14) };
}
