import type { Payload, TaskSpec, When } from '../broker/contract.ts';
import { invariant, MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import {
  BATCH_HEADER_BYTES,
  payloadTooLarge,
  SECTION_FIXED_BYTES,
  SECTION_LENGTHS_BYTES,
  WHEN,
  WHEN_BYTES,
} from './batch.ts';
import { writeF64, writeU16, writeU32, writeU48 } from './bytes.ts';
import { FRAME, HEADER_BYTES } from './frames.ts';
import { payloadBytes, payloadBytesBound, writePayloads, writePrefixed } from './payloads.ts';
import { encodeSpec } from './spec.ts';
import type { BufferPool } from './writer.ts';

const TASKS_START = HEADER_BYTES + BATCH_HEADER_BYTES;
/** Single payloads wait here to be encoded together. */
const PENDING_MAX = 256;
const PENDING_BYTES_MAX = 256 * 1024;

/**
 * One ENQUEUE frame in the making, whole with its header, so that it can be kept and sent again. Tasks that follow each
 * other with the same spec object and start time share a section. `add…` either takes everything or throws and changes
 * nothing; then `seal`, and `release` when neither a link nor the client needs the bytes any more.
 */
export class BatchWriter {
  taskCount = 0;
  readonly #pool: BufferPool;
  #buffer: Buffer;
  #offset = TASKS_START;
  /** What the open section was begun with: the spec of its tasks, or its head as another frame has it. */
  #spec: TaskSpec | Uint8Array | undefined;
  #when: When = { kind: 'now' };
  #sectionStart = 0;
  #tasksStart = 0;
  #sectionCount = 0;
  #pending: Payload[] = [];
  /** What `#pending` can take at most. */
  #pendingBound = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#buffer = pool.take(0);
  }

  /** Bytes of the frame; an upper bound until it is sealed. */
  get bytes(): number {
    return this.#offset + this.#pendingBound;
  }

  /** `prefix`: its headers, packed. Throws INVALID_ARGUMENT for the spec, PAYLOAD_TOO_LARGE. */
  add(spec: TaskSpec, when: When, payload: Payload, prefix?: Uint8Array): void {
    const bound = payloadBytesBound(payload);
    if (bound - 4 > LIMITS.payloadBytesMax) checkPayload(payload, undefined);
    if (prefix !== undefined) {
      this.addMany(spec, when, [payload], bound + prefix.length, prefix);
      return;
    }
    this.#enter(spec, when);
    this.#pending.push(payload);
    this.#pendingBound += bound;
    this.#sectionCount++;
    this.taskCount++;
    if (this.#pending.length === PENDING_MAX || this.#pendingBound >= PENDING_BYTES_MAX) this.#encodePending();
  }

  /**
   * `payloads` must not change until the batch is sealed. Throws INVALID_ARGUMENT for the spec, PAYLOAD_TOO_LARGE for a
   * payload. Whether they fit into the frame is the caller's question: `manyBytesBound`. `prefix`: the headers of each.
   */
  addMany(spec: TaskSpec, when: When, payloads: readonly Payload[], bytesBound: number, prefix?: Uint8Array): void {
    this.#enter(spec, when);
    this.#encodePending();
    const at = this.#room(bytesBound);
    this.#offset =
      prefix === undefined
        ? writePayloads(this.#buffer, at, payloads, 0, payloads.length)
        : writePrefixed(this.#buffer, at, prefix, payloads);
    this.#sectionCount += payloads.length;
    this.taskCount += payloads.length;
  }

  /**
   * Tasks of a section as another frame has them packed. `head` is the section's, without its lengths; those that come with
   * the same object share a section.
   */
  addPacked(head: Uint8Array, tasks: Uint8Array, count: number): void {
    if (head !== this.#spec) {
      this.#closeSection();
      const at = this.#room(head.length + SECTION_LENGTHS_BYTES);
      this.#buffer.set(head, at);
      this.#begin(head, head.length);
    }
    const at = this.#room(tasks.length);
    this.#buffer.set(tasks, at);
    this.#offset = at + tasks.length;
    this.#sectionCount += count;
    this.taskCount += count;
  }

  /** What follows has a section of its own, whatever came before. */
  separate(): void {
    this.#closeSection();
    this.#spec = undefined;
  }

  /** Completes the frame; the bytes are the writer's until `release`. With a `trailer` it is a SUBMIT. */
  seal(batch: number, trailer?: Uint8Array): Buffer {
    invariant(
      this.taskCount > 0 && this.taskCount <= LIMITS.batchTasksMax,
      `a batch of ${this.taskCount} tasks was sealed`,
    );
    this.#closeSection();
    if (trailer !== undefined) {
      const at = this.#room(trailer.length);
      this.#buffer.set(trailer, at);
      this.#offset = at + trailer.length;
    }
    const bodyBytes = this.#offset - HEADER_BYTES;
    invariant(bodyBytes <= LIMITS.frameBytesMax, `a batch of ${bodyBytes} bytes was sealed`);
    const buffer = this.#buffer;
    writeU32(buffer, 0, bodyBytes);
    buffer[4] = trailer === undefined ? FRAME.ENQUEUE : FRAME.SUBMIT;
    writeU48(buffer, HEADER_BYTES, batch);
    writeU32(buffer, HEADER_BYTES + 12, this.taskCount);
    return buffer.subarray(0, this.#offset);
  }

  /** Sets what differs between two sendings of the same batch. */
  address(requestId: number, lowestUnconfirmed: number): void {
    writeU32(this.#buffer, 5, requestId);
    writeU48(this.#buffer, HEADER_BYTES + 6, lowestUnconfirmed);
  }

  release(): void {
    this.#pool.give(this.#buffer);
  }

  #enter(spec: TaskSpec, when: When): void {
    const current = this.#when;
    if (spec === this.#spec && (when === current || sameTime(when, current))) return;
    const bytes = encodeSpec(spec);
    this.#closeSection();
    const at = this.#room(bytes.length + SECTION_FIXED_BYTES);
    const buffer = this.#buffer;
    writeU16(buffer, at, bytes.length);
    buffer.set(bytes, at + 2);
    const specEnd = at + 2 + bytes.length;
    buffer[specEnd] = when.kind === 'now' ? WHEN.NOW : when.kind === 'delay' ? WHEN.DELAY : WHEN.AT;
    writeF64(buffer, specEnd + 1, when.kind === 'now' ? 0 : when.ms);
    this.#begin(spec, specEnd + WHEN_BYTES - at);
    this.#when = when;
  }

  /** A section whose head, of so many bytes, was written at the offset. */
  #begin(spec: TaskSpec | Uint8Array, headBytes: number): void {
    this.#spec = spec;
    this.#sectionStart = this.#offset + headBytes;
    this.#tasksStart = this.#sectionStart + SECTION_LENGTHS_BYTES;
    this.#offset = this.#tasksStart;
    this.#sectionCount = 0;
  }

  #closeSection(): void {
    if (this.#spec === undefined) return;
    this.#encodePending();
    writeU32(this.#buffer, this.#sectionStart, this.#sectionCount);
    writeU32(this.#buffer, this.#sectionStart + 4, this.#offset - this.#tasksStart);
  }

  #encodePending(): void {
    if (this.#pending.length === 0) return;
    this.#room(this.#pendingBound);
    this.#offset = writePayloads(this.#buffer, this.#offset, this.#pending, 0, this.#pending.length);
    this.#pending.length = 0;
    this.#pendingBound = 0;
  }

  /** Makes room for `count` bytes at the offset, which it returns. */
  #room(count: number): number {
    const needed = this.#offset + count;
    if (needed > this.#buffer.length) {
      const grown = this.#pool.take(needed);
      this.#buffer.copy(grown, 0, 0, this.#offset);
      this.#pool.give(this.#buffer);
      this.#buffer = grown;
    }
    return this.#offset;
  }
}

function sameTime(a: When, b: When): boolean {
  if (a.kind === 'now' || b.kind === 'now') return a.kind === b.kind;
  return a.kind === b.kind && a.ms === b.ms;
}

function checkPayload(payload: Payload, index: number | undefined): void {
  const bytes = payloadBytes(payload);
  if (bytes > LIMITS.payloadBytesMax) throw payloadTooLarge(bytes, index);
}

/**
 * How much room `addMany` needs at most. Throws INVALID_ARGUMENT for too many payloads, PAYLOAD_TOO_LARGE for one over its
 * limit or for more together than a frame holds. `prefixBytes`: of the headers of each.
 */
export function manyBytesBound(payloads: readonly Payload[], prefixBytes = 0): number {
  if (payloads.length > LIMITS.batchTasksMax) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `${payloads.length} tasks in one enqueueMany; at most ${LIMITS.batchTasksMax} are allowed: split them over several calls`,
      { details: { value: payloads.length, bound: LIMITS.batchTasksMax } },
    );
  }
  let bound = payloads.length * prefixBytes;
  for (let index = 0; index < payloads.length; index++) {
    const most = payloadBytesBound(payloads[index]);
    if (most - 4 > LIMITS.payloadBytesMax) checkPayload(payloads[index], index);
    bound += most;
  }
  if (bound <= MANY_BYTES_MAX) return bound;
  let bytes = payloads.length * prefixBytes;
  for (const payload of payloads) bytes += 4 + payloadBytes(payload);
  if (bytes <= MANY_BYTES_MAX) return bytes;
  throw new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `the ${prefixBytes > 0 ? 'payloads and headers' : 'payloads'} of one enqueueMany take ${bytes} bytes; at most ${MANY_BYTES_MAX} are allowed: split them over several calls`,
    { details: { bytes, bound: MANY_BYTES_MAX } },
  );
}

/** Leaves room for the batch's header and a section's. */
const MANY_BYTES_MAX = LIMITS.frameBytesMax - 1024;
