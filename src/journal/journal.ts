import { InvariantError, invariant, MillraceError } from '../errors.ts';
import { EPOCH_MAX } from '../ids.ts';
import type { BucketCounts } from '../io/bucket-counts.ts';
import { type Clock, settlesWithin } from '../io/clock.ts';
import type { Disk, DiskLock } from '../io/disk.ts';
import { LIMITS } from '../limits.ts';
import { CLOSE, EPOCH, recordBytes, segmentName, USER_TYPE_MAX, USER_TYPE_MIN } from './format.ts';
import { PageCache } from './page-cache.ts';
import { readSegment } from './read-segment.ts';
import type { Describe, JournalRecord, RecordType } from './record.ts';
import { checkLock, type OpenReport, recover, unusable } from './recover.ts';
import { type Extent, type Page, type Segment, Segments } from './segment.ts';
import type { Storage } from './storage.ts';
import { Tail } from './tail.ts';
import { checkFsyncPolicy, type FsyncPolicy, Writer } from './writer.ts';

export { EPOCH, SEGMENT_STATE } from './format.ts';
export type { Describe, JournalRecord, Position, RecordType } from './record.ts';
export type { OpenReport } from './recover.ts';
export type { Extent } from './segment.ts';
export { checkFsyncPolicy, type FsyncPolicy } from './writer.ts';

export interface JournalOptions {
  /** Null: everything stays in memory. */
  directory: string | null;
  disk: Disk;
  clock: Clock;
  fsync: FsyncPolicy;
  fsyncIntervalMs: number;
  segmentBytes: number;
  /** A power of two; only tests want another than `LIMITS.pageBytes`. */
  pageBytes?: number;
  cacheBytes: number;
  describe?: Describe;
  /**
   * What a reader must know that begins with this segment. Called within `append`, before the record is placed that did
   * not fit into the segment before; must not append.
   */
  segmentState: () => Uint8Array;
  /**
   * A segment holds nothing any more, and goes once `settleEmptied` was called: records in later segments may speak of things
   * that began in it, and mean nothing to a replay without it. Must not append. Absent: nothing is lost with a segment.
   */
  onEmptied?: () => void;
  /** Everything up to `sequence` may be confirmed. */
  onDurable: (sequence: number) => void;
  onFailure: (error: MillraceError) => void;
  /** The disk is full, or no longer; `hasRoom` tells for what there is still room. */
  onRoom: (hasRoom: boolean) => void;
}

export interface JournalStats {
  segments: number;
  spareSegments: number;
  /** Behind the last record of each segment, added up. */
  bytes: number;
  appendedBytes: number;
  syncs: number;
  cachedBytes: number;
  unwrittenBytes: number;
  diskFull: boolean;
}

export interface SegmentSummary {
  segment: number;
  liveCount: number;
  recordedCount: number;
  bytes: number;
}

const NO_PARTS: readonly Uint8Array[] = [];

/**
 * The append-only log. `append` copies into the tail page and returns; the writer takes it from there.
 *
 * opening (replay) ──► open ── close ──► closed
 *                        └── a write failed ──► failed: reads still work, appends throw, nothing is confirmed
 */
export class Journal {
  readonly #options: JournalOptions;
  readonly #pageBytes: number;
  readonly #segments = new Segments();
  readonly #cache: PageCache;
  #storage!: Storage;
  #writer!: Writer;
  #lock!: DiskLock;
  #tail!: Tail;
  #epoch = 0;
  #isOpen = false;
  #asksForEmptied = false;
  #closing: Promise<void> | undefined;

