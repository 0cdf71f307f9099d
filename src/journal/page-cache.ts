import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import { firstBroken } from './scan.ts';
import { Page, type Segment } from './segment.ts';

const FREE_BUFFERS_MAX = 8;
const NO_BYTES = Buffer.alloc(0);

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

interface Load {
  done: Promise<void>;
  /** Somebody asked for it; otherwise it is read ahead, and comes in only where it drives out nothing in use. */
  isWanted: boolean;
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
  #resting: Page[] = [];
  readonly #loads = new Map<Segment, Map<number, Load>>();

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

  /**
   * Nobody looks at the page after this turn of the event loop; who does it all the same finds it empty, not filled with
   * something else.
   */
  retire(page: Page): void {
    this.#resting.push(page);
    if (this.#resting.length > 1) return;
    this.#options.clock.deferPastInput(() => {
      for (const rested of this.#resting) {
        const buffer = rested.bytes;
        rested.bytes = NO_BYTES;
        if (buffer.length === this.#options.pageBytes && this.#free.length < FREE_BUFFERS_MAX) this.#free.push(buffer);
      }
      this.#resting = [];
    });
  }

  /** The page is durable and no longer appended to: from now on it may be evicted. */
  admit(page: Page): void {
    page.slot = this.#ring.length;
    this.#ring.push(page);
    this.#cachedBytes += page.bytes.length;
    while (this.#cachedBytes > this.#options.cacheBytes && this.#ring.length > 1) {
      if (this.#hand >= this.#ring.length) this.#hand = 0;
      const candidate = this.#ring[this.#hand];
      if (candidate === page || candidate.used) {
        candidate.used = false;
        this.#hand++;
      } else {
        this.#evict(candidate);
      }
    }
    page.used = true;
  }

  /** Drives out pages not looked at since the hand came by; false when they do not suffice. */
  #makeRoom(bytes: number): boolean {
    for (let i = this.#ring.length - 1; i >= 0 && this.#cachedBytes + bytes > this.#options.cacheBytes; i--) {
      const page = this.#ring[i];
      if (page !== undefined && !page.used) this.#evict(page);
    }
    return this.#cachedBytes + bytes <= this.#options.cacheBytes;
  }

  /** Forgets all pages of a segment that is given up. */
  drop(segment: Segment): void {
    for (const page of new Set(segment.pages)) {
      if (page === undefined) continue;
      if (page.slot >= 0) this.#leaveRing(page);
      this.retire(page);
    }
    segment.pages.fill(undefined);
    this.#loads.delete(segment);
  }

  /** Brings the page, and the one behind it later. Rejects with JOURNAL_DAMAGED when it is not what was written. */
  load(segment: Segment, page: number): Promise<void> {
    const { first, count } = segment.span(page);
    const wanted = this.#loadSpan(segment, first, count, true);
    const behind = segment.span(first + count);
    if (behind.first << segment.pageShift < segment.end) {
      // Whoever needs that page asks for it and meets the error then.
      this.#loadSpan(segment, behind.first, behind.count, false).catch(() => undefined);
    }
    return wanted;
  }

  #loadSpan(segment: Segment, first: number, count: number, isWanted: boolean): Promise<void> {
    if (segment.pages[first] !== undefined) return Promise.resolve();
    let loads = this.#loads.get(segment);
    if (loads === undefined) {
      loads = new Map();
      this.#loads.set(segment, loads);
    }
    const underWay = loads.get(first);
    if (underWay !== undefined) {
      underWay.isWanted ||= isWanted;
      return underWay.done;
    }
    const load: Load = { done: Promise.resolve(), isWanted };
    load.done = this.#loadOne(segment, first, count, load).finally(() => loads.delete(first));
    loads.set(first, load);
    return load.done;
  }

  async #loadOne(segment: Segment, first: number, count: number, load: Load): Promise<void> {
    const isGone = () => this.#options.segmentOf(segment.number) !== segment;
    let page: Page;
    try {
      page = await this.fetch(segment, first, count);
    } catch (error) {
      // Given up meanwhile: the file may hold another segment by now.
      if (isGone()) return;
      throw error;
    }
    if (isGone()) return;
    if (!load.isWanted && !this.#makeRoom(page.bytes.length)) {
      this.retire(page);
      return;
    }
    segment.put(page);
    this.admit(page);
  }

  /** Reads pages past the cache. Rejects with JOURNAL_DAMAGED when they are no longer what was written. */
  async fetch(segment: Segment, first: number, count: number): Promise<Page> {
    const page = new Page(segment.number, first * segment.pageBytes, this.takeBuffer(count * segment.pageBytes));
    const bytes = page.bytes.subarray(0, segment.end - page.base);
    const filled = await this.#options.read(segment.number, bytes, page.base);
    const broken = filled < bytes.length ? filled : firstBroken(bytes);
    if (broken < 0) {
      page.filled = bytes.length;
      page.written = bytes.length;
      page.sealed = true;
      return page;
    }
    const file = this.#options.nameOf(segment.number);
    throw new MillraceError(
      'JOURNAL_DAMAGED',
      `${file} is damaged at offset ${page.base + broken}: it was intact when it was written; stop the server and run: millrace journal verify`,
      {
        details: {
          file,
          segment: segment.number,
          offset: page.base + broken,
          /** Nothing of this can be read. */
          from: page.base,
          to: page.base + page.bytes.length,
        },
      },
    );
  }

  #evict(page: Page): void {
    this.#leaveRing(page);
    this.#options.segmentOf(page.segment)?.remove(page);
    this.retire(page);
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
