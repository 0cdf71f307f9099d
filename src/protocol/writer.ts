import type { Payload } from '../broker/contract.ts';
import { invariant } from '../errors.ts';
import { writeF64, writeU16, writeU32, writeU48, writeU64 } from './bytes.ts';
import { bodyBytesMax, frameName, HEADER_BYTES } from './frames.ts';
import { payloadBytesBound, writePayloads } from './payloads.ts';

/** Where frames go; a `Link` is one. It owns the bytes until it calls `written`. */
export interface FrameSink {
  write(bytes: Uint8Array, written?: () => void): void;
}

const POOLED_BYTES_MIN = 32 * 1024;
const POOLED_BYTES_MAX = 2 * 1024 * 1024;
const POOL_BYTES_MAX = 16 * 1024 * 1024;

/** Output buffers that wait for their next use, in powers of two. One pool serves all links, so that idle ones hold none. */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  #bytes = 0;

  /** A buffer of at least `bytesMin`, with old content. */
  take(bytesMin: number): Buffer {
    let size = POOLED_BYTES_MIN;
    while (size < bytesMin) size *= 2;
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#bytes -= size;
    return buffer;
  }

  /** Gives back what `take` gave; nobody may use it any more. */
  give(buffer: Buffer): void {
    const size = buffer.length;
    if (size > POOLED_BYTES_MAX || this.#bytes + size > POOL_BYTES_MAX) return;
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [buffer]);
    else free.push(buffer);
    this.#bytes += size;
  }
}

export const sharedPool = new BufferPool();

/** Gathered output beyond this is sent without waiting for the turn to end. */
const FLUSH_BYTES = 1024 * 1024;

/**
 * Gathers the frames of one turn for one link and hands them over as one buffer. A frame is written as
 * `begin(type, requestId)`, its fields in order, `end()`. `schedule` is called with `flush` when the first frame of a
 * turn is whole; use the clock's `defer`, or `deferPastInput` to answer everything that was read with one write.
 */
export class FrameWriter {
  readonly #sink: FrameSink;
  readonly #schedule: (flush: () => void) => void;
  readonly #pool: BufferPool;
  readonly #flush = (): void => this.flush();
  #buffer: Buffer | undefined;
  #offset = 0;
  #frameStart = -1;
  #scheduled = false;
  #closed = false;

  constructor(sink: FrameSink, schedule: (flush: () => void) => void, pool: BufferPool = sharedPool) {
    this.#sink = sink;
    this.#schedule = schedule;
    this.#pool = pool;
  }

  /** Bytes that were not handed to the link yet, those of a frame that is being written too. */
  get pendingBytes(): number {
    return this.#offset;
  }

  get insideFrame(): boolean {
    return this.#frameStart !== -1;
  }

  /** Length so far of the body being written. */
  get bodyBytes(): number {
    return this.#offset - this.#frameStart - HEADER_BYTES;
  }

