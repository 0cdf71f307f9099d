import { crc32 } from 'node:zlib';

/**
 * The journal's bytes on disk, version 1. `docs/journal-format.md` says the same for readers without this code.
 *
 * Directory   NNNNNNNNNN.segment (ten digits, consecutive), NNNNNNNNNN.spare (old content, to be written over).
 * Segment     preallocated; its first record is SEGMENT_STATE, whose body begins with the segment head.
 * Record      header, body, zeros up to a multiple of 8. It lies within a page, or begins one and takes several whole
 *             (the next record follows right behind, in the last of them). PAD fills the rest of a page that is too
 *             small for the next record; a rest too small for a PAD is skipped.
 * Header      0 u32 crc32 of all that follows, body included (of a PAD: of the header only)
 *             4 u32 body length          8 u8 type       9 u8 version      10 u16 zero      12 u32 epoch
 *             16 u64 sequence: the record's number in the whole journal, counted from 1 without gaps; a PAD has no
 *                number of its own and carries that of the last record before it
 *             24 u64 highest sequence known to be synced when this record was appended
 * Head        0 'MILLRACE'   8 u32 version   12 u32 page bytes   16 u64 segment number   24 u64 segment bytes
 *             32 u64 last sequence of the segment before       40 u64 bytes of the user, which follow
 *
 * What ends the log: a record that is not intact, or whose sequence is not the next, or whose epoch is lower than the
 * one before (left over from before a cut). It is damage instead when anything behind it proves that it was synced.
 *
 * To change the format: raise FORMAT_VERSION; keep the first 12 bytes of header and head as they are, so that older
 * programs can say which version they met; keep reading every version that was released; add a golden directory
 * `test/format/journal-vN` and never change those that exist; say in docs/journal-format.md what is new.
 */
export const FORMAT_VERSION = 1;
export const HEADER_BYTES = 32;
export const HEAD_BYTES = 48;
export const ALIGNMENT = 8;

/** The journal's own record types; its user has 16 to 255. */
export const SEGMENT_STATE = 1;
export const EPOCH = 2;
export const PAD = 3;
export const CLOSE = 4;
export const USER_TYPE_MIN = 16;
export const USER_TYPE_MAX = 255;

const MAGIC = Buffer.from('MILLRACE', 'latin1');
const U32 = 2 ** 32;
/** What a reader takes for a page, and for pages of a segment: it makes room for as many as the head says. */
const PAGE_BYTES_MAX = 16 * 1024 * 1024;
const PAGES_MAX = 2 ** 20;

export interface Header {
  type: number;
  length: number;
  epoch: number;
  sequence: number;
  syncedSequence: number;
}

export interface SegmentHead {
  number: number;
  segmentBytes: number;
  pageBytes: number;
  /** The last sequence of the segment before; 0 in the first of all. */
  previousSequence: number;
  /** What the journal's user added; the record may go on behind it. */
  stateBytes: number;
}

/** What a record takes, with its header and alignment. */
export function recordBytes(bodyBytes: number): number {
  // Not with bits: a broken length may be 2 ** 31 and more.
  const bytes = HEADER_BYTES + bodyBytes + ALIGNMENT - 1;
  return bytes - (bytes % ALIGNMENT);
}

/** The body must be in place already. Fills the alignment gap with zeros. */
export function sealRecord(bytes: Buffer, at: number, header: Header): void {
  writeU32(bytes, at + 4, header.length);
  writeU32(bytes, at + 8, header.type | (FORMAT_VERSION << 8));
  writeU32(bytes, at + 12, header.epoch);
  writeU64(bytes, at + 16, header.sequence);
  writeU64(bytes, at + 24, header.syncedSequence);
  const end = at + HEADER_BYTES + (header.type === PAD ? 0 : header.length);
  writeU32(bytes, at, crc32(bytes.subarray(at + 4, end)));
  for (let gap = end; (gap & (ALIGNMENT - 1)) !== 0; gap++) bytes[gap] = 0;
}

export function readHeader(bytes: Buffer, at: number, into: Header): void {
  into.length = readU32(bytes, at + 4);
  into.type = bytes[at + 8];
  into.epoch = readU32(bytes, at + 12);
  into.sequence = readU64(bytes, at + 16);
  into.syncedSequence = readU64(bytes, at + 24);
}

/** The cheap half of recognizing a record; `isIntact` is the other. */
export function looksLikeHeader(bytes: Buffer, at: number): boolean {
  return bytes[at + 8] !== 0 && bytes[at + 9] === FORMAT_VERSION && bytes[at + 10] === 0 && bytes[at + 11] === 0;
}

/** `bytes` must hold the whole record. */
export function isIntact(bytes: Buffer, at: number, header: Header): boolean {
  const end = at + HEADER_BYTES + (header.type === PAD ? 0 : header.length);
  return crc32(bytes.subarray(at + 4, end)) === readU32(bytes, at);
}

export function encodeHead(head: SegmentHead): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(bytes);
  writeU32(bytes, 8, FORMAT_VERSION);
  writeU32(bytes, 12, head.pageBytes);
  writeU64(bytes, 16, head.number);
  writeU64(bytes, 24, head.segmentBytes);
  writeU64(bytes, 32, head.previousSequence);
  writeU64(bytes, 40, head.stateBytes);
  return bytes;
}

export function decodeHead(body: Buffer): SegmentHead | undefined {
  if (body.length < HEAD_BYTES || !body.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const pageBytes = readU32(body, 12);
  const segmentBytes = readU64(body, 24);
  if (pageBytes < 2 * HEADER_BYTES || pageBytes > PAGE_BYTES_MAX || (pageBytes & (pageBytes - 1)) !== 0)
    return undefined;
  if (segmentBytes / pageBytes > PAGES_MAX) return undefined;
  return {
    number: readU64(body, 16),
    segmentBytes,
    pageBytes,
    previousSequence: readU64(body, 32),
    stateBytes: readU64(body, 40),
  };
}

/**
 * The version of a segment that we do not understand, from its first bytes. Header and head must agree, so that a
 * flipped bit is not taken for a newer version.
 */
export function newerVersion(start: Buffer): number | undefined {
  if (start.length < HEADER_BYTES + 12) return undefined;
  const version = start[9];
  const hasMagic = start.subarray(HEADER_BYTES, HEADER_BYTES + MAGIC.length).equals(MAGIC);
  return hasMagic && version > FORMAT_VERSION && readU32(start, HEADER_BYTES + 8) === version ? version : undefined;
}

export function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.segment`;
}

export function spareName(number: number): string {
  return `${String(number).padStart(10, '0')}.spare`;
}

/** Undefined for every file that is not the journal's. */
export function parseName(name: string): { kind: 'segment' | 'spare'; number: number } | undefined {
  const match = /^(\d{10})\.(segment|spare)$/.exec(name);
  return match === null ? undefined : { kind: match[2] as 'segment' | 'spare', number: Number(match[1]) };
}

function writeU32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

function readU32(bytes: Buffer, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

function writeU64(bytes: Buffer, at: number, value: number): void {
  writeU32(bytes, at, value % U32);
  writeU32(bytes, at + 4, Math.floor(value / U32));
}

function readU64(bytes: Buffer, at: number): number {
  return readU32(bytes, at) + readU32(bytes, at + 4) * U32;
}
