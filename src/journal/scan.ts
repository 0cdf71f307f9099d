import {
  decodeHead,
  HEAD_BYTES,
  HEADER_BYTES,
  type Header,
  isIntact,
  looksLikeHeader,
  newerVersion,
  PAD,
  readHeader,
  recordBytes,
  SEGMENT_STATE,
  type SegmentHead,
} from './format.ts';
import type { JournalRecord } from './record.ts';
import type { Window } from './window.ts';

/** A record as it lies in the file. */
export interface ScannedRecord extends JournalRecord {
  /** Of the body; of a PAD what it skips, for it has no body. */
  length: number;
  syncedSequence: number;
}

/** How far the log has been read: where the next record is expected, and what the last one said. */
export interface Cursor {
  offset: number;
  sequence: number;
  epoch: number;
}

export interface ScanRange {
  segment: number;
  /** 0: not known. */
  pageBytes: number;
  /** The segment's last sequence, where the next segment tells it. */
  lastSequence?: number | undefined;
  /** Whether a cursor in it knows how many records came before: without the head of the segment it does not. */
  isCounted: boolean;
}

export function newHeader(): Header {
  return { type: 0, length: 0, epoch: 0, sequence: 0, syncedSequence: 0 };
}

export function newRecord(): ScannedRecord {
  return { type: 0, sequence: 0, epoch: 0, length: 0, syncedSequence: 0, segment: 0, offset: 0, body: Buffer.alloc(0) };
}

/** Undefined when the file does not begin with an intact segment head; the version when it is a newer one. */
export async function readHead(window: Window): Promise<SegmentHead | { version: number } | undefined> {
  if (!(await window.cover(0, HEADER_BYTES + HEAD_BYTES))) return undefined;
  const version = newerVersion(window.bytes);
  if (version !== undefined) return { version };
  const header = newHeader();
  readHeader(window.bytes, 0, header);
  if (!looksLikeHeader(window.bytes, 0) || header.type !== SEGMENT_STATE || header.length < HEAD_BYTES)
    return undefined;
  if (!(await window.cover(0, HEADER_BYTES + header.length)) || !isIntact(window.bytes, 0, header)) return undefined;
  const head = decodeHead(window.bytes.subarray(HEADER_BYTES, HEADER_BYTES + header.length));
  return head !== undefined && header.sequence === head.previousSequence + 1 ? head : undefined;
}

/** Visits intact records in order, PAD included, and moves `cursor` behind the last of them. */
export async function scanRecords(
  window: Window,
  range: ScanRange,
  cursor: Cursor,
  visit: (record: ScannedRecord) => void,
): Promise<void> {
  const { pageBytes, lastSequence = Number.MAX_SAFE_INTEGER } = range;
  const header = newHeader();
  const record = newRecord();
  record.segment = range.segment;
  while (cursor.sequence < lastSequence) {
    const pageLeft = pageBytes - (cursor.offset & (pageBytes - 1));
    if (pageLeft < HEADER_BYTES) {
      cursor.offset += pageLeft;
      continue;
    }
    if (!window.covers(cursor.offset, HEADER_BYTES) && !(await window.cover(cursor.offset, HEADER_BYTES))) return;
    if (!looksLikeHeader(window.bytes, cursor.offset - window.base)) return;
    readHeader(window.bytes, cursor.offset - window.base, header);
    if (!follows(header, cursor) || header.sequence > lastSequence) return;
    if (HEADER_BYTES + header.length > pageLeft && pageLeft !== pageBytes) return;
    const bytes = header.type === PAD ? HEADER_BYTES : HEADER_BYTES + header.length;
    if (!window.covers(cursor.offset, bytes) && !(await window.cover(cursor.offset, bytes))) return;
    const at = cursor.offset - window.base;
    if (!isIntact(window.bytes, at, header)) return;
    fill(record, header, window.bytes, at, window.base);
    visit(record);
    cursor.offset += recordBytes(header.length);
    cursor.sequence = header.sequence;
    cursor.epoch = header.epoch;
  }
}

/** Whether the header may come next. An older epoch or a sequence out of step is what an earlier use of the file left. */
function follows(header: Header, cursor: Cursor): boolean {
  if (header.epoch < cursor.epoch) return false;
  return header.type === PAD ? header.sequence >= cursor.sequence : header.sequence === cursor.sequence + 1;
}

function fill(record: ScannedRecord, header: Header, bytes: Buffer, at: number, base: number): void {
  record.type = header.type;
  record.sequence = header.sequence;
  record.epoch = header.epoch;
  record.syncedSequence = header.syncedSequence;
  record.length = header.length;
  record.offset = base + at + HEADER_BYTES;
  record.body = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + (header.type === PAD ? 0 : header.length));
}

/** What lies behind the place at which reading stopped. */
export interface Remains {
  /** The first record behind it that belongs to the log. */
  next: Cursor | undefined;
  /** The highest sequence that any of them knew to be synced. */
  syncedSequence: number;
  /** Highest epoch among them, the cursor's if there are none. */
  epoch: number;
  /** End of the last of them, or of the record that begins at the cursor when its header can be read. */
  end: number;
}

/** Looks for records of this log behind the cursor, up to `lastSequence`. */
export async function findRemains(window: Window, range: ScanRange, cursor: Readonly<Cursor>): Promise<Remains> {
  const broken = newHeader();
  const remains: Remains = { next: undefined, syncedSequence: 0, epoch: cursor.epoch, end: cursor.offset };
  if (await wasNext(window, cursor)) remains.end = cursor.offset + HEADER_BYTES;
  if ((await window.cover(cursor.offset, HEADER_BYTES)) && looksLikeHeader(window.bytes, cursor.offset - window.base)) {
    readHeader(window.bytes, cursor.offset - window.base, broken);
    const end = cursor.offset + recordBytes(broken.length);
    if (follows(broken, cursor) && broken.type !== PAD && end <= window.limit) {
      remains.end = end;
      if (await isRightBehind(window, cursor.sequence + 1, end)) {
        // What is searched must not include the broken body: a payload may contain bytes that look like records.
        await collect(window, range, cursor, remains, end);
        return remains;
      }
    }
  }
  await collect(window, range, cursor, remains, cursor.offset + 8);
  return remains;
}

