import { MillraceError, shown } from '../errors.ts';
import { BucketCounts } from '../io/bucket-counts.ts';
import type { Clock, Timer } from '../io/clock.ts';
import type { Page } from './segment.ts';
import { isNoSpace } from './segment-files.ts';
import type { Storage } from './storage.ts';

/**
 * Group commit. One write is in flight; what is appended meanwhile goes into the next.
 *
 * `always`: a write that returned is on disk. `interval`, `never`: it is in the kernel's memory, and a sync, on a timer
 * or asked for, makes `syncedSequence` follow `durableSequence`.
 * The first failure is the last: nothing is confirmed any more.
 */
const FSYNC_POLICIES = ['always', 'interval', 'never'] as const;

export type FsyncPolicy = (typeof FSYNC_POLICIES)[number];

/** Throws INVALID_ARGUMENT: a policy that is none must not pass for a weaker one. */
export function checkFsyncPolicy(value: unknown): asserts value is FsyncPolicy {
  if (FSYNC_POLICIES.includes(value as FsyncPolicy)) return;
  throw new MillraceError('INVALID_ARGUMENT', `fsync is ${shown(value)}; allowed are ${FSYNC_POLICIES.join(', ')}`);
}

export interface WriterOptions {
  storage: Storage;
  clock: Clock;
  fsync: FsyncPolicy;
  fsyncIntervalMs: number;
  segmentBytesOf: (segment: number) => number;
  /** No byte of the page is waiting to be written, and none will be added. */
  onPageDurable: (page: Page) => void;
  onDurable: (sequence: number) => void;
  onSynced: () => void;
  onFailure: (error: MillraceError) => void;
}

/** Bounds how long a record waits for what was appended before it. */
const WRITE_BYTES_MAX = 4 * 1024 * 1024;

interface Chunk {
  page: Page;
  from: number;
  to: number;
}

export class Writer {
  readonly #options: WriterOptions;
  /** Pages with bytes that are not written, or that may get some, in the order of the log. The last is the tail. */
  readonly #pages: Page[] = [];
  #appendedSequence = 0;
  #durableSequence = 0;
  #syncedSequence = 0;
  #unwrittenBytes = 0;
  #isScheduled = false;
  #isSyncing = false;
  #flushSequence = 0;
  #flushes: { sequence: number; resolve: () => void; reject: (error: MillraceError) => void }[] = [];
  #timer: Timer | undefined;
  #failure: MillraceError | undefined;
  syncCount = 0;
  /** Until bytes were on disk: of writes with `always`, of syncs with the others. */
  readonly syncDurations = new BucketCounts();

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  get durableSequence(): number {
    return this.#durableSequence;
  }

