import type { AttemptRun, FailOptions, Payload, TaskError } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { FAIL_DELAY, FAIL_FINAL } from './settlement.ts';
import type { FrameWriter } from './writer.ts';

/**
 * Writes the body of a COMPLETE frame that the caller begins and ends. Ids that follow each other with tokens
 * that do too become one run; `finish` before the frame's end.
 */
export class CompletionWriter {
  readonly #writer: FrameWriter;
  #id = -1;
  #token = -1;
  #count = 0;
  #withResults = false;
  #countAt = 0;
  #resultsAt = 0;

  constructor(writer: FrameWriter) {
    this.#writer = writer;
  }

  /** Tasks without results. */
  add(firstId: number, firstToken: number, count: number): void {
    this.#extend(firstId, firstToken, count, false);
  }

  /** Tasks with the results `results[from …]`; `undefined` for one that has none. */
  addWithResults(
    firstId: number,
    firstToken: number,
    count: number,
    results: readonly (Payload | undefined)[],
    from: number,
  ): void {
    this.#extend(firstId, firstToken, count, true);
    this.#writer.payloads(results, from, from + count);
  }

  finish(): void {
    if (this.#count === 0) return;
    this.#writer.patchU32(this.#countAt, this.#count);
    this.#writer.patchU32(this.#resultsAt, this.#writer.bodyBytes - this.#resultsAt - 4);
    this.#count = 0;
  }

  #extend(firstId: number, firstToken: number, count: number, withResults: boolean): void {
    const follows = firstId === this.#id + this.#count && firstToken === this.#token + this.#count;
    if (follows && this.#count > 0 && this.#count + count <= LIMITS.prefetchMax && withResults === this.#withResults) {
      this.#count += count;
      return;
    }
    this.finish();
    const writer = this.#writer;
    writer.u64(firstId);
    writer.u64(firstToken);
    this.#countAt = writer.reserveU32();
    this.#resultsAt = writer.reserveU32();
    this.#id = firstId;
    this.#token = firstToken;
    this.#count = count;
    this.#withResults = withResults;
  }
}

/** Writes the body of a RELEASE frame: runs without results. */
export class ReleaseWriter {
  readonly #writer: FrameWriter;
  #id = -1;
  #token = -1;
  #count = 0;

  constructor(writer: FrameWriter) {
    this.#writer = writer;
  }

  add(id: number, token: number): void {
    if (id === this.#id + this.#count && token === this.#token + this.#count && this.#count > 0) {
      this.#count++;
      return;
    }
    this.finish();
    this.#id = id;
    this.#token = token;
    this.#count = 1;
  }

  finish(): void {
    if (this.#count === 0) return;
    this.#writer.u64(this.#id);
    this.#writer.u64(this.#token);
    this.#writer.u32(this.#count);
    this.#count = 0;
  }
}

/** Appends one failure to a FAIL frame. `error` is the JSON that `encodeTaskError` gave. */
export function writeFailure(
  writer: FrameWriter,
  id: number,
  token: number,
  error: string,
  options: FailOptions,
): void {
  const delayMs = options.retryDelayMs;
  writer.u64(id);
  writer.u64(token);
  writer.u8((options.final ? FAIL_FINAL : 0) | (delayMs === undefined ? 0 : FAIL_DELAY));
  writer.f64(delayMs ?? 0);
  const lengthAt = writer.reserveU32();
  writer.patchU32(lengthAt, writer.text(error));
}

/** JSON of at most LIMITS.errorBytesMax bytes: the stack, then the message, is cut when it would be longer. */
export function encodeTaskError(error: TaskError, run: AttemptRun = {}): string {
  const whole = JSON.stringify({ ...error, ...run });
  if (fits(whole)) return whole;
  const { name, message, code } = error;
  // Each character takes at most 6 bytes of JSON ("\u0001").
  const cut: TaskError & AttemptRun = {
    ...{ name: cutText(name, 64), message: cutText(message, 1000), code: cutText(code, 64) },
    ...run,
  };
  const room = Math.floor((LIMITS.errorBytesMax - Buffer.byteLength(JSON.stringify(cut))) / 6) - 8;
  if (error.stack !== undefined) cut.stack = cutText(error.stack, room);
  else cut.message = cutText(message, 1000 + room);
  return JSON.stringify(cut);
}

function fits(json: string): boolean {
  return json.length * 3 <= LIMITS.errorBytesMax || Buffer.byteLength(json) <= LIMITS.errorBytesMax;
}

function cutText(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax)}…`;
}
