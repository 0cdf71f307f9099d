import { MillraceError } from '../errors.ts';
import { EPOCH_MAX, SEQUENCE_COUNT } from '../ids.ts';

/**
 * Little-endian numbers at an offset, without bounds checks: the callers check a whole record first. Written out by hand
 * because Buffer's own readers and writers check type and range on each call.
 */
const scratch = new Float64Array(1);
const scratchBytes = new Uint8Array(scratch.buffer);

export function readU16(from: Uint8Array, offset: number): number {
  return from[offset] | (from[offset + 1] << 8);
}

export function readU32(from: Uint8Array, offset: number): number {
  return (from[offset] | (from[offset + 1] << 8) | (from[offset + 2] << 16) | (from[offset + 3] << 24)) >>> 0;
}

export function readU48(from: Uint8Array, offset: number): number {
  return readU16(from, offset + 4) * SEQUENCE_COUNT + readU32(from, offset);
}

/** An id or token. Throws PROTOCOL when its epoch is beyond EPOCH_MAX: it would not be a safe integer. */
export function readU64(from: Uint8Array, offset: number): number {
  const epoch = readU32(from, offset + 4);
  if (epoch > EPOCH_MAX) {
    throw new MillraceError('PROTOCOL', `a task id or token has the epoch ${epoch}; the largest is ${EPOCH_MAX}`, {
      details: { epoch, bound: EPOCH_MAX },
    });
  }
  return epoch * SEQUENCE_COUNT + readU32(from, offset);
}

export function readF64(from: Uint8Array, offset: number): number {
  for (let index = 0; index < 8; index++) scratchBytes[index] = from[offset + index];
  return scratch[0];
}

export function writeU16(into: Uint8Array, offset: number, value: number): void {
  into[offset] = value;
  into[offset + 1] = value >>> 8;
}

export function writeU32(into: Uint8Array, offset: number, value: number): void {
  into[offset] = value;
  into[offset + 1] = value >>> 8;
  into[offset + 2] = value >>> 16;
  into[offset + 3] = value >>> 24;
}

export function writeU48(into: Uint8Array, offset: number, value: number): void {
  const high = Math.floor(value / SEQUENCE_COUNT);
  writeU32(into, offset, value - high * SEQUENCE_COUNT);
  writeU16(into, offset + 4, high);
}

export function writeU64(into: Uint8Array, offset: number, value: number): void {
  const high = Math.floor(value / SEQUENCE_COUNT);
  writeU32(into, offset, value - high * SEQUENCE_COUNT);
  writeU32(into, offset + 4, high);
}

export function writeF64(into: Uint8Array, offset: number, value: number): void {
  scratch[0] = value;
  for (let index = 0; index < 8; index++) into[offset + index] = scratchBytes[index];
}

/** The error for a body that ends early or carries numbers that do not fit together. */
export function malformed(what: string, details: Record<string, unknown> = {}): MillraceError {
  return new MillraceError('PROTOCOL', `malformed frame: ${what}`, { details });
}