/**
 * Whether a record that is broken in its very header lies at the cursor: most of the header is what would have come next.
 * What an earlier use of the file left there is intact, or looks like nothing.
 */
async function wasNext(window: Window, { offset, sequence, epoch }: Readonly<Cursor>): Promise<boolean> {
  if (!(await window.cover(offset, HEADER_BYTES))) return false;
  const header = newHeader();
  readHeader(window.bytes, offset - window.base, header);
  const isNext = header.sequence === sequence + 1;
  const signs =
    Number(looksLikeHeader(window.bytes, offset - window.base)) + Number(header.epoch === epoch) + Number(isNext);
  if (signs < 2) return false;
  const bytes = HEADER_BYTES + (header.type === PAD ? 0 : header.length);
  return !(await window.cover(offset, bytes)) || !isIntact(window.bytes, offset - window.base, header);
}

/** Whether an intact record at `offset` comes right after the one numbered `sequence`. */
async function isRightBehind(window: Window, sequence: number, offset: number): Promise<boolean> {
  const header = newHeader();
  if (!(await window.cover(offset, HEADER_BYTES)) || !looksLikeHeader(window.bytes, offset - window.base)) return false;
  readHeader(window.bytes, offset - window.base, header);
  if (header.sequence !== (header.type === PAD ? sequence : sequence + 1)) return false;
  const bytes = HEADER_BYTES + (header.type === PAD ? 0 : header.length);
  return (await window.cover(offset, bytes)) && isIntact(window.bytes, offset - window.base, header);
}

async function collect(
  window: Window,
  range: ScanRange,
  cursor: Readonly<Cursor>,
  remains: Remains,
  from: number,
): Promise<void> {
  const lastSequence = range.lastSequence ?? Number.MAX_SAFE_INTEGER;
  const header = newHeader();
  let offset = from;
  while (offset + HEADER_BYTES <= window.limit) {
    if (!window.covers(offset, HEADER_BYTES) && !(await window.cover(offset, HEADER_BYTES))) return;
    offset = skipToHeader(window, offset);
    if (!window.covers(offset, HEADER_BYTES)) continue;
    readHeader(window.bytes, offset - window.base, header);
    const bytes = HEADER_BYTES + (header.type === PAD ? 0 : header.length);
    const known =
      header.epoch >= cursor.epoch &&
      header.sequence > cursor.sequence &&
      header.sequence <= lastSequence &&
      canLie(range, cursor, offset, header);
    // A PAD alone is no record to go on with: it says nothing that the record behind it does not say.
    if (
      known &&
      header.type !== PAD &&
      (await window.cover(offset, bytes)) &&
      isIntact(window.bytes, offset - window.base, header)
    ) {
      remains.next ??= { offset, sequence: header.sequence - 1, epoch: header.epoch };
      remains.syncedSequence = Math.max(remains.syncedSequence, header.syncedSequence);
      remains.epoch = Math.max(remains.epoch, header.epoch);
      offset += recordBytes(header.length);
      remains.end = Math.max(remains.end, offset);
    } else {
      offset += 8;
    }
  }
}

/**
 * Whether there can be such a record there. What lies behind the log may be old payloads, and these anything: one that looks
 * like a header at every eighth byte, each of a record of many bytes, would take hours of checksums.
 */
function canLie(
  { pageBytes, isCounted }: ScanRange,
  cursor: Readonly<Cursor>,
  offset: number,
  header: Header,
): boolean {
  const pageLeft = pageBytes - (offset & (pageBytes - 1));
  if (pageBytes > 0 && HEADER_BYTES + header.length > pageLeft && pageLeft !== pageBytes) return false;
  const between = Math.floor((offset - cursor.offset) / HEADER_BYTES);
  return !isCounted || header.sequence <= cursor.sequence + between + 1;
}

/** The next place in the window that can be a header; most of what is searched is zeros or payload. */
function skipToHeader(window: Window, from: number): number {
  const { bytes, base } = window;
  let at = from - base;
  while (at + HEADER_BYTES <= bytes.length && !looksLikeHeader(bytes, at)) at += 8;
  return base + at;
}

/** The first place in `bytes` at which there is no intact record, or -1. `bytes` begins with a record and ends with one. */
export function firstBroken(bytes: Buffer): number {
  const header = newHeader();
  let at = 0;
  while (at + HEADER_BYTES <= bytes.length) {
    readHeader(bytes, at, header);
    const end = at + recordBytes(header.length);
    if (!looksLikeHeader(bytes, at) || end > bytes.length || !isIntact(bytes, at, header)) return at;
    at = end;
  }
  return -1;
}

/** Visits the records in `bytes`, which begins with one and holds only intact ones. PAD is left out. */
export function eachRecord(
  bytes: Buffer,
  position: { segment: number; base: number },
  visit: (record: ScannedRecord) => void,
): void {
  const header = newHeader();
  const record = newRecord();
  record.segment = position.segment;
  for (let at = 0; at + HEADER_BYTES <= bytes.length; at += recordBytes(header.length)) {
    readHeader(bytes, at, header);
    if (header.type === PAD) continue;
    fill(record, header, bytes, at, position.base);
    visit(record);
  }
}