  get syncedSequence(): number {
    return this.#syncedSequence;
  }

  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }

  get failure(): MillraceError | undefined {
    return this.#failure;
  }

  /** Where the log stands when writing begins. */
  start(sequence: number): void {
    this.#appendedSequence = sequence;
    this.#durableSequence = sequence;
    this.#syncedSequence = sequence;
  }

  /** The page becomes the tail; the one before gets nothing more. */
  addPage(page: Page): void {
    this.#pages.push(page);
  }

  /** Bytes were added to the tail page. */
  appended(bytes: number, sequence: number): void {
    this.#unwrittenBytes += bytes;
    this.#appendedSequence = sequence;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#options.clock.defer(() => {
      void this.#writeAll();
    });
  }

  /** Everything appended so far is on disk when this resolves, whatever the policy. */
  flush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const sequence = this.#appendedSequence;
    if (this.#syncedSequence >= sequence) return Promise.resolve();
    this.#flushSequence = sequence;
    return new Promise((resolve, reject) => {
      this.#flushes.push({ sequence, resolve, reject });
      this.#syncIfAsked();
    });
  }

  /** Syncs soon what is appended by now. */
  requestSync(): void {
    if (this.#flushSequence > this.#syncedSequence) return;
    this.#flushSequence = this.#appendedSequence;
    this.#syncIfAsked();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.stop();
    this.#failure = failureOf(error);
    for (const flush of this.#flushes) flush.reject(this.#failure);
    this.#flushes = [];
    this.#options.onFailure(this.#failure);
  }

  async #writeAll(): Promise<void> {
    const { storage, segmentBytesOf, clock } = this.#options;
    while (this.#unwrittenBytes > 0 && this.#failure === undefined) {
      const { chunks, sequence } = this.#gather();
      const { page, from } = chunks[0];
      const target = { segment: page.segment, segmentBytes: segmentBytesOf(page.segment) };
      const startMs = clock.steadyMs();
      try {
        await storage.write(
          target,
          chunks.map((chunk) => chunk.page.bytes.subarray(chunk.from, chunk.to)),
          page.base + from,
        );
      } catch (error) {
        this.fail(error);
      }
      if (this.#failure === undefined) this.#wrote(chunks, sequence, startMs);
    }
    this.#isScheduled = false;
  }

  /** The next write: neighbouring bytes of one segment. */
  #gather(): { chunks: Chunk[]; sequence: number } {
    const chunks: Chunk[] = [];
    let sequence = this.#durableSequence;
    let room = WRITE_BYTES_MAX;
    for (const page of this.#pages) {
      if (page.filled === page.written) continue;
      if (chunks.length > 0 && page.segment !== chunks[0].page.segment) break;
      const to = Math.min(page.filled, page.written + room);
      chunks.push({ page, from: page.written, to });
      room -= to - page.written;
      if (to === page.filled) sequence = page.lastSequence;
      if (room === 0) break;
    }
    return { chunks, sequence };
  }

  #wrote(chunks: Chunk[], sequence: number, startMs: number): void {
    for (const { page, from, to } of chunks) {
      page.written = to;
      this.#unwrittenBytes -= to - from;
    }
    const { fsync, onPageDurable, onDurable } = this.#options;
    const isProgress = sequence > this.#durableSequence;
    this.#durableSequence = sequence;
    while (this.#pages[0]?.sealed && this.#pages[0].written === this.#pages[0].filled) {
      onPageDurable(this.#pages.shift() as Page);
    }
    if (fsync === 'always') {
      this.#synced(sequence, startMs);
    } else if (fsync === 'interval' && this.#timer === undefined) {
      this.#timer = this.#options.clock.setTimer(this.#options.fsyncIntervalMs, () => {
        this.#timer = undefined;
        void this.#sync();
      });
    }
    if (isProgress) onDurable(sequence);
    this.#syncIfAsked();
  }

  #syncIfAsked(): void {
    const isBehind = this.#syncedSequence < this.#flushSequence && this.#durableSequence >= this.#flushSequence;
    if (isBehind && this.#options.fsync !== 'always') void this.#sync();
  }

  async #sync(): Promise<void> {
    if (this.#isSyncing || this.#failure !== undefined) return;
    this.#isSyncing = true;
    const sequence = this.#durableSequence;
    const startMs = this.#options.clock.steadyMs();
    try {
      await this.#options.storage.sync();
    } catch (error) {
      this.fail(error);
    }
    this.#isSyncing = false;
    if (this.#failure !== undefined) return;
    this.#synced(sequence, startMs);
    this.#syncIfAsked();
  }

  #synced(sequence: number, startMs: number): void {
    this.syncCount++;
    this.syncDurations.record(this.#options.clock.steadyMs() - startMs);
    this.#syncedSequence = sequence;
    while (this.#flushes[0] !== undefined && this.#flushes[0].sequence <= sequence) this.#flushes.shift()?.resolve();
    this.#options.onSynced();
  }
}

function failureOf(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return isNoSpace(error)
    ? new MillraceError('DISK_FULL', `the disk is full, the journal could not write: ${reason}`, { cause: error })
    : new MillraceError('STORAGE_FAILED', `writing the journal failed, nothing more is confirmed: ${reason}`, {
        cause: error,
      });
}