  begin(type: number, requestId: number): void {
    invariant(this.#frameStart === -1, 'a frame was begun inside a frame');
    const at = this.#room(HEADER_BYTES);
    const buffer = this.#buffer as Buffer;
    buffer[at + 4] = type;
    writeU32(buffer, at + 5, requestId);
    this.#frameStart = at;
  }

  u8(value: number): void {
    const at = this.#room(1);
    (this.#buffer as Buffer)[at] = value;
  }

  u16(value: number): void {
    const at = this.#room(2);
    writeU16(this.#buffer as Buffer, at, value);
  }

  u32(value: number): void {
    const at = this.#room(4);
    writeU32(this.#buffer as Buffer, at, value);
  }

  u48(value: number): void {
    const at = this.#room(6);
    writeU48(this.#buffer as Buffer, at, value);
  }

  u64(value: number): void {
    const at = this.#room(8);
    writeU64(this.#buffer as Buffer, at, value);
  }

  f64(value: number): void {
    const at = this.#room(8);
    writeF64(this.#buffer as Buffer, at, value);
  }

  /** Copies `source[start … end-1]`. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    const at = this.#room(end - start);
    const buffer = this.#buffer as Buffer;
    if (end - start < 16) for (let index = start, to = at; index < end; index++, to++) buffer[to] = source[index];
    else buffer.set(start === 0 && end === source.length ? source : source.subarray(start, end), at);
  }

  /** Appends UTF-8 without a length; returns how many bytes that were. */
  text(value: string): number {
    const at = this.#room(value.length * 3);
    const written = (this.#buffer as Buffer).write(value, at, 'utf8');
    this.#offset = at + written;
    return written;
  }

  /** `values[from … to-1]`, each with its length; `undefined` as the length 0xFFFFFFFF. */
  payloads(values: readonly (Payload | undefined)[], from: number, to: number): void {
    let bound = 0;
    for (let index = from; index < to; index++) bound += payloadBytesBound(values[index]);
    const at = this.#room(bound);
    this.#offset = writePayloads(this.#buffer as Buffer, at, values, from, to);
  }

  /** The offset for `patchU32`: leaves room for a number that is known only after what follows it. */
  reserveU32(): number {
    return this.#room(4) - this.#frameStart - HEADER_BYTES;
  }

  patchU32(reserved: number, value: number): void {
    writeU32(this.#buffer as Buffer, this.#frameStart + HEADER_BYTES + reserved, value);
  }

  /** Completes the frame. A body over the type's limit is a defect of the caller. */
  end(): void {
    const buffer = this.#buffer as Buffer;
    const start = this.#frameStart;
    const bodyBytes = this.#offset - start - HEADER_BYTES;
    const type = buffer[start + 4];
    this.#frameStart = -1;
    if (bodyBytes > bodyBytesMax(type)) {
      this.#offset = start;
      invariant(
        false,
        `a ${frameName(type)} frame of ${bodyBytes} bytes was written; the bound is ${bodyBytesMax(type)}`,
      );
    }
    writeU32(buffer, start, bodyBytes);
    if (this.#offset >= FLUSH_BYTES) this.flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      this.#schedule(this.#flush);
    }
  }

  /** Drops the frame that was begun. */
  abandon(): void {
    this.#offset = this.#frameStart;
    this.#frameStart = -1;
  }

  /** A frame whose whole body is JSON. */
  json(type: number, requestId: number, value: unknown): void {
    this.begin(type, requestId);
    this.text(JSON.stringify(value));
    this.end();
  }

  /** A frame without a body. */
  empty(type: number, requestId: number): void {
    this.begin(type, requestId);
    this.end();
  }

  /** Hands over what is gathered now. */
  flush(): void {
    this.#scheduled = false;
    const buffer = this.#buffer;
    const used = this.#offset;
    if (buffer === undefined || used === 0) return;
    invariant(this.#frameStart === -1, 'a flush came inside a frame');
    this.#offset = 0;
    if (this.#closed) return;
    if (used * 4 <= buffer.length) {
      // A link that does not drain must not hold a large buffer for each small write.
      this.#sink.write(Buffer.from(buffer.subarray(0, used)));
      return;
    }
    this.#buffer = undefined;
    this.#sink.write(buffer.subarray(0, used), () => this.#pool.give(buffer));
  }

  /** Drops what was not handed over, and everything written later. */
  close(): void {
    this.#closed = true;
    this.#offset = 0;
    this.#frameStart = -1;
    if (this.#buffer !== undefined) this.#pool.give(this.#buffer);
    this.#buffer = undefined;
  }

  /** Makes room for `count` more bytes, counts them as used and returns where they begin. */
  #room(count: number): number {
    const at = this.#offset;
    const needed = at + count;
    if (this.#buffer === undefined || needed > this.#buffer.length) this.#grow(needed);
    this.#offset = needed;
    return at;
  }

  #grow(needed: number): void {
    const old = this.#buffer;
    const grown = this.#pool.take(needed);
    if (old !== undefined) {
      old.copy(grown, 0, 0, this.#offset);
      this.#pool.give(old);
    }
    this.#buffer = grown;
  }
}
