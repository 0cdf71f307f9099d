import { join } from 'node:path';
import { MillraceError } from '../errors.ts';
import type { Disk, DiskFile } from '../io/disk.ts';
import { LIMITS } from '../limits.ts';
import {
  CLOSE,
  FORMAT_VERSION,
  HEADER_BYTES,
  isIntact,
  looksLikeHeader,
  PAD,
  parseName,
  readHeader,
  type SegmentHead,
  segmentName,
} from './format.ts';
import type { Describe } from './record.ts';
import {
  type Cursor,
  findRemains,
  newHeader,
  readHead,
  type ScannedRecord,
  type ScanRange,
  scanRecords,
} from './scan.ts';
import { Window } from './window.ts';

/** A region of the log that is broken although it had been synced, or a segment that is missing. */
export interface Damage {
  segment: number;
  file: string;
  offset: number;
  bytes: number;
  /** The records that are lost: none when `lastSequence` is lower. */
  firstSequence: number;
  lastSequence: number;
  kind: 'record' | 'head' | 'missing segment';
  /** What the intact records on both sides and the broken one itself are about, as far as it can be told. */
  before: string;
  broken: string;
  after: string;
  /** Where reading went on; undefined at the end of the segment. */
  next: Cursor | undefined;
  epoch: number;
  pageBytes: number;
}

export interface WalkedSegment {
  number: number;
  file: string;
  fileBytes: number;
  segmentBytes: number;
  pageBytes: number;
  /** Behind the last record. */
  end: number;
  firstSequence: number;
  lastSequence: number;
}

export interface Walk {
  segments: WalkedSegment[];
  /** Segment files behind the last one that were never begun. */
  unused: number[];
  spares: number[];
  /** Records that were being written when the process or machine stopped. They do not count. */
  torn: { file: string; offset: number; bytes: number } | undefined;
  sequence: number;
  /** The highest epoch met, also in what was torn. */
  epoch: number;
  cleanlyClosed: boolean;
  /** In the last segment: all before this offset is known to be synced. The rest, at most a page more than it, may not be. */
  syncedEnd: number;
}

export interface WalkVisitor {
  /** A segment's records follow. Without `number` in order after the last one, the ones between are missing. */
  segment(segment: WalkedSegment): void;
  /** Every intact record, PAD too. */
  record(record: ScannedRecord): void;
  /** Called between pieces of a few MiB: nothing goes on before it resolves. */
  pause?(): Promise<void>;
  /** Throws to stop. */
  damage(damage: Damage): void;
  describe: Describe;
}

interface Entry {
  number: number;
  path: string;
  fileBytes: number;
  head: SegmentHead | undefined;
}

interface SegmentRange extends ScanRange {
  /** No later segment was begun. If one was, all of this one had been synced before. */
  isLast: boolean;
}

const HEAD_WINDOW_BYTES = 4096;
/** Each of fewer is damage of its own, which a repair puts an empty file in the place of. */
const MISSING_SEGMENTS_MAX = 1000;

/** Reads a journal directory from its oldest record to its end. Writes nothing. */
export async function walk(disk: Disk, directory: string, visitor: WalkVisitor): Promise<Walk> {
  const names = (await disk.list(directory)).map(parseName).filter((name) => name !== undefined);
  const entries: Entry[] = [];
  for (const { kind, number } of names) {
    if (kind === 'segment') entries.push(await readEntry(disk, directory, number));
  }
  const walker = new Walker(disk, directory, entries, visitor);
  await walker.run();
  walker.result.spares = names.filter((name) => name.kind === 'spare').map((name) => name.number);
  return walker.result;
}

async function readEntry(disk: Disk, directory: string, number: number): Promise<Entry> {
  const path = join(directory, segmentName(number));
  const file = await disk.open(path, {});
  const fileBytes = await file.size();
  const window = new Window(file, fileBytes, { windowBytes: HEAD_WINDOW_BYTES });
  try {
    const head = await readHead(window);
    if (head !== undefined && 'version' in head) {
      throw new MillraceError(
        'JOURNAL_VERSION',
        `${path} has journal format ${head.version}, this Millrace reads up to ${FORMAT_VERSION}: use the version that wrote it`,
        { details: { file: path, version: head.version, supported: FORMAT_VERSION } },
      );
    }
    return { number, path, fileBytes, head: head?.number === number ? head : undefined };
  } finally {
    await window.settle();
    await file.close();
  }
}

class Walker {
  readonly result: Walk = {
    segments: [],
    unused: [],
    spares: [],
    torn: undefined,
    sequence: 0,
    epoch: 0,
    cleanlyClosed: false,
    syncedEnd: 0,
  };
  /** The highest sequence that any record knew to be synced. */
  #syncedSequence = 0;
  /** The first record of each page of the segment that is being read. */
  #pageStarts: { offset: number; sequence: number }[] = [];
  #pageEnd = 0;
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #entries: Entry[];
  readonly #visitor: WalkVisitor;
  readonly #cursor: Cursor = { offset: 0, sequence: 0, epoch: 0 };
  /** Where the last intact record's body lies, for messages. */
  #last = { segment: 0, offset: 0, type: 0 };

