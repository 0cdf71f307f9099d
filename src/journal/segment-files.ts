import { join } from 'node:path';
import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { Disk, DiskFile } from '../io/disk.ts';
import { LIMITS } from '../limits.ts';
import { segmentName, spareName } from './format.ts';
import { PatientDisk } from './patient-disk.ts';
import { ReadFiles } from './read-files.ts';
import type { Storage } from './storage.ts';

/**
 * The segment files of one journal.
 *
 * (nothing) ── created, zeroed piece by piece ──► next ── the one before is full ──► active ──► closed ── recycled ──► spare
 * spare ── renamed ──► next                                                        (too many spares: removed in steps)
 *
 * `readyBytes` of a file are allocated on disk; writing there changes no metadata, which makes a sync half as long, and
 * cannot meet a full disk. Writes stay below it. No more is made ready than a quarter of a segment ahead of the log: a
 * sync waits behind the zeros that are being written, and on a quiet server these would be the only thing that it waits for.
 */
interface SegmentFile {
  readonly number: number;
  readonly file: DiskFile;
  readyBytes: number;
  bytes: number;
}

export interface SegmentFilesOptions {
  disk: Disk;
  clock: Clock;
  directory: string;
  segmentBytes: number;
  /** Every write is on disk when it returns. */
  synced: boolean;
  /** Rejects when the directory is no longer ours. */
  checkLock: () => Promise<void>;
  onRoom: (hasRoom: boolean) => void;
  /** Making room failed for another reason than a full disk. */
  onFailure: (error: unknown) => void;
}

/** Of a segment, what is ready ahead of the log. More than is reserved for outcomes when the disk is full. */
const AHEAD_SHARE = 1 / 4;
/** While the log is near the end of what is ready, the piece is large, and the next follows at once. */
const LARGE_PIECE_BYTES = 1024 * 1024;
/** Otherwise a sync waits behind little, and finds the disk free in between. */
const SMALL_PIECE_BYTES = 128 * 1024;
const PIECE_PAUSE_MS = 5;
const ZEROS = Buffer.alloc(LARGE_PIECE_BYTES);
const FULL_RETRY_MS = 1000;
const TRUNCATE_BYTES = 8 * 1024 * 1024;
const TRUNCATE_PAUSE_MS = 20;

export class SegmentFiles implements Storage {
  readonly #options: SegmentFilesOptions;
  readonly #disk: PatientDisk;
  readonly #reads: ReadFiles;
  #active: SegmentFile | undefined;
  #next: SegmentFile | undefined;
  readonly #spares: number[] = [];
  /** End of what has been written to the active file. */
  #writtenEnd = 0;
  #isWriting = false;
  #writeWaits = false;
  #isFull = false;
  #isPreparing = false;
  /** While opening and closing a full disk is a failure; in between it is a reason to wait. */
  #waitsForRoom = false;
  #isClosed = false;
  #failure: unknown;
  #waiting: (() => void)[] = [];
  readonly #pauses = new Set<() => void>();
  #syncing: Promise<void> = Promise.resolve();
  #recycling: Promise<void> = Promise.resolve();

