import { invariant } from '../errors.ts';

/** Contiguous bytes of a segment: `bytes[0]` is at file offset `base`. */
export interface Extent {
  readonly bytes: Buffer;
  readonly base: number;
}

/**
 * A page in memory, or several when one record takes them.
 *
 * appending ── append moved on ──► sealed ── all of it durable ──► cached ── evicted ──► (gone; may be loaded again)
 *
 * Only a cached page is in the cache's ring; the others cannot be evicted.
 */
export class Page implements Extent {
  readonly segment: number;
  readonly base: number;
  /** Empty after the buffer went to another page. */
  bytes: Buffer;
  /** Bytes appended and bytes durable, from the page's begin. */
  filled = 0;
  written = 0;
  lastSequence = 0;
  sealed = false;
  /** Looked at since the eviction hand last came by. */
  used = true;
  /** Index in the cache's ring, -1 outside. */
  slot = -1;

  constructor(segment: number, base: number, bytes: Buffer) {
    this.segment = segment;
    this.base = base;
    this.bytes = bytes;
  }
}

/** What memory knows of a segment. */
export class Segment {
  readonly number: number;
  readonly segmentBytes: number;
  readonly pageBytes: number;
  readonly pageShift: number;
  readonly firstSequence: number;
  /** The pages in memory. A page that takes several places stands in each. */
  readonly pages: (Page | undefined)[];
  readonly #longRecords: { first: number; count: number }[] = [];
  /** Behind the last record. */
  end = 0;
  liveCount = 0;
  recordedCount = 0;
  /** The sequence that must be synced before the segment may go: that of the release which emptied it. */
  emptiedSequence = 0;
  /** The sequence by which the owner had kept what would go with it; -1: not yet. */
  keptSequence = -1;
  /** Passes over the segment that are under way; it is not recycled meanwhile. */
  readers = 0;

  constructor(shape: { number: number; segmentBytes: number; pageBytes: number; firstSequence: number }) {
    invariant((shape.pageBytes & (shape.pageBytes - 1)) === 0, `page size ${shape.pageBytes} is no power of two`);
    this.number = shape.number;
    this.segmentBytes = shape.segmentBytes;
    this.pageBytes = shape.pageBytes;
    this.pageShift = 31 - Math.clz32(shape.pageBytes);
    this.firstSequence = shape.firstSequence;
    this.pages = new Array<Page | undefined>(Math.ceil(shape.segmentBytes / shape.pageBytes)).fill(undefined);
  }

  /** A record with more than a page was appended or found. */
  noteLongRecord(first: number, count: number): void {
    this.#longRecords.push({ first, count });
  }

  /** The pages that must be in memory together with this one. */
  span(page: number): { first: number; count: number } {
    const long = this.#longRecords.find(({ first, count }) => page >= first && page < first + count);
    return long ?? { first: page, count: 1 };
  }

  put(page: Page): void {
    const first = page.base >>> this.pageShift;
    const count = page.bytes.length >>> this.pageShift;
    for (let i = first; i < first + count; i++) this.pages[i] = page;
  }

  remove(page: Page): void {
    const first = page.base >>> this.pageShift;
    const count = page.bytes.length >>> this.pageShift;
    for (let i = first; i < first + count; i++) this.pages[i] = undefined;
  }
}

/** The segments that exist, oldest first, numbered without gaps. */
export class Segments {
  #list: Segment[] = [];
  #base = 0;

  get count(): number {
    return this.#list.length;
  }

  get oldest(): Segment | undefined {
    return this.#list[0];
  }

  get newest(): Segment | undefined {
    return this.#list[this.#list.length - 1];
  }

  at(number: number): Segment | undefined {
    return this.#list[number - this.#base];
  }

  add(segment: Segment): void {
    if (this.#list.length === 0) this.#base = segment.number;
    invariant(segment.number === this.#base + this.#list.length, `segment ${segment.number} is not the next`);
    this.#list.push(segment);
  }

  dropOldest(): void {
    this.#list.shift();
    this.#base++;
  }

  [Symbol.iterator](): Iterator<Segment> {
    return this.#list.values();
  }
}
