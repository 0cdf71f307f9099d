import type { TaskHeaders } from '../broker/contract.ts';
import { headerBytes, LIMITS, tooManyHeaders } from '../limits.ts';
import { malformed, readU16, readU32, writeU16 } from './bytes.ts';

/**
 * A task's headers, on the wire and in the journal. They stand before its payload, and the top bit of the task's length
 * says that they do; a task without any is what it was before there were headers.
 *
 * ```
 * task     = u32 length, bytes               bytes = payload; with HEADERS_FLAG in the length: u16 byteLength, header+, payload
 * header   = u8 length, name, u16 length, value
 * ```
 * The length, without the flag, counts all bytes that follow it.
 */
export const HEADERS_FLAG = 0x8000_0000;
/** Takes the flag from a length. */
const LENGTH_MASK = 0x7fff_ffff;
const PREFIX_FIXED_BYTES = 2;

/** The bytes behind a task's length, headers included. */
export function taskBytes(from: Uint8Array, offset: number): number {
  return readU32(from, offset) & LENGTH_MASK;
}

export function hasHeaders(from: Uint8Array, offset: number): boolean {
  return from[offset + 3] > 0x7f;
}

/** Where the payload of the task at `offset` begins, whose bytes are all there. */
export function payloadStart(from: Uint8Array, offset: number): number {
  const start = offset + 4;
  return hasHeaders(from, offset) ? start + PREFIX_FIXED_BYTES + readU16(from, start) : start;
}

/** What stands between a task's length and its payload. The headers were checked. */
export function packHeaders(headers: TaskHeaders): Buffer {
  const entries = Object.entries(headers);
  let size = PREFIX_FIXED_BYTES;
  for (const [name, value] of entries) size += headerBytes(name, value);
  const bytes = Buffer.allocUnsafe(size);
  writeU16(bytes, 0, size - PREFIX_FIXED_BYTES);
  let at = PREFIX_FIXED_BYTES;
  for (const [name, value] of entries) {
    const nameBytes = bytes.write(name, at + 1);
    bytes[at] = nameBytes;
    at += 1 + nameBytes;
    const valueBytes = bytes.write(value, at + 2);
    writeU16(bytes, at, valueBytes);
    at += 2 + valueBytes;
  }
  return bytes;
}

/** From the `u16 byteLength` on; what `checkPacked` has passed. Of a name that comes twice the last value counts. */
export function unpackHeaders(bytes: Buffer, start: number): TaskHeaders {
  const entries: [string, string][] = [];
  const end = start + PREFIX_FIXED_BYTES + readU16(bytes, start);
  for (let at = start + PREFIX_FIXED_BYTES; at < end; ) {
    const valueAt = at + 1 + bytes[at];
    const valueEnd = valueAt + 2 + readU16(bytes, valueAt);
    entries.push([bytes.toString('utf8', at + 1, valueAt), bytes.toString('utf8', valueAt + 2, valueEnd)]);
    at = valueEnd;
  }
  return Object.fromEntries(entries);
}

/**
 * Checks that a task's bytes begin with headers within their limits, and returns where the payload begins. Throws PROTOCOL,
 * and INVALID_ARGUMENT for what is out of bounds.
 */
export function checkPacked(bytes: Uint8Array, start: number, end: number, index: number): number {
  const first = start + PREFIX_FIXED_BYTES;
  const headersEnd = first > end ? end + 1 : first + readU16(bytes, start);
  if (headersEnd > end) throw malformed(`task ${index} ends inside its headers`);
  const size = headersEnd - first;
  if (size > LIMITS.headersBytesMax) throw tooManyHeaders(size, 'bytes of headers', LIMITS.headersBytesMax);
  let count = 0;
  for (let at = first; at < headersEnd; count++) {
    const valueAt = at + 1 + bytes[at];
    const valueEnd = valueAt + 2 > headersEnd ? headersEnd + 1 : valueAt + 2 + readU16(bytes, valueAt);
    if (valueEnd > headersEnd) throw malformed(`header ${count} of task ${index} does not end where its headers do`);
    if (bytes[at] === 0 || bytes[at] > LIMITS.headerNameBytesMax) {
      throw malformed(
        `the name of header ${count} of task ${index} has ${bytes[at]} bytes, not 1 to ${LIMITS.headerNameBytesMax}`,
      );
    }
    at = valueEnd;
  }
  if (count === 0) throw malformed(`task ${index} says that it has headers, and has none`);
  if (count > LIMITS.headersMax) throw tooManyHeaders(count, 'headers', LIMITS.headersMax);
  return headersEnd;
}
