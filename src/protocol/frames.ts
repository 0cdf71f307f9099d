import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { malformed, readU32 } from './bytes.ts';

/**
 * Frames: `u32 bodyLength, u8 type, u32 requestId, body`. Version 1 of the format is described in docs/protocol.md. To
 * change it: raise PROTOCOL_VERSION, say in that page what changed, and let WELCOME refuse what is no longer understood. Of
 * each version that is, a conversation lies in test/format, as it was when that was released; add one, change none.
 */
export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 9;

export const FRAME = {
  HELLO: 1,
  WELCOME: 2,
  ERROR: 3,
  PING: 4,
  PONG: 5,
  GOAWAY: 6,
  ENQUEUE: 16,
  CONFIRM: 17,
  SUBMIT: 18,
  SUBSCRIBE: 32,
  DELIVER: 33,
  COMPLETE: 34,
  FAIL: 35,
  RELEASE: 36,
  SETTLED: 37,
  REVOKE: 38,
  UNSUBSCRIBE: 39,
  PROGRESS: 40,
  BEGUN: 41,
  LOG: 42,
  WAIT: 48,
  UNWAIT: 49,
  RESULT: 50,
  WATCH: 56,
  UNWATCH: 57,
  EVENTS: 58,
  CALL: 64,
  REPLY: 65,
} as const;

export type FrameType = (typeof FRAME)[keyof typeof FRAME];

const NAMES = new Map<number, string>(Object.entries(FRAME).map(([name, type]) => [type, name]));
const UNKNOWN = -1;

/** Body length limits by type. SUBSCRIBE and REPLY carry JSON but may list a whole prefetch or a payload with its result. */
const BODY_BYTES_MAX = new Int32Array(256).fill(UNKNOWN);
for (const type of Object.values(FRAME)) BODY_BYTES_MAX[type] = LIMITS.frameBytesMax;
BODY_BYTES_MAX[FRAME.HELLO] = LIMITS.helloBytesMax;
for (const type of [FRAME.WELCOME, FRAME.ERROR, FRAME.GOAWAY, FRAME.CALL, FRAME.WATCH, FRAME.UNWATCH]) {
  BODY_BYTES_MAX[type] = LIMITS.callBytesMax;
}
for (const type of [FRAME.PING, FRAME.PONG, FRAME.UNSUBSCRIBE]) BODY_BYTES_MAX[type] = 0;
BODY_BYTES_MAX[FRAME.CONFIRM] = 18;
BODY_BYTES_MAX[FRAME.BEGUN] = 8;

/** For messages: `ENQUEUE`, or the number of a type that does not exist. */
export function frameName(type: number): string {
  return NAMES.get(type) ?? `type ${type}`;
}

/** The longest body that a frame of this type may have; -1 when there is no such type. */
export function bodyBytesMax(type: number): number {
  return BODY_BYTES_MAX[type];
}

/**
 * Takes one whole frame. `buffer` is lent for the call only: it is the chunk that was read, or a buffer that the next
 * frame overwrites. The body is `buffer[start … end-1]`.
 */
export type FrameCallback = (type: number, requestId: number, buffer: Buffer, start: number, end: number) => void;

/** A gathering buffer larger than this is given up after use, so that idle connections hold little. */
const GATHER_BYTES_KEPT = 1024 * 1024;
const GATHER_BYTES_MIN = 16 * 1024;
const NO_BYTES = Buffer.alloc(0);

/**
 * Cuts a byte stream into frames. A frame that lies inside one chunk is handed over where it is; only frames that
 * straddle chunks are copied. `push` throws PROTOCOL for a header that no frame may have, before its body comes, and
 * what the callback throws; the reader cannot be used after either.
 */
export class FrameReader {
  readonly #onFrame: FrameCallback;
  readonly #firstType: number | undefined;
  #gathered: Buffer = NO_BYTES;
  /** Bytes of an unfinished frame in `#gathered`. */
  #held = 0;
  /** Length of the unfinished frame with its header; 0 while the header is unfinished. */
  #wanted = 0;
  #first = true;
  #stopped = false;

  /** `firstType`: what the first frame must be, so that nothing of another is gathered. */
  constructor(onFrame: FrameCallback, { firstType }: { firstType?: FrameType } = {}) {
    this.#onFrame = onFrame;
    this.#firstType = firstType;
  }

  /** Whether bytes of an unfinished frame are held: the time for a frame counts from when this became true. */
  get insideFrame(): boolean {
    return this.#held > 0;
  }

  /** Of an unfinished frame. */
  get heldBytes(): number {
    return this.#held;
  }

