import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { malformed, readF64, readU32, readU64 } from './bytes.ts';
import type { FrameWriter } from './writer.ts';

/** COMPLETE, FAIL, RELEASE, BEGUN, SETTLED, REVOKE, WAIT, UNWAIT and RESULT as they are read. */
export const NO_RESULT = 0xffffffff;
export const FAIL_FINAL = 1;
export const FAIL_DELAY = 2;
export const REVOKE_REASON = { CANCELLED: 1, LEASE_LOST: 2 } as const;
export const RESULT_STATE = {
  COMPLETED: 1,
  COMPLETED_EMPTY: 2,
  DEAD: 3,
  CANCELLED: 4,
  NOT_FOUND: 5,
  UNREADABLE: 6,
} as const;

const NO_BYTES = Buffer.alloc(0);
const RUN_BYTES = 20;
const COMPLETION_FIXED_BYTES = 24;
const FAILURE_FIXED_BYTES = 29;

/** Runs of consecutive ids with consecutive tokens, for COMPLETE. `open(…)`, then `while (reader.next()) …`. */
export class CompletionReader {
  firstId = 0;
  firstToken = 0;
  count = 0;
  /** `count` results, `u32 length, bytes` each (NO_RESULT: no bytes), checked; empty when no task has a result. */
  resultsStart = 0;
  resultsEnd = 0;

  #buffer: Buffer = NO_BYTES;
  #offset = 0;
  #end = 0;
  #named = 0;

  open(buffer: Buffer, start: number, end: number): void {
    this.#buffer = buffer;
    this.#offset = start;
    this.#end = end;
    this.#named = 0;
  }

  /** Throws PROTOCOL for what is not well-formed, PAYLOAD_TOO_LARGE for a result over its limit. */
  next(): boolean {
    const offset = this.#offset;
    const end = this.#end;
    if (offset === end) return false;
    if (end - offset < COMPLETION_FIXED_BYTES) throw malformed('COMPLETE ends inside a run’s header');
    const buffer = this.#buffer;
    this.firstId = readU64(buffer, offset);
    this.firstToken = readU64(buffer, offset + 8);
    this.count = checkCount(readU32(buffer, offset + 16), this.#named);
    this.#named += this.count;
    this.resultsStart = offset + COMPLETION_FIXED_BYTES;
    this.resultsEnd = this.resultsStart + readU32(buffer, offset + 20);
    if (this.resultsEnd > end) throw malformed('COMPLETE ends inside a run’s results');
    if (this.resultsEnd > this.resultsStart) checkResults(buffer, this.resultsStart, this.resultsEnd, this.count);
    this.#offset = this.resultsEnd;
    return true;
  }
}

function checkResults(buffer: Uint8Array, start: number, end: number, count: number): void {
  let offset = start;
  for (let index = 0; index < count; index++) {
    if (end - offset < 4) throw malformed(`result ${index} of ${count} is not there`);
    const length = readU32(buffer, offset);
    offset += 4;
    if (length === NO_RESULT) continue;
    if (length > LIMITS.resultBytesMax) throw resultTooLarge(length);
    offset += length;
  }
  if (offset !== end) throw malformed(`${count} results take ${offset - start} bytes, their run says ${end - start}`);
}

export function resultTooLarge(bytes: number): MillraceError {
  return new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `a result has ${bytes} bytes; at most ${LIMITS.resultBytesMax} are allowed: store large data elsewhere and return where it is`,
    { details: { bytes, bound: LIMITS.resultBytesMax } },
  );
}

/**
 * A worker holds at most prefetchMax tasks, so no frame names more; the bound keeps a small frame from asking for much work.
 * `named`: in the runs before.
 */
function checkCount(count: number, named: number): number {
  if (count === 0 || count > LIMITS.prefetchMax)
    throw malformed(`a run of ${count} tasks; allowed are 1 to ${LIMITS.prefetchMax}`);
  if (named + count > LIMITS.prefetchMax)
    throw malformed(`${named + count} tasks in one frame; at most ${LIMITS.prefetchMax} are allowed`);
  return count;
}

/** Runs for RELEASE. */
export class ReleaseReader {
  firstId = 0;
  firstToken = 0;
  count = 0;

  #buffer: Buffer = NO_BYTES;
  #offset = 0;
  #end = 0;
  #named = 0;

  open(buffer: Buffer, start: number, end: number): void {
    if ((end - start) % RUN_BYTES !== 0)
      throw malformed(`RELEASE has ${end - start} bytes, not a multiple of ${RUN_BYTES}`);
    this.#buffer = buffer;
    this.#offset = start;
    this.#end = end;
    this.#named = 0;
  }

