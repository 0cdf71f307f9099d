import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import { firstBroken } from './scan.ts';
import { Page, type Segment } from './segment.ts';

const FREE_BUFFERS_MAX = 8;

export interface PageCacheOptions {
  clock: Clock;
  /** What durable pages may hold together; the pages still being written come on top. */
  cacheBytes: number;
  /** Reads a segment's bytes; fewer than asked for when it is gone. */
  read: (segment: number, into: Buffer, position: number) => Promise<number>;
  /** The file's name, for messages. */
  nameOf: (segment: number) => string;
  segmentOf: (number: number) => Segment | undefined;
  /** The size of the buffers that are kept for use again. */
  pageBytes: number;
}

/**
 * The durable pages in memory, bounded, with second-chance eviction, and the buffers of all pages.
 *
 * A buffer is used again only in a later turn of the event loop than the one in which its page went away: until then a
 * caller may hold what `locate` gave it.
 */
export class PageCache {
  readonly #options: PageCacheOptions;
  readonly #ring: Page[] = [];
  #hand = 0;
  #cachedBytes = 0;
  readonly #free: Buffer[] = [];
  #resting: Buffer[] = [];
  readonly #loads = new Map<Segment, Map<number, Promise<void>>>();

  constructor(options: PageCacheOptions) {
    this.#options = options;
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /** A buffer with old content in it. */
  takeBuffer(bytes: number): Buffer {
    return (bytes === this.#options.pageBytes ? this.#free.pop() : undefined) ?? Buffer.allocUnsafeSlow(bytes);
  }

  /** Nobody holds the buffer after this turn of the event loop. */
  giveBuffer(buffer: Buffer): void {
    this.#resting.push(buffer);
    if (this.#resting.length > 1) return;
    this.#options.clock.deferPastInput(() => {
      for (const rested of this.#resting) {
        if (rested.length === this.#options.pageBytes && this.#free.length < FREE_BUFFERS_MAX) this.#free.push(rested);
      }
      this.#resting = [];
    });
  }

  /** The page is durable and no longer appended to: from now on it may be evicted. */
  admit(page: Page): void {
    page.slot = this.#ring.length;
    page.used = true;
    this.#ring.push(page);
    this.#cachedBytes += page.bytes.length;
    while (this.#cachedBytes > this.#options.cacheBytes && this.#ring.length > 1) this.#evictOne(page);
  }

  /** Forgets all pages of a segment that is given up. */
  drop(segment: Segment): void {
    for (const page of new Set(segment.pages)) {
      if (page === undefined) continue;
      if (page.slot >= 0) this.#leaveRing(page);
      this.giveBuffer(page.bytes);
    }
    segment.pages.fill(undefined);
    this.#loads.delete(segment);
  }

  /** Brings the page and the one behind it. Rejects with JOURNAL_DAMAGED when it is no longer what was written. */
  load(segment: Segment, page: number): Promise<void> {
    const { first, count } = segment.span(page);
    const wanted = this.#loadSpan(segment, first, count);
    const behind = segment.span(first + count);
    if (behind.first << segment.pageShift < segment.end) {
      // Whoever needs that page asks for it and meets the error then.
      this.#loadSpan(segment, behind.first, behind.count).catch(() => undefined);
    }
    return wanted;
  }

  #loadSpan(segment: Segment, first: number, count: number): Promise<void> {
    if (segment.pages[first] !== undefined) return Promise.resolve();
    let loads = this.#loads.get(segment);
    if (loads === undefined) {
      loads = new Map();
      this.#loads.set(segment, loads);
    }
    const underWay = loads.get(first);
    if (underWay !== undefined) return underWay;
    const load = this.#loadOne(segment, first, count).finally(() => loads.delete(first));
    loads.set(first, load);
    return load;
  }

  async #loadOne(segment: Segment, first: number, count: number): Promise<void> {
    const isGone = () => this.#options.segmentOf(segment.number) !== segment;
    let buffer: Buffer;
    try {
      buffer = await this.fetch(segment, first, count);
    } catch (error) {
      // Given up meanwhile: the file may hold another segment by now.
      if (isGone()) return;
      throw error;
    }
    if (isGone()) return;
    const page = new Page(segment.number, first * segment.pageBytes, buffer);
    page.filled = Math.min(buffer.length, segment.end - page.base);
    page.written = page.filled;
    page.sealed = true;
    segment.put(page);
    this.admit(page);
  }

  /** Reads pages past the cache. Rejects with JOURNAL_DAMAGED when they are no longer what was written. */
  async fetch(segment: Segment, first: number, count: number): Promise<Buffer> {
    const buffer = this.takeBuffer(count * segment.pageBytes);
    const base = first * segment.pageBytes;
    const bytes = Math.min(buffer.length, segment.end - base);
    const filled = await this.#options.read(segment.number, buffer.subarray(0, bytes), base);
    const broken = filled < bytes ? filled : firstBroken(buffer.subarray(0, bytes));
    if (broken < 0) return buffer;
    const file = this.#options.nameOf(segment.number);
    throw new MillraceError(
      'JOURNAL_DAMAGED',
      `${file} is damaged at offset ${base + broken}: it was intact when it was written; stop the server and run: millrace journal verify`,
      { details: { file, segment: segment.number, offset: base + broken } },
    );
  }

  #evictOne(newest: Page): void {
    for (;;) {
      if (this.#hand >= this.#ring.length) this.#hand = 0;
      const page = this.#ring[this.#hand];
      if (page !== newest && !page.used) {
        this.#leaveRing(page);
        this.#options.segmentOf(page.segment)?.take(page);
        this.giveBuffer(page.bytes);
        return;
      }
      page.used = false;
      this.#hand++;
    }
  }

  #leaveRing(page: Page): void {
    const last = this.#ring.pop() as Page;
    if (last !== page) {
      this.#ring[page.slot] = last;
      last.slot = page.slot;
    }
    page.slot = -1;
    this.#cachedBytes -= page.bytes.length;
  }
}
