import { join } from 'node:path';
import { MillraceError } from '../errors.ts';
import type { Disk, DiskLock } from '../io/disk.ts';
import { CLOSE, decodeHead, HEAD_BYTES, HEADER_BYTES, PAD, SEGMENT_STATE, segmentName } from './format.ts';
import type { JournalOptions } from './journal.ts';
import type { JournalRecord } from './record.ts';
import { Page, Segment, type Segments } from './segment.ts';
import { SegmentFiles } from './segment-files.ts';
import { type Storage, VolatileStorage } from './storage.ts';
import { damageError, type Walk, type WalkedSegment, walk } from './walk.ts';

export interface OpenReport {
  recordCount: number;
  /** What was being written when the last run ended without being confirmed, and was cut off. */
  tornBytes: number;
  torn: { file: string; offset: number } | undefined;
  cleanlyClosed: boolean;
  segments: number;
  epoch: number;
  ms: number;
}

export interface Recovered {
  storage: Storage;
  /** Of the directory. */
  lock: DiskLock;
  /** The page in which the log goes on; undefined when it begins. */
  tail: Page | undefined;
  sequence: number;
  /** The highest epoch met. */
  epoch: number;
  report: Omit<OpenReport, 'epoch' | 'ms'>;
}

export interface RecoverInto {
  segments: Segments;
  replay: (record: JournalRecord) => void;
  onRoom: (hasRoom: boolean) => void;
  onFailure: (error: unknown) => void;
}

const NO_LOCK: DiskLock = { isHeld: async () => true, release: async () => {} };

/** Two that write one directory would lose what they confirm: whoever finds that it is not alone must end. */
export async function checkLock(lock: DiskLock, directory: string | null): Promise<void> {
  if (await lock.isHeld()) return;
  throw new MillraceError(
    'STORAGE_FAILED',
    `data directory ${directory} is not ours any more: its lock was removed or replaced while we held it, so another process may write there; see that only one uses it, run millrace journal verify, and start again`,
    { details: { directory } },
  );
}

/** Takes the directory, replays it into `into`, and makes it ready for appending. */
export async function recover(options: JournalOptions, into: RecoverInto): Promise<Recovered> {
  if (options.directory === null) {
    const report = { recordCount: 0, tornBytes: 0, torn: undefined, cleanlyClosed: true, segments: 0 };
    return { storage: new VolatileStorage(), lock: NO_LOCK, tail: undefined, sequence: 0, epoch: 0, report };
  }
  const { disk, directory } = { disk: options.disk, directory: options.directory };
  const lock = await takeDirectory(disk, directory);
  let files: SegmentFiles | undefined;
  try {
    const replayed = await replayAll(disk, directory, options, into);
    const { found } = replayed;
    const active = found.segments.at(-1);
    files = new SegmentFiles({
      disk,
      clock: options.clock,
      directory,
      segmentBytes: options.segmentBytes,
      synced: options.fsync === 'always',
      checkLock: () => checkLock(lock, directory),
      onRoom: into.onRoom,
      onFailure: into.onFailure,
    });
    await files.open({
      active: active && {
        number: active.number,
        syncedEnd: found.syncedEnd,
        end: active.end,
        bytes: active.segmentBytes,
      },
      unused: found.unused,
      spares: found.spares,
    });
    const tail = active && (await readTail(files, into.segments, active));
    const { torn, sequence, epoch, cleanlyClosed } = found;
    return {
      storage: files,
      lock,
      tail,
      sequence,
      epoch,
      report: {
        recordCount: replayed.recordCount,
        tornBytes: torn?.bytes ?? 0,
        torn: torn && { file: torn.file, offset: torn.offset },
        cleanlyClosed: cleanlyClosed || active === undefined,
        segments: found.segments.length,
      },
    };
  } catch (error) {
    await files?.close();
    await lock.release();
    throw unusable(directory, error);
  }
}

async function takeDirectory(disk: Disk, directory: string): Promise<DiskLock> {
  try {
    await disk.makeDirectory(directory);
    return await disk.lock(directory);
  } catch (error) {
    throw unusable(directory, error);
  }
}

/** The system's own errors get a code of ours; a defect stays what it is. */
export function unusable(directory: string, error: unknown): unknown {
  if (error instanceof MillraceError || !(error instanceof Error) || !('code' in error)) return error;
  const hint =
    error.code === 'EROFS' || error.code === 'EACCES' || error.code === 'EPERM'
      ? 'it cannot be written'
      : 'syscall' in error && error.syscall === 'mkdir'
        ? 'it cannot be made there, choose another place'
        : 'it cannot be used';
  return new MillraceError('JOURNAL_UNUSABLE', `data directory ${directory}: ${hint} (${error.message})`, {
    cause: error,
    details: { directory },
  });
}

async function replayAll(
  disk: Disk,
  directory: string,
  options: JournalOptions,
  into: RecoverInto,
): Promise<{ found: Walk; recordCount: number }> {
  let recordCount = 0;
  let current: Segment | undefined;
  const found = await walk(disk, directory, {
    describe: options.describe ?? (() => ''),
    segment: (segment) => {
      current = new Segment(segment);
      into.segments.add(current);
    },
    record: (record) => {
      const segment = current as Segment;
      const begin = record.offset - HEADER_BYTES;
      const bytes = HEADER_BYTES + record.length;
      if (bytes > segment.pageBytes)
        segment.noteLongRecord(begin >>> segment.pageShift, Math.ceil(bytes / segment.pageBytes));
      if (record.type === CLOSE || record.type === PAD) return;
      if (record.type === SEGMENT_STATE) {
        const stateBytes = decodeHead(record.body)?.stateBytes ?? 0;
        record.body = record.body.subarray(HEAD_BYTES, HEAD_BYTES + stateBytes);
        record.offset += HEAD_BYTES;
      } else {
        recordCount++;
      }
      try {
        into.replay(record);
      } catch (cause) {
        throw senselessError(directory, { ...record, offset: begin }, cause);
      }
    },
    damage: (damage) => {
      throw damageError(directory, damage);
    },
  });
  for (const segment of found.segments) (into.segments.at(segment.number) as Segment).end = segment.end;
  return { found, recordCount };
}

/** An intact record of which its reader can make nothing. */
function senselessError(
  directory: string,
  { segment, offset, sequence, type }: Pick<JournalRecord, 'segment' | 'offset' | 'sequence' | 'type'>,
  cause: unknown,
): MillraceError {
  const file = join(directory, segmentName(segment));
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError(
    'JOURNAL_DAMAGED',
    `${file} has a record at offset ${offset} (number ${sequence}, type ${type}) that is intact, and cannot be replayed: ${reason}; if a newer Millrace wrote it, use that one, otherwise a backup`,
    { cause, details: { file, offset, sequence, type } },
  );
}

/** The tail page stays in memory for as long as it is appended to. */
async function readTail(files: SegmentFiles, segments: Segments, active: WalkedSegment): Promise<Page> {
  const segment = segments.at(active.number) as Segment;
  // A log that ends with a full page goes on in that page, which turns at the next record.
  const { first, count } = segment.span((active.end - 1) >>> segment.pageShift);
  const page = new Page(segment.number, first * segment.pageBytes, Buffer.allocUnsafeSlow(count * segment.pageBytes));
  page.filled = active.end - page.base;
  page.written = page.filled;
  page.lastSequence = active.lastSequence;
  await files.read(segment.number, page.bytes.subarray(0, page.filled), page.base);
  segment.put(page);
  return page;
}