  next(): boolean {
    const offset = this.#offset;
    if (offset === this.#end) return false;
    this.firstId = readU64(this.#buffer, offset);
    this.firstToken = readU64(this.#buffer, offset + 8);
    this.count = checkCount(readU32(this.#buffer, offset + 16), this.#named);
    this.#named += this.count;
    this.#offset = offset + RUN_BYTES;
    return true;
  }
}

/** Failures for FAIL. */
export class FailureReader {
  id = 0;
  token = 0;
  final = false;
  /** Overrides the backoff; undefined when it decides. */
  retryDelayMs: number | undefined = undefined;
  /** JSON `{name, message, code, stack?}`. */
  errorStart = 0;
  errorEnd = 0;

  #buffer: Buffer = NO_BYTES;
  #offset = 0;
  #end = 0;

  open(buffer: Buffer, start: number, end: number): void {
    this.#buffer = buffer;
    this.#offset = start;
    this.#end = end;
  }

  /** Throws PROTOCOL, also for an error text over its limit; INVALID_ARGUMENT for a delay out of bounds. */
  next(): boolean {
    const offset = this.#offset;
    const end = this.#end;
    if (offset === end) return false;
    if (end - offset < FAILURE_FIXED_BYTES) throw malformed('FAIL ends inside a failure');
    const buffer = this.#buffer;
    this.id = readU64(buffer, offset);
    this.token = readU64(buffer, offset + 8);
    const flags = buffer[offset + 16];
    this.final = (flags & FAIL_FINAL) !== 0;
    this.retryDelayMs = (flags & FAIL_DELAY) === 0 ? undefined : checkRetryDelay(readF64(buffer, offset + 17));
    const length = readU32(buffer, offset + 25);
    if (length > LIMITS.errorBytesMax) throw malformed(`an error of ${length} bytes; at most ${LIMITS.errorBytesMax}`);
    this.errorStart = offset + FAILURE_FIXED_BYTES;
    this.errorEnd = this.errorStart + length;
    if (this.errorEnd > end) throw malformed('FAIL ends inside an error');
    this.#offset = this.errorEnd;
    return true;
  }
}

function checkRetryDelay(ms: number): number {
  if (ms >= 0 && ms <= LIMITS.delayMsMax) return ms;
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `the delay before the next attempt is ${ms} ms; allowed are 0 to ${LIMITS.delayMsMax}`,
    {
      details: { value: ms, bound: LIMITS.delayMsMax },
    },
  );
}

/** Calls `each` for every id of a SETTLED, WAIT or UNWAIT body. */
export function readIds(buffer: Buffer, start: number, end: number, each: (id: number) => void): void {
  if ((end - start) % 8 !== 0) throw malformed(`a list of ids has ${end - start} bytes, not a multiple of 8`);
  for (let offset = start; offset < end; offset += 8) each(readU64(buffer, offset));
}

/** The body of BEGUN. */
export function readToken(buffer: Buffer, start: number, end: number): number {
  if (end - start !== 8) throw malformed(`BEGUN has ${end - start} bytes, not 8`);
  return readU64(buffer, start);
}

const REVOCATION_BYTES = 17;

export function readRevocations(
  buffer: Buffer,
  start: number,
  end: number,
  each: (id: number, token: number, reason: number) => void,
): void {
  if ((end - start) % REVOCATION_BYTES !== 0) throw malformed(`REVOKE has ${end - start} bytes, not a multiple of 17`);
  for (let offset = start; offset < end; offset += REVOCATION_BYTES) {
    each(readU64(buffer, offset), readU64(buffer, offset + 8), buffer[offset + 16]);
  }
}

/** Appends one outcome to a RESULT frame; `bytes` is the result (COMPLETED) or the error's JSON (DEAD). */
export function writeResult(writer: FrameWriter, id: number, state: number, bytes: Uint8Array | undefined): void {
  writer.u64(id);
  writer.u8(state);
  writer.u32(bytes === undefined ? 0 : bytes.length);
  if (bytes !== undefined) writer.bytes(bytes);
}

/** `bytes` lie in `buffer` from `bytesStart` to before `bytesEnd` and are lent for the call. */
export type ResultCallback = (id: number, state: number, bytesStart: number, bytesEnd: number) => void;

export function readResults(buffer: Buffer, start: number, end: number, each: ResultCallback): void {
  let offset = start;
  while (offset < end) {
    if (end - offset < 13) throw malformed('RESULT ends inside an outcome');
    const bytesStart = offset + 13;
    const bytesEnd = bytesStart + readU32(buffer, offset + 9);
    if (bytesEnd > end) throw malformed('RESULT ends inside its bytes');
    const state = buffer[offset + 8];
    if (state < RESULT_STATE.COMPLETED || state > RESULT_STATE.UNREADABLE)
      throw malformed(`there is no outcome ${state}`);
    each(readU64(buffer, offset), state, bytesStart, bytesEnd);
    offset = bytesEnd;
  }
}
