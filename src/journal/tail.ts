import { InvariantError, invariant } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { encodeHead, HEAD_BYTES, HEADER_BYTES, PAD, recordBytes, SEGMENT_STATE, sealRecord } from './format.ts';
import type { PageCache } from './page-cache.ts';
import type { RecordType } from './record.ts';
import { Page, Segment, type Segments } from './segment.ts';
import type { Writer } from './writer.ts';

export interface TailOptions {
  segments: Segments;
  cache: PageCache;
  writer: Writer;
  segmentBytes: number;
  pageBytes: number;
  segmentState: () => Uint8Array;
  onSegmentBegun: () => void;
}

/** The end of the log: gives records their numbers and places, and turns pages and segments. */
export class Tail {
  /** Where the body of the last appended record begins. */
  lastSegment = 0;
  lastOffset = 0;
  readonly #options: TailOptions;
  readonly #header = { type: 0, length: 0, epoch: 0, sequence: 0, syncedSequence: 0 };
  #active!: Segment;
  #page!: Page;
  #sequence: number;
  /** Of the records appended from now on. */
  epoch: number;
  #isBeginning = false;
  appendedBytes = 0;

  /** `page`: where the log goes on; without it it begins, under `epoch`. */
  constructor(options: TailOptions, from: { page: Page | undefined; sequence: number; epoch: number }) {
    this.#options = options;
    this.#sequence = from.sequence;
    this.epoch = from.epoch;
    if (from.page === undefined) {
      this.#beginSegment(recordBytes(0));
    } else {
      this.#active = options.segments.newest as Segment;
      this.#page = from.page;
      options.writer.addPage(from.page);
    }
  }

  get sequence(): number {
    return this.#sequence;
  }

  get active(): Segment {
    return this.#active;
  }

  append(type: RecordType, parts: readonly Uint8Array[]): number {
    let length = 0;
    for (const part of parts) length += part.length;
    if (length > LIMITS.recordBytesMax && type !== SEGMENT_STATE) {
      throw new InvariantError(`a record of ${length} bytes is over the limit of ${LIMITS.recordBytesMax}`);
    }
    const bytes = recordBytes(length);
    if (this.#page.filled + bytes > this.#page.bytes.length) this.#turnPage(bytes);
    return this.#place(type, parts, length);
  }

  #place(type: RecordType, parts: readonly Uint8Array[], length: number): number {
    const page = this.#page;
    const at = page.filled;
    let to = at + HEADER_BYTES;
    for (const part of parts) {
      page.bytes.set(part, to);
      to += part.length;
    }
    const header = this.#header;
    header.type = type;
    header.length = length;
    header.epoch = this.epoch;
    header.sequence = ++this.#sequence;
    header.syncedSequence = this.#options.writer.syncedSequence;
    sealRecord(page.bytes, at, header);
    const bytes = recordBytes(length);
    page.filled = at + bytes;
    page.lastSequence = this.#sequence;
    const active = this.#active;
    active.end = page.base + page.filled;
    this.lastSegment = active.number;
    this.lastOffset = page.base + at + HEADER_BYTES;
    this.appendedBytes += bytes;
    this.#options.writer.appended(bytes, this.#sequence);
    return this.#sequence;
  }

  /** Makes room for a record that does not fit behind the last one. */
  #turnPage(bytes: number): void {
    invariant(!this.#isBeginning, 'segmentState must not append');
    const base = this.#page.base + this.#page.bytes.length;
    const count = Math.ceil(bytes / this.#active.pageBytes);
    if (base + count * this.#active.pageBytes > this.#active.segmentBytes) {
      this.#page.sealed = true;
      this.#beginSegment(bytes);
      if (this.#page.filled + bytes <= this.#page.bytes.length) return;
    }
    this.#padPage();
    this.#beginPage(this.#page.base + this.#page.bytes.length, bytes);
  }

  /** Fills the page, so that what comes next lies right behind in the file and is written together with it. */
  #padPage(): void {
    const page = this.#page;
    const from = page.filled;
    const rest = page.bytes.length - from;
    page.bytes.fill(0, from);
    if (rest >= HEADER_BYTES) {
      const header = this.#header;
      header.type = PAD;
      header.length = rest - HEADER_BYTES;
      header.epoch = this.epoch;
      header.sequence = this.#sequence;
      header.syncedSequence = this.#options.writer.syncedSequence;
      sealRecord(page.bytes, from, header);
    }
    page.filled = page.bytes.length;
    page.sealed = true;
    this.#options.writer.appended(rest, this.#sequence);
  }

  #beginPage(base: number, recordBytes: number): void {
    const { number, pageBytes } = this.#active;
    const count = Math.ceil(recordBytes / pageBytes);
    if (count > 1) this.#active.noteLongRecord(base / pageBytes, count);
    this.#page = new Page(number, base, this.#options.cache.takeBuffer(count * pageBytes));
    this.#page.lastSequence = this.#sequence;
    this.#active.put(this.#page);
    this.#options.writer.addPage(this.#page);
  }

  /** The segment gets larger than usual when its state and the record that it is begun for would not fit. */
  #beginSegment(firstRecordBytes: number): void {
    this.#isBeginning = true;
    const state = this.#options.segmentState();
    this.#isBeginning = false;
    const { pageBytes, segmentBytes: usualBytes } = this.#options;
    const stateBytes = recordBytes(HEAD_BYTES + state.length);
    const pages = Math.ceil(stateBytes / pageBytes) + Math.ceil(firstRecordBytes / pageBytes);
    const segmentBytes = Math.max(usualBytes, pages * pageBytes);
    const before = this.#active as Segment | undefined;
    const number = (before?.number ?? 0) + 1;
    const head = encodeHead({
      number,
      segmentBytes,
      pageBytes,
      previousSequence: this.#sequence,
      stateBytes: state.length,
    });
    this.#active = new Segment({ number, segmentBytes, pageBytes, firstSequence: this.#sequence + 1 });
    this.#options.segments.add(this.#active);
    this.#beginPage(0, stateBytes);
    this.#place(SEGMENT_STATE, [head, state], head.length + state.length);
    this.#options.onSegmentBegun();
  }
}