  /** What has not come yet of the unfinished frame; 0 when there is none, or its header is not whole. */
  get missingBytes(): number {
    return Math.max(0, this.#wanted - this.#held);
  }

  /** Ignores whatever comes from now on, also the rest of the chunk that is being read. */
  stop(): void {
    this.#stopped = true;
  }

  push(chunk: Buffer): void {
    let offset = this.#held > 0 ? this.#finish(chunk) : 0;
    const length = chunk.length;
    while (length - offset >= HEADER_BYTES && !this.#stopped) {
      const end = offset + this.#frameBytes(chunk, offset);
      if (end > length) break;
      this.#onFrame(chunk[offset + 4], readU32(chunk, offset + 5), chunk, offset + HEADER_BYTES, end);
      offset = end;
    }
    if (offset < length && !this.#stopped) this.#hold(chunk, offset, length);
  }

  /** Completes the frame held; returns how much of the chunk that took. */
  #finish(chunk: Buffer): number {
    let offset = 0;
    if (this.#wanted === 0) {
      offset = Math.min(HEADER_BYTES - this.#held, chunk.length);
      this.#hold(chunk, 0, offset);
      if (this.#wanted === 0) return offset;
    }
    const taken = Math.min(this.#wanted - this.#held, chunk.length - offset);
    this.#hold(chunk, offset, offset + taken);
    if (this.#held < this.#wanted) return offset + taken;
    const gathered = this.#gathered;
    const end = this.#wanted;
    this.#held = 0;
    this.#wanted = 0;
    if (gathered.length > GATHER_BYTES_KEPT) this.#gathered = NO_BYTES;
    if (!this.#stopped) this.#onFrame(gathered[4], readU32(gathered, 5), gathered, HEADER_BYTES, end);
    return offset + taken;
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const needed = this.#held + end - start;
    if (needed > this.#gathered.length) {
      // Doubles with what has come, not with what was announced: a header alone must not cost 16 MiB.
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#gathered.length * 2, GATHER_BYTES_MIN));
      this.#gathered.copy(grown, 0, 0, this.#held);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered, this.#held, start, end);
    this.#held = needed;
    if (this.#wanted === 0 && needed >= HEADER_BYTES) this.#wanted = this.#frameBytes(this.#gathered, 0);
  }

  #frameBytes(buffer: Buffer, offset: number): number {
    const type = buffer[offset + 4];
    if (this.#first) {
      const foreign = describeForeignBytes(buffer.subarray(offset, offset + HEADER_BYTES));
      if (foreign !== undefined) throw new MillraceError('PROTOCOL', foreign);
      this.#checkFirst(type);
      this.#first = false;
    }
    const bodyBytes = readU32(buffer, offset);
    const bound = BODY_BYTES_MAX[type];
    if (bound === UNKNOWN) throw malformed(`there is no frame type ${type}`, { type });
    if (bodyBytes > bound) {
      throw malformed(`a ${frameName(type)} frame of ${bodyBytes} bytes; at most ${bound} are allowed`, {
        type,
        bodyBytes,
        bound,
      });
    }
    return HEADER_BYTES + bodyBytes;
  }

  #checkFirst(type: number): void {
    const first = this.#firstType;
    if (first === undefined || type === first || !NAMES.has(type)) return;
    throw new MillraceError('PROTOCOL', `the first frame must be ${frameName(first)}, not ${frameName(type)}`);
  }
}

const HTTP_STARTS = ['GET ', 'POST', 'PUT ', 'HEAD', 'OPTI', 'DELE', 'PATC', 'CONN', 'TRAC', 'PRI ', 'HTTP'];

/** What the first bytes of a connection are when they are another well-known protocol; undefined when they are none. */
export function describeForeignBytes(bytes: Uint8Array): string | undefined {
  // Read as a header, all of these announce more than any first frame may hold, so none hides a real one.
  if (bytes[0] === 0x16 && bytes[1] === 3 && bytes[2] >= 1 && bytes[2] <= 4) {
    return 'the other side speaks TLS; this port takes plain connections: use tcp:// in place of tls://, or give the server a certificate';
  }
  const start = Buffer.from(bytes.subarray(0, 4)).toString('latin1');
  if (start === 'HTTP')
    return 'the other side answered in HTTP: that port is a web server, not the task port (5555 unless changed)';
  if (HTTP_STARTS.includes(start)) {
    return 'the other side speaks HTTP; this port takes tasks and has no web pages: look at them with millrace status';
  }
  if (start === 'AMQP') return 'the other side speaks AMQP, as RabbitMQ does, which Millrace does not: check the port';
  if (start === 'SSH-') return 'the other side speaks SSH: check the port';
  return undefined;
}

const CUT_MESSAGE_CHARACTERS_MAX = 4000;

/** The body of ERROR. It fits, whatever the error quotes: a message that did not fit is cut, details are left out. */
export function errorBody(error: MillraceError): string {
  try {
    const whole = JSON.stringify(error.toJSON());
    if (Buffer.byteLength(whole) <= bodyBytesMax(FRAME.ERROR)) return whole;
  } catch (cause) {
    // Details that are nested too deeply to be written.
    if (!(cause instanceof RangeError)) throw cause;
  }
  const { code, message } = error;
  return JSON.stringify({ code, message: `${message.slice(0, CUT_MESSAGE_CHARACTERS_MAX)}…`, details: {} });
}

/** The body of a JSON frame, which is always an object. Throws PROTOCOL. */
export function readJson(buffer: Buffer, start: number, end: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(buffer.toString('utf8', start, end));
  } catch (cause) {
    throw new MillraceError('PROTOCOL', 'malformed frame: the body is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw malformed('the body is not a JSON object');
  return value as Record<string, unknown>;
}