  private constructor(options: JournalOptions) {
    this.#options = options;
    this.#pageBytes = Math.min(options.pageBytes ?? LIMITS.pageBytes, options.segmentBytes);
    this.#cache = new PageCache({
      clock: options.clock,
      // In memory mode the pages are all there is.
      cacheBytes: options.directory === null ? Number.POSITIVE_INFINITY : options.cacheBytes,
      pageBytes: this.#pageBytes,
      read: (segment, into, position) => this.#storage.read(segment, into, position),
      nameOf: segmentName,
      segmentOf: (number) => this.#segments.at(number),
    });
  }

  /**
   * Replays what the directory holds and begins a new epoch. `replay` gets every record of the user, and SEGMENT_STATE
   * and EPOCH, in order; it may call `retain` and `release` of the journal that it is given.
   */
  static async open(
    options: JournalOptions,
    replay: (record: JournalRecord, journal: Journal) => void,
  ): Promise<{ journal: Journal; report: OpenReport }> {
    checkFsyncPolicy(options.fsync);
    const startMs = options.clock.steadyMs();
    const journal = new Journal(options);
    const recovered = await recover(options, {
      segments: journal.#segments,
      replay: (record) => replay(record, journal),
      onRoom: (hasRoom) => options.onRoom(hasRoom),
      onFailure: (error) => (journal.#writer as Writer | undefined)?.fail(error),
    });
    journal.#storage = recovered.storage;
    journal.#lock = recovered.lock;
    try {
      await journal.#start(recovered.tail, recovered.sequence, recovered.epoch);
    } catch (error) {
      await journal.#shut();
      const isStorage = error instanceof MillraceError && error.code === 'STORAGE_FAILED';
      throw isStorage && error.cause !== undefined ? unusable(String(options.directory), error.cause) : error;
    }
    const report = { ...recovered.report, epoch: journal.epoch, ms: options.clock.steadyMs() - startMs };
    return { journal, report };
  }

  async #start(page: Page | undefined, sequence: number, epoch: number): Promise<void> {
    const { storage, options } = { storage: this.#storage, options: this.#options };
    this.#writer = new Writer({
      storage,
      clock: options.clock,
      fsync: options.directory === null ? 'always' : options.fsync,
      fsyncIntervalMs: options.fsyncIntervalMs,
      segmentBytesOf: (segment) => this.#segments.at(segment)?.segmentBytes ?? options.segmentBytes,
      onPageDurable: (page) => this.#cache.admit(page),
      onDurable: options.onDurable,
      onSynced: () => this.#recycle(),
      onFailure: options.onFailure,
    });
    this.#writer.start(sequence);
    this.#tail = new Tail(
      {
        segments: this.#segments,
        cache: this.#cache,
        writer: this.#writer,
        segmentBytes: options.segmentBytes,
        pageBytes: this.#pageBytes,
        segmentState: options.segmentState,
        onSegmentBegun: () => this.#recycle(),
      },
      { page, sequence, epoch: page === undefined ? nextEpoch(epoch) : epoch },
    );
    this.#isOpen = true;
    this.#tail.epoch = epoch;
    await this.advanceEpoch();
    storage.waitForRoom();
  }

  /**
   * Copies the parts as one record and returns its sequence. Throws CLOSED or STORAGE_FAILED; never waits: see
   * `unwrittenBytes` and `hasRoom`.
   */
  append(type: RecordType, ...parts: readonly Uint8Array[]): number {
    invariant(type >= USER_TYPE_MIN && type <= USER_TYPE_MAX, `record type ${type} is not the user's`);
    this.#checkOpen();
    return this.#tail.append(type, parts);
  }

  /** Where the body of the last appended record begins. */
  get lastSegment(): number {
    return this.#tail.lastSegment;
  }

  get lastOffset(): number {
    return this.#tail.lastOffset;
  }

  get appendedSequence(): number {
    return this.#tail.sequence;
  }

  /** Up to here everything may be confirmed: it is on disk (fsync `always`) or in the kernel's hands. */
  get durableSequence(): number {
    return this.#writer.durableSequence;
  }

  /** Bytes appended and not yet durable. */
  get unwrittenBytes(): number {
    return this.#writer.unwrittenBytes;
  }

  /** The synced start count: what it marks can never come again. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Everything appended so far is on disk when this resolves, whatever the fsync policy. */
  flush(): Promise<void> {
    return this.#writer.flush();
  }

  /** False when the disk is full: `reservedBytes` of the last room are for outcomes only. */
  hasRoom(bytes: number, purpose: 'task' | 'outcome'): boolean {
    if (!this.#storage.isFull) return true;
    const room = this.#storage.roomBehind(this.#tail.active.number, this.#tail.active.end);
    const reserved = purpose === 'task' ? Math.min(LIMITS.reservedBytes, this.#options.segmentBytes / 8) : 0;
    // The record may leave the rest of a page behind.
    const taken = recordBytes(bytes) + Math.min(recordBytes(bytes), this.#pageBytes);
    return room - reserved >= taken;
  }

  /** Begins a new epoch; resolves with it when it is on disk. */
  async advanceEpoch(): Promise<number> {
    this.#checkOpen();
    const epoch = nextEpoch(this.#tail.epoch);
    this.#tail.epoch = epoch;
    this.#tail.append(EPOCH, NO_PARTS);
    await Promise.all([this.#writer.flush(), checkLock(this.#lock, this.#options.directory)]);
    this.#epoch = Math.max(this.#epoch, epoch);
    return epoch;
  }

  /** The bytes around `offset` if they are in memory. Valid in this turn of the event loop only. */
  locate(segment: number, offset: number): Extent | undefined {
    const found = this.#segments.at(segment);
    if (found === undefined) return undefined;
    const page = found.pages[offset >>> found.pageShift];
    if (page !== undefined) page.used = true;
    return page;
  }

  /**
   * Brings the bytes around `offset` into memory, unless the segment is given up meanwhile. It must exist when this is called: who
   * looks for a place again until it is there would look for ever.
   */
  async load(segment: number, offset: number): Promise<void> {
    const found = this.#segments.at(segment);
    if (found === undefined) throw new InvariantError(`load from segment ${segment}, which does not exist`);
    await this.#cache.load(found, offset >>> found.pageShift);
  }

  /** `count` more things need this segment. */
  retain(segment: number, count: number): void {
    const found = this.#segments.at(segment);
    if (found === undefined) throw new InvariantError(`retain in segment ${segment}, which does not exist`);
    found.liveCount += count;
    found.recordedCount += count;
  }

  /** `count` things no longer need it. When nothing does, and it is the oldest, it is recycled. */
  release(segment: number, count: number): void {
    const found = this.#segments.at(segment);
    if (found === undefined) throw new InvariantError(`release in segment ${segment}, which does not exist`);
    found.liveCount -= count;
    invariant(found.liveCount >= 0, `segment ${segment} released ${-found.liveCount} times too often`);
    if (found.liveCount > 0) return;
    // During replay there is no tail: what is replayed is on disk.
    found.emptiedSequence = this.#isOpen ? this.#tail.sequence : 0;
    this.#recycle();
  }

  /** Keeps a segment readable, whatever is released meanwhile, until the function returned is called. */
  hold(segment: number): () => void {
    const found = this.#segments.at(segment);
    if (found === undefined) throw new InvariantError(`hold of segment ${segment}, which does not exist`);
    found.readers++;
    return () => {
      found.readers--;
      this.#recycle();
    };
  }

  /** What would be lost with the empty segments has been appended. */
  settleEmptied(): void {
    this.#asksForEmptied = false;
    for (const segment of this.#segments) {
      if (!this.#isEmpty(segment)) break;
      if (segment.keptSequence < 0) segment.keptSequence = this.#tail.sequence;
    }
    this.#recycle();
  }

  /** `onEmptied` was called, and not answered yet. */
  get asksForEmptied(): boolean {
    return this.#asksForEmptied;
  }

  get segmentCount(): number {
    return this.#segments.count;
  }

  /** The oldest segment that is no longer appended to. */
  oldestSegment(): SegmentSummary | undefined {
    const oldest = this.#segments.oldest;
    if (oldest === undefined || oldest === this.#tail.active) return undefined;
    const { number: segment, liveCount, recordedCount, end: bytes } = oldest;
    return { segment, liveCount, recordedCount, bytes };
  }

  /** Visits the user's records of a segment, page by page, with the event loop free between pages. */
  async read(
    segment: number,
    visit: (record: JournalRecord) => void,
    options: { betweenPages?: () => Promise<void> } = {},
  ): Promise<void> {
    const found = this.#segments.at(segment);
    if (found === undefined) throw new InvariantError(`read of segment ${segment}, which does not exist`);
    const { clock } = this.#options;
    const pause = options.betweenPages ?? (() => new Promise<void>((resolve) => clock.deferPastInput(resolve)));
    found.readers++;
    try {
      await readSegment(found, this.#cache, visit, pause);
    } finally {
      found.readers--;
      this.#recycle();
    }
  }

  /** Of syncs, since the journal was opened. */
  get syncDurations(): BucketCounts {
    return this.#writer.syncDurations;
  }

  stats(): JournalStats {
    let bytes = 0;
    for (const segment of this.#segments) bytes += segment.end;
    return {
      segments: this.#segments.count,
      spareSegments: this.#storage.spareCount,
      bytes,
      appendedBytes: this.#tail.appendedBytes,
      syncs: this.#writer.syncCount,
      cachedBytes: this.#cache.cachedBytes,
      unwrittenBytes: this.#writer.unwrittenBytes,
      diskFull: this.#storage.isFull,
    };
  }

  /**
   * Syncs what was appended and marks a clean end. Rejects when that failed, or has not happened after `closeTimeoutMs`.
   * The directory is released either way, as soon as no write is under way in it any more.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isOpen = false;
    this.#storage.prepareClose();
    const ended = this.#end();
    if (!(await settlesWithin(this.#options.clock, LIMITS.closeTimeoutMs, ended))) {
      this.#writer.fail(closeTimeout(this.#writer.unwrittenBytes));
      // What it still has to say is that it was given up.
      ended.catch(() => {});
      throw this.#writer.failure;
    }
    await ended;
  }

  async #end(): Promise<void> {
    try {
      await this.#writer.flush();
      // Only now, so that it says of everything before that it is synced.
      this.#tail.append(CLOSE, NO_PARTS);
      await this.#writer.flush();
    } finally {
      await this.#shut();
    }
  }

  async #shut(): Promise<void> {
    this.#isOpen = false;
    this.#writer?.stop();
    try {
      await this.#storage.close();
    } finally {
      await this.#lock.release();
    }
  }

  #checkOpen(): void {
    if (this.#writer.failure !== undefined) throw this.#writer.failure;
    if (!this.#isOpen) throw new MillraceError('CLOSED', 'the journal is closed');
  }

  #isEmpty(segment: Segment): boolean {
    return segment !== this.#tail.active && segment.liveCount === 0;
  }

  /** Gives up the oldest segments that nothing needs, once what emptied them and the head of the next are on disk. */
  #recycle(): void {
    if (!this.#isOpen) return;
    for (;;) {
      const oldest = this.#segments.oldest as Segment;
      if (!this.#isEmpty(oldest) || oldest.readers > 0) return;
      if (this.#options.onEmptied !== undefined && oldest.keptSequence < 0) {
        if (this.#asksForEmptied) return;
        this.#asksForEmptied = true;
        this.#options.onEmptied();
        return;
      }
      const next = this.#segments.at(oldest.number + 1) as Segment;
      const needed = Math.max(oldest.emptiedSequence, oldest.keptSequence, next.firstSequence);
      if (this.#writer.syncedSequence < needed) {
        // Without fsync nothing else would sync before the next segment is full.
        this.#writer.requestSync();
        return;
      }
      this.#segments.dropOldest();
      this.#cache.drop(oldest);
      this.#storage.recycle(oldest.number).catch((error: unknown) => this.#writer.fail(error));
    }
  }
}

function closeTimeout(unwrittenBytes: number): MillraceError {
  const waitedMs = LIMITS.closeTimeoutMs;
  return new MillraceError(
    'STORAGE_FAILED',
    unwrittenBytes > 0
      ? `the disk did not take the end of the journal within ${waitedMs} ms: ${unwrittenBytes} bytes, of which nothing was confirmed, are not written`
      : `the disk did not sync the end of the journal within ${waitedMs} ms: a crash of the machine may still take it`,
    { details: { unwrittenBytes, waitedMs } },
  );
}

function nextEpoch(epoch: number): number {
  if (epoch >= EPOCH_MAX) {
    throw new MillraceError(
      'JOURNAL_UNUSABLE',
      `this journal has been opened ${EPOCH_MAX} times, ids would repeat: begin a new one`,
      {
        details: { epoch },
      },
    );
  }
  return epoch + 1;
}