  constructor(disk: Disk, directory: string, entries: Entry[], visitor: WalkVisitor) {
    this.#disk = disk;
    this.#directory = directory;
    this.#entries = entries;
    this.#visitor = visitor;
  }

  async run(): Promise<void> {
    const lastWithHead = this.#entries.findLastIndex((entry) => entry.head !== undefined);
    for (const [index, entry] of this.#entries.entries()) {
      const previous = this.#entries[index - 1];
      if (previous !== undefined && index <= lastWithHead) this.#checkGap(previous.number, entry);
      const file = await this.#disk.open(entry.path, {});
      try {
        await this.#readSegment(file, entry, index);
      } finally {
        await file.close();
      }
    }
    this.result.sequence = this.#cursor.sequence;
    this.result.epoch = Math.max(this.result.epoch, this.#cursor.epoch);
    this.result.cleanlyClosed = this.#last.type === CLOSE && this.result.torn === undefined;
    const synced = this.#pageStarts.findLast(({ sequence }) => sequence <= this.#syncedSequence + 1);
    this.result.syncedEnd = synced?.offset ?? 0;
  }

  #checkGap(previous: number, entry: Entry): void {
    const missing = entry.number - previous - 1;
    if (missing > MISSING_SEGMENTS_MAX) {
      const file = join(this.#directory, segmentName(previous + 1));
      const message = `${file} is missing, and ${missing - 1} more before ${segmentName(entry.number)}: these are files of different journals; move away those that do not belong here`;
      throw new MillraceError('JOURNAL_DAMAGED', message, { details: { file, missing } });
    }
    for (let number = previous + 1; number < entry.number; number++) {
      const lastSequence = number + 1 === entry.number ? (entry.head?.previousSequence ?? 0) : this.#cursor.sequence;
      this.#visitor.damage({
        ...this.#blankDamage(number, join(this.#directory, segmentName(number)), this.#pageBytes(entry)),
        lastSequence,
        kind: 'missing segment',
      });
      this.#cursor.sequence = Math.max(this.#cursor.sequence, lastSequence);
    }
  }

  async #readSegment(file: DiskFile, entry: Entry, index: number): Promise<void> {
    const { number, head } = entry;
    const next = this.#entries[index + 1];
    const window = new Window(file, Math.min(entry.fileBytes, head?.segmentBytes ?? entry.fileBytes), {
      pause: this.#visitor.pause,
    });
    this.#cursor.offset = 0;
    if (head !== undefined) this.#cursor.sequence = head.previousSequence;
    const segment: WalkedSegment = {
      number,
      file: entry.path,
      fileBytes: entry.fileBytes,
      segmentBytes: head?.segmentBytes ?? entry.fileBytes,
      pageBytes: this.#pageBytes(entry),
      end: 0,
      firstSequence: this.#cursor.sequence + 1,
      lastSequence: 0,
    };
    const range: SegmentRange = {
      segment: number,
      pageBytes: segment.pageBytes,
      lastSequence: next?.number === number + 1 ? next.head?.previousSequence : undefined,
      isCounted: head !== undefined,
      isLast: !this.#entries.some((other) => other.number > number && other.head !== undefined),
    };
    if (head !== undefined) this.#begin(segment);
    try {
      let isWhole = false;
      while (!isWhole) {
        if (this.result.segments.at(-1) === segment) await this.#readRecords(window, range);
        isWhole = await this.#judge(window, range, segment);
      }
    } finally {
      await window.settle();
    }
    segment.end = this.#cursor.offset;
    segment.lastSequence = this.#cursor.sequence;
    if (this.result.segments.at(-1) !== segment) this.result.unused.push(number);
  }

  #readRecords(window: Window, range: SegmentRange): Promise<void> {
    return scanRecords(window, range, this.#cursor, (record) => this.#record(record));
  }

  /** Says why reading stopped where it did. True at the end of the segment; otherwise it goes on behind damage. */
  async #judge(window: Window, range: SegmentRange, segment: WalkedSegment): Promise<boolean> {
    const cursor = this.#cursor;
    const isBegun = this.result.segments.at(-1) === segment;
    if (isBegun && cursor.sequence === range.lastSequence) return true;
    const remains = await findRemains(window, range, cursor);
    this.result.epoch = Math.max(this.result.epoch, remains.epoch);
    // A segment that says that it was begun, in an epoch that was over, is none of this log: there is nothing to go on with.
    const isForeign = isBegun && cursor.offset === 0;
    if (range.isLast && !isForeign && remains.syncedSequence <= cursor.sequence) {
      if (remains.end > cursor.offset) {
        this.result.torn ??= { file: segment.file, offset: cursor.offset, bytes: remains.end - cursor.offset };
      }
      return true;
    }
    if (isBegun && !isForeign && remains.next === undefined && range.lastSequence === undefined) return true;
    await this.#report(window, range, segment, remains.next);
    if (!isBegun) this.#begin(segment);
    if (remains.next === undefined) {
      cursor.sequence = range.lastSequence ?? cursor.sequence;
      return true;
    }
    cursor.offset = remains.next.offset;
    cursor.sequence = remains.next.sequence;
    return false;
  }

  async #report(window: Window, range: SegmentRange, segment: WalkedSegment, next: Cursor | undefined): Promise<void> {
    const cursor = this.#cursor;
    const hasBefore = this.#last.segment === segment.number;
    this.#visitor.damage({
      ...this.#blankDamage(segment.number, segment.file, segment.pageBytes),
      offset: cursor.offset,
      bytes: (next?.offset ?? window.limit) - cursor.offset,
      lastSequence: next?.sequence ?? range.lastSequence ?? cursor.sequence,
      kind: cursor.offset === 0 ? 'head' : 'record',
      before: hasBefore ? await this.#describe(window, this.#last.offset, true) : '',
      broken: await this.#describe(window, cursor.offset + HEADER_BYTES, false),
      after: next === undefined ? '' : await this.#describe(window, next.offset + HEADER_BYTES, true),
      next,
    });
  }

  #begin(segment: WalkedSegment): void {
    this.#pageStarts = [];
    this.#pageEnd = 0;
    this.result.segments.push(segment);
    this.#visitor.segment(segment);
  }

  #record(record: ScannedRecord): void {
    const last = this.#last;
    if (record.type !== PAD) {
      last.segment = record.segment;
      last.offset = record.offset;
      last.type = record.type;
    }
    this.#syncedSequence = Math.max(this.#syncedSequence, record.syncedSequence);
    const begin = record.offset - HEADER_BYTES;
    if (begin >= this.#pageEnd && record.type !== PAD) {
      const { pageBytes } = this.result.segments.at(-1) as WalkedSegment;
      this.#pageEnd = begin - (begin % pageBytes) + pageBytes;
      this.#pageStarts.push({ offset: begin, sequence: record.sequence });
    }
    this.#visitor.record(record);
  }

  #blankDamage(segment: number, file: string, pageBytes: number): Damage {
    return {
      segment,
      file,
      offset: 0,
      bytes: 0,
      firstSequence: this.#cursor.sequence + 1,
      lastSequence: this.#cursor.sequence,
      kind: 'record',
      before: '',
      broken: '',
      after: '',
      next: undefined,
      epoch: this.#cursor.epoch,
      pageBytes,
    };
  }

  /** Without an intact head it is most likely that of the others. */
  #pageBytes(entry: Entry): number {
    const other = this.#entries.find((one) => one.head !== undefined);
    return entry.head?.pageBytes ?? other?.head?.pageBytes ?? LIMITS.pageBytes;
  }

  async #describe(window: Window, bodyOffset: number, mustBeIntact: boolean): Promise<string> {
    const header = newHeader();
    const offset = bodyOffset - HEADER_BYTES;
    if (!(await window.cover(offset, HEADER_BYTES)) || !looksLikeHeader(window.bytes, offset - window.base)) return '';
    readHeader(window.bytes, offset - window.base, header);
    if (header.length > LIMITS.segmentBytes || !(await window.cover(offset, HEADER_BYTES + header.length))) return '';
    const at = offset - window.base;
    if (mustBeIntact && !isIntact(window.bytes, at, header)) return '';
    try {
      return this.#visitor.describe(
        header.type,
        window.bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + header.length),
      );
    } catch {
      // The body may be what is broken: then there is nothing to say about it.
      return '';
    }
  }
}

export function damageError(directory: string, damage: Damage): MillraceError {
  const lost =
    damage.lastSequence < damage.firstSequence
      ? 'no record'
      : `records ${damage.firstSequence} to ${damage.lastSequence}`;
  const where =
    damage.kind === 'missing segment'
      ? `${damage.file} is missing (${lost})`
      : `${damage.file} is damaged at offset ${damage.offset}, ${damage.bytes} bytes (${lost}, which had been synced)`;
  const about = [
    damage.broken && `damaged: ${damage.broken}`,
    damage.before && `before it: ${damage.before}`,
    damage.after && `behind it: ${damage.after}`,
  ].filter((text) => text !== '');
  return new MillraceError(
    'JOURNAL_DAMAGED',
    `${where}${about.length === 0 ? '' : `; ${about.join('; ')}`}; to see all damage and cut it out: millrace journal repair ${directory}`,
    { details: { ...damage } },
  );
}