  constructor(options: SegmentFilesOptions) {
    this.#disk = new PatientDisk(options.disk, options.clock, () => this.#reads.closeIdle());
    this.#options = { ...options, disk: this.#disk };
    this.#reads = new ReadFiles(LIMITS.readSegmentsMax, (segment) =>
      this.#disk.open(join(options.directory, segmentName(segment)), {}),
    );
  }

  /**
   * `active`: where the log goes on, unless it is new; from `syncedEnd` to `end` it was read, and is perhaps on no disk.
   * `unused`: segment files that were made and never begun.
   */
  async open(found: {
    active: { number: number; syncedEnd: number; end: number; bytes: number } | undefined;
    unused: number[];
    spares: number[];
  }): Promise<void> {
    const { disk, directory } = this.#options;
    const nextNumber = (found.active?.number ?? 0) + 1;
    this.#spares.push(...found.spares);
    for (const number of found.unused) {
      if (number === nextNumber) this.#next = await this.#openFile(number);
      else {
        await disk.rename(join(directory, segmentName(number)), join(directory, spareName(number)));
        // It may have taken the place of one.
        if (!this.#spares.includes(number)) this.#spares.push(number);
      }
    }
    // A process that was killed may have made or renamed what is here, and not seen to it that the disk knows.
    await disk.syncDirectory(directory);
    if (found.active !== undefined) {
      this.#active = { ...(await this.#openFile(found.active.number)), bytes: found.active.bytes };
      await rewrite(this.#active.file, found.active.syncedEnd, found.active.end);
      this.#writtenEnd = found.active.end;
    }
    this.#recycling = this.#removeExcess();
  }

  waitForRoom(): void {
    this.#waitsForRoom = true;
    this.#disk.isPatient = true;
    this.#prepare();
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  get spareCount(): number {
    return this.#spares.length;
  }

  async write(
    target: { segment: number; segmentBytes: number },
    buffers: readonly Uint8Array[],
    position: number,
  ): Promise<void> {
    this.#isWriting = true;
    try {
      await this.#write(target, buffers, position);
    } finally {
      this.#isWriting = false;
      this.#wake();
    }
  }

  async #write(
    target: { segment: number; segmentBytes: number },
    buffers: readonly Uint8Array[],
    position: number,
  ): Promise<void> {
    if (this.#active?.number !== target.segment) await this.#advance(target);
    const active = this.#active as SegmentFile;
    const end = buffers.reduce((sum, buffer) => sum + buffer.length, position);
    this.#writtenEnd = end;
    if (active.readyBytes < end) await this.#waitFor(() => active.readyBytes >= end);
    this.#prepare();
    for (let isRetry = false; ; isRetry = true) {
      try {
        await active.file.write(buffers, position);
        if (isRetry) this.#setFull(false);
        return;
      } catch (error) {
        // Copy-on-write file systems need room even for what is allocated.
        if (!isNoSpace(error) || !this.#waitsForRoom) throw error;
        this.#setFull(true);
        await this.#sleep(FULL_RETRY_MS);
        if (this.#isClosed) throw error;
      }
    }
  }

  async sync(): Promise<void> {
    const before = this.#syncing;
    const file = this.#active?.file;
    this.#syncing = before.then(() => file?.sync());
    await this.#syncing;
  }

  read(segment: number, into: Buffer, position: number): Promise<number> {
    return this.#reads.read(segment, into, position);
  }

  recycle(segment: number): Promise<void> {
    const { disk, directory } = this.#options;
    this.#recycling = this.#recycling.then(async () => {
      if (this.#isClosed) return;
      await this.#options.checkLock();
      await this.#reads.forget(segment);
      await disk.rename(join(directory, segmentName(segment)), join(directory, spareName(segment)));
      await disk.syncDirectory(directory);
      this.#spares.push(segment);
      this.#endPauses();
      this.#prepare();
      await this.#removeExcess();
    });
    return this.#recycling;
  }

  roomBehind(segment: number, offset: number): number {
    let room = -offset;
    const files = [this.#active, this.#next].filter((file) => file !== undefined && file.number >= segment);
    for (const file of files) room += (file as SegmentFile).readyBytes;
    return room + this.#spares.length * this.#options.segmentBytes;
  }

  prepareClose(): void {
    this.#waitsForRoom = false;
    this.#disk.giveUp();
    this.#endPauses();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#endPauses();
    this.#wake();
    // What is under way would go on in files that are somebody else's by then.
    await this.#waitUntil(() => !this.#isPreparing && !this.#isWriting);
    // Whoever asked for these has met their errors.
    await this.#recycling.catch(() => undefined);
    await this.#syncing.catch(() => undefined);
    await this.#reads.close();
    await this.#active?.file.close();
    await this.#next?.file.close();
    this.#active = undefined;
    this.#next = undefined;
  }

  /** Makes the next file the active one. All of the one before is on disk before the first byte of the new one. */
  async #advance(target: { segment: number; segmentBytes: number }): Promise<void> {
    const before = this.#active;
    if (before !== undefined && !this.#options.synced) await this.sync();
    await this.#waitFor(() => this.#next !== undefined);
    const next = this.#next as SegmentFile;
    next.bytes = Math.max(next.bytes, target.segmentBytes);
    this.#active = next;
    this.#next = undefined;
    this.#writtenEnd = 0;
    await this.#syncing;
    await before?.file.close();
  }

  async #waitFor(condition: () => boolean): Promise<void> {
    this.#writeWaits = true;
    this.#prepare();
    this.#endPauses();
    await this.#waitUntil(() => condition() || this.#isClosed || this.#failure !== undefined);
    this.#writeWaits = false;
    if (!condition()) throw this.#failure ?? new MillraceError('CLOSED', 'the journal was closed');
  }

  async #waitUntil(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** Starts what makes files ready, unless it runs. */
  #prepare(): void {
    if (this.#isPreparing || this.#failure !== undefined || !this.#hasWork()) return;
    this.#isPreparing = true;
    this.#prepareAll()
      .catch((error: unknown) => {
        this.#failure = error;
        if (!this.#isClosed) this.#options.onFailure(error);
      })
      .finally(() => {
        this.#isPreparing = false;
        this.#wake();
        // What came up between its last look and now would find nobody.
        this.#prepare();
      });
  }

  #hasWork(): boolean {
    if (this.#isClosed || (!this.#waitsForRoom && !this.#writeWaits)) return false;
    // A file that was used before needs no zeros, and nobody else can have it.
    if (this.#next === undefined && this.#spares.length > 0) return true;
    const isNextReady = this.#next !== undefined && isReady(this.#next);
    if (isNextReady && (this.#active === undefined || isReady(this.#active))) return false;
    return this.#writeWaits || this.#aheadBytes < this.#aheadBytesMin;
  }

  /** Ready behind the end of the log. */
  get #aheadBytes(): number {
    return (this.#active?.readyBytes ?? 0) - this.#writtenEnd + (this.#next?.readyBytes ?? 0);
  }

  get #aheadBytesMin(): number {
    return this.#options.segmentBytes * AHEAD_SHARE;
  }

  get #isUrgent(): boolean {
    return this.#writeWaits || this.#aheadBytes < this.#aheadBytesMin / 2;
  }

  async #prepareAll(): Promise<void> {
    while (this.#hasWork()) {
      try {
        await this.#prepareOne();
        this.#setFull(false);
      } catch (error) {
        if (!isNoSpace(error) || (!this.#waitsForRoom && this.#writeWaits)) throw error;
        if (this.#spares.length > 0) {
          // A file that is half made cannot use it, but the room that it takes.
          await this.#removeSpare();
          continue;
        }
        this.#setFull(true);
        await this.#sleep(FULL_RETRY_MS);
        continue;
      }
      this.#wake();
      if (!this.#isUrgent) await this.#sleep(PIECE_PAUSE_MS);
    }
  }

  async #prepareOne(): Promise<void> {
    const unready = [this.#active, this.#next].find((file) => file !== undefined && !isReady(file));
    if (unready === undefined) {
      this.#next = await this.#makeNext();
      return;
    }
    const pieceBytes = this.#isUrgent ? LARGE_PIECE_BYTES : SMALL_PIECE_BYTES;
    const bytes = Math.min(pieceBytes, unready.bytes - unready.readyBytes);
    await unready.file.write([ZEROS.subarray(0, bytes)], unready.readyBytes);
    unready.readyBytes += bytes;
  }

  async #makeNext(): Promise<SegmentFile> {
    const { disk, directory, synced } = this.#options;
    await this.#options.checkLock();
    const number = (this.#active?.number ?? 0) + 1;
    const path = join(directory, segmentName(number));
    const spare = this.#spares[0];
    if (spare !== undefined) {
      await disk.rename(join(directory, spareName(spare)), path);
      this.#spares.shift();
      await disk.syncDirectory(directory);
      return await this.#openFile(number);
    }
    const file = await disk.open(path, { create: true, write: true, synced });
    await disk.syncDirectory(directory);
    return { number, file, readyBytes: 0, bytes: this.#options.segmentBytes };
  }

  async #openFile(number: number): Promise<SegmentFile> {
    const { disk, directory, synced, segmentBytes } = this.#options;
    const file = await disk.open(join(directory, segmentName(number)), { write: true, synced });
    return { number, file, readyBytes: await file.size(), bytes: segmentBytes };
  }

  async #removeExcess(): Promise<void> {
    while (this.#spares.length > LIMITS.spareSegmentsMax && !this.#isClosed) await this.#removeSpare();
  }

  /** In steps: a file system that discards blocks stops everything while it does. */
  async #removeSpare(): Promise<void> {
    const { disk, directory } = this.#options;
    const path = join(directory, spareName(this.#spares.pop() as number));
    const file = await disk.open(path, { write: true });
    try {
      for (let bytes = await file.size(); bytes > TRUNCATE_BYTES && !this.#isClosed; ) {
        bytes -= TRUNCATE_BYTES;
        await file.truncate(bytes);
        await this.#sleep(TRUNCATE_PAUSE_MS);
      }
    } finally {
      await file.close();
    }
    await disk.remove(path);
  }

  #setFull(isFull: boolean): void {
    if (this.#isFull === isFull) return;
    this.#isFull = isFull;
    this.#options.onRoom(!isFull);
  }

  /** Ends early when room may have come. */
  #sleep(ms: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    return new Promise<void>((resolve) => {
      const end = () => {
        timer.cancel();
        this.#pauses.delete(end);
        resolve();
      };
      const timer = this.#options.clock.setTimer(ms, end);
      this.#pauses.add(end);
    });
  }

  #endPauses(): void {
    for (const end of [...this.#pauses]) end();
  }
}

function isReady(file: SegmentFile): boolean {
  return file.readyBytes >= file.bytes;
}

/**
 * What was read may have been in the kernel's memory only, and what is appended will say that it is synced. A sync alone
 * would not do: after one that failed, Linux takes what it could not write for written (the PostgreSQL developers'
 * "fsyncgate" of 2018), and shows it until it needs the memory.
 */
async function rewrite(file: DiskFile, from: number, to: number): Promise<void> {
  const piece = Buffer.allocUnsafeSlow(Math.min(LARGE_PIECE_BYTES, to - from));
  for (let at = from; at < to; ) {
    const length = await file.read(piece.subarray(0, Math.min(piece.length, to - at)), at);
    if (length === 0) break;
    await file.write([piece.subarray(0, length)], at);
    at += length;
  }
  await file.sync();
}

/** No room, or no room for this user. */
export function isNoSpace(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}
