import { join } from 'node:path';
import { MillraceError } from '../errors.ts';
import type { Disk } from '../io/disk.ts';
import { HEAD_BYTES, HEADER_BYTES, parseName, segmentName } from './format.ts';
import { copyFile, isEmptyDirectory } from './offline.ts';
import type { Describe } from './record.ts';
import { type Cursor, findRemains, readHead, scanRecords } from './scan.ts';
import { survey } from './verify.ts';
import { damageError } from './walk.ts';
import { Window } from './window.ts';

export interface BackupReport {
  segments: number;
  recordCount: number;
  bytes: number;
  lastSequence: number;
}

type Copied = { kind: 'copied'; bytes: number; lastSequence: number } | { kind: 'gone' } | { kind: 'unused' };

/**
 * Copies a journal while a server may be writing it. A segment that is recycled meanwhile was not needed any more, nor
 * was any before it; what made it so lies in segments that are read after. Hence a pass in which a segment went is
 * followed by another over what is newer than its last.
 */
export async function backup(
  directory: string,
  target: string,
  disk: Disk,
  describe: Describe = () => '',
): Promise<BackupReport> {
  await disk.makeDirectory(target);
  if (!(await isEmptyDirectory(disk, target))) {
    throw new MillraceError('INVALID_ARGUMENT', `backup target ${target} is not empty: name a new directory`);
  }
  const copies = new Map<number, number>();
  let from = 0;
  let lastSequence = 0;
  for (let isComplete = false; !isComplete; ) {
    isComplete = true;
    for (const number of await listSegments(disk, directory)) {
      if (number < from) continue;
      if (copies.delete(number)) await disk.remove(join(target, segmentName(number)));
      const copied = await copySegment(disk, { directory, target, number, lastSequence });
      if (copied.kind === 'gone') {
        isComplete = false;
        for (const older of copies.keys()) await disk.remove(join(target, segmentName(older)));
        copies.clear();
      } else if (copied.kind === 'copied') {
        copies.set(number, copied.bytes);
        from = number;
        lastSequence = copied.lastSequence;
      }
    }
  }
  await disk.syncDirectory(target);
  const report = await survey(target, disk, describe);
  if (report.damage.length > 0) throw damageError(directory, report.damage[0]);
  const bytes = [...copies.values()].reduce((sum, each) => sum + each, 0);
  return { segments: copies.size, recordCount: report.recordCount, bytes, lastSequence: report.sequence };
}

async function listSegments(disk: Disk, directory: string): Promise<number[]> {
  const names = (await disk.list(directory)).map(parseName);
  return names.filter((name) => name?.kind === 'segment').map((name) => (name as { number: number }).number);
}

async function copySegment(
  disk: Disk,
  job: { directory: string; target: string; number: number; lastSequence: number },
): Promise<Copied> {
  const path = join(job.directory, segmentName(job.number));
  const copy = join(job.target, segmentName(job.number));
  try {
    const before = await readStart(disk, path);
    const end = await findEnd(disk, path, job);
    if (end === undefined) return { kind: 'unused' };
    await copyFile(disk, path, copy, end.offset);
    if (before.equals(await readStart(disk, path))) {
      return { kind: 'copied', bytes: end.offset, lastSequence: end.sequence };
    }
    await disk.remove(copy);
    return { kind: 'gone' };
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
    if ((await disk.list(job.target)).includes(segmentName(job.number))) await disk.remove(copy);
    return { kind: 'gone' };
  }
}

async function readStart(disk: Disk, path: string): Promise<Buffer> {
  const file = await disk.open(path, {});
  try {
    const start = Buffer.alloc(HEADER_BYTES + HEAD_BYTES);
    await file.read(start, 0);
    return start;
  } finally {
    await file.close();
  }
}

/** Behind the last record that is whole now; undefined when the segment is made ahead and not begun. */
async function findEnd(
  disk: Disk,
  path: string,
  { number, lastSequence }: { number: number; lastSequence: number },
): Promise<Cursor | undefined> {
  const file = await disk.open(path, {});
  const window = new Window(file, await file.size());
  try {
    const head = await readHead(window);
    if (head !== undefined && !('version' in head) && head.number === number) {
      const cursor = { offset: 0, sequence: head.previousSequence, epoch: 0 };
      await scanRecords(window, { segment: number, pageBytes: head.pageBytes, isCounted: true }, cursor, () => {});
      return cursor;
    }
    const remains = await findRemains(
      window,
      { segment: number, pageBytes: 0, isCounted: false },
      { offset: 0, sequence: lastSequence, epoch: 0 },
    );
    if (remains.syncedSequence <= lastSequence) return undefined;
    throw new MillraceError('JOURNAL_DAMAGED', `${path} has records and no intact head: see millrace journal verify`, {
      details: { file: path, offset: 0 },
    });
  } finally {
    await window.settle();
    await file.close();
  }
}
