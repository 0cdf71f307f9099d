import type { Payload } from '../broker/contract.ts';
import { writeU32 } from './bytes.ts';
import { HEADERS_FLAG } from './task-headers.ts';

/**
 * Length-prefixed payloads, the layout that ENQUEUE's tasks and COMPLETE's results share: `u32 length, bytes` each.
 *
 * Short ASCII texts, the usual case, are joined with their lengths (as four Latin-1 characters each) and encoded in one
 * call: 40 ns a text of 100 characters where a call for each costs 75.
 */
const JOINED_MAX = 256;
const JOINED_CHARS_MAX = 4096;
const LENGTH_TEXTS = Array.from({ length: JOINED_CHARS_MAX }, (_, length) =>
  String.fromCharCode(length & 0xff, length >>> 8, 0, 0),
);
const ABSENT = 0xffffffff;
const ABSENT_TEXT = '\xff\xff\xff\xff';

/** The most bytes that the payload can take with its length, found without encoding it. */
export function payloadBytesBound(payload: Payload | undefined): number {
  if (payload === undefined) return 4;
  return 4 + (typeof payload === 'string' ? payload.length * 3 : payload.length);
}

/** Bytes of the payload itself. */
export function payloadBytes(payload: Payload): number {
  return typeof payload === 'string' ? Buffer.byteLength(payload, 'utf8') : payload.length;
}

/**
 * Writes `payloads[from … to-1]` at `offset` and returns the offset behind them. The buffer must have room for the sum of
 * their `payloadBytesBound`. `undefined` becomes the length 0xFFFFFFFF.
 */
export function writePayloads(
  into: Buffer,
  offset: number,
  payloads: readonly (Payload | undefined)[],
  from: number,
  to: number,
): number {
  let at = offset;
  let index = from;
  while (index < to) {
    const end = Math.min(to, index + JOINED_MAX);
    const joinedEnd = joinable(payloads, index, end);
    const written = joinedEnd - index > 1 ? writeJoined(into, at, payloads as readonly string[], index, joinedEnd) : 0;
    if (written > 0) {
      at += written;
      index = joinedEnd;
    } else {
      for (const stop = Math.max(joinedEnd, index + 1); index < stop; index++) at = writeOne(into, at, payloads[index]);
    }
  }
  return at;
}

/** Each behind the same `prefix`: see task-headers.ts. The buffer must have room for that each time as well. */
export function writePrefixed(into: Buffer, offset: number, prefix: Uint8Array, payloads: readonly Payload[]): number {
  let at = offset;
  for (const payload of payloads) {
    const start = at + 4 + prefix.length;
    into.set(prefix, at + 4);
    const length = typeof payload === 'string' ? into.write(payload, start, 'utf8') : payload.length;
    if (typeof payload !== 'string') into.set(payload, start);
    writeU32(into, at, (prefix.length + length) | HEADERS_FLAG);
    at = start + length;
  }
  return at;
}

function joinable(payloads: readonly (Payload | undefined)[], from: number, to: number): number {
  let index = from;
  while (index < to) {
    const payload = payloads[index];
    if (payload !== undefined && (typeof payload !== 'string' || payload.length >= JOINED_CHARS_MAX)) break;
    index++;
  }
  return index;
}

/** Bytes written; 0 when a text is not ASCII, so that the joined characters would not be its UTF-8. */
function writeJoined(
  into: Buffer,
  at: number,
  texts: readonly (string | undefined)[],
  from: number,
  to: number,
): number {
  let joined = '';
  // Length characters from 0x80 up: these, and no others, take two bytes each in UTF-8.
  let wide = 0;
  for (let index = from; index < to; index++) {
    const text = texts[index];
    if (text === undefined) {
      wide += 4;
      joined += ABSENT_TEXT;
    } else {
      wide += (text.length >>> 7) & 1;
      joined += LENGTH_TEXTS[text.length] + text;
    }
  }
  if (Buffer.byteLength(joined, 'utf8') !== joined.length + wide) return 0;
  return into.write(joined, at, 'latin1');
}

function writeOne(into: Buffer, at: number, payload: Payload | undefined): number {
  if (payload === undefined) {
    writeU32(into, at, ABSENT);
    return at + 4;
  }
  if (typeof payload === 'string') {
    const length = into.write(payload, at + 4, 'utf8');
    writeU32(into, at, length);
    return at + 4 + length;
  }
  writeU32(into, at, payload.length);
  into.set(payload, at + 4);
  return at + 4 + payload.length;
}
