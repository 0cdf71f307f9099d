import { basename, join } from 'node:path';
import { MillraceError } from '../errors.ts';
import type { Disk } from '../io/disk.ts';
import {
  encodeHead,
  HEAD_BYTES,
  HEADER_BYTES,
  type Header,
  PAD,
  recordBytes,
  SEGMENT_STATE,
  sealRecord,
} from './format.ts';
import { copyFile, makeNumberedDirectory, whileLocked } from './offline.ts';
import type { Describe } from './record.ts';
import { survey } from './verify.ts';
import type { Damage } from './walk.ts';

export interface RepairReport {
  /** What was cut out, and so what is lost: in the order of the log. */
  cut: Damage[];
  lostRecordCount: number;
  /** Where the files are that were changed, as they were; undefined when nothing was. */
  asideDirectory: string | undefined;
}

/**
 * Cuts damaged regions out, so that the journal opens again. Lost is what `cut` names and nothing else: a PAD takes the
 * place of each region, a segment head is written anew (with no state of the user), a missing segment becomes an empty
 * one. A torn tail is left to the next start.
 */
export async function repair(directory: string, disk: Disk, describe: Describe = () => ''): Promise<RepairReport> {
  return await whileLocked(disk, directory, async () => {
    const report: RepairReport = { cut: [], lostRecordCount: 0, asideDirectory: undefined };
    const kept = new Set<string>();
    const tried = new Set<string>();
    for (;;) {
      const { damage } = await survey(directory, disk, describe);
      if (damage.length === 0) return report;
      const place = `${damage[0].kind} ${damage[0].file} ${damage[0].offset}`;
      if (tried.has(place)) throw beyondRepair(damage[0], report.asideDirectory);
      tried.add(place);
      // What is around a broken head can only be told when it stands again.
      const structural = damage.findIndex((one) => one.kind !== 'record');
      for (const one of structural === -1 ? damage : damage.slice(0, structural + 1)) {
        report.asideDirectory ??= await makeNumberedDirectory(disk, directory, 'before-repair');
        if (one.kind !== 'missing segment' && !kept.has(one.file)) {
          kept.add(one.file);
          await copyFile(disk, one.file, join(report.asideDirectory, basename(one.file)), Number.MAX_SAFE_INTEGER);
          await disk.syncDirectory(report.asideDirectory);
        }
        await cutOut(disk, directory, one);
        report.cut.push(one);
        report.lostRecordCount += Math.max(0, one.lastSequence - one.firstSequence + 1);
      }
    }
  });
}

/** Files that do not belong together: what mends one of them damages it for another. */
function beyondRepair({ file, offset, kind }: Damage, asideDirectory: string | undefined): MillraceError {
  const aside = asideDirectory === undefined ? '' : `; the files as they were lie in ${asideDirectory}`;
  const message = `${file} cannot be mended at offset ${offset}: are there files of another journal in the directory? Restore a backup${aside}`;
  return new MillraceError('JOURNAL_DAMAGED', message, { details: { file, offset, kind } });
}

async function cutOut(disk: Disk, directory: string, damage: Damage): Promise<void> {
  const isMissing = damage.kind === 'missing segment';
  const file = await disk.open(damage.file, { create: isMissing, write: true });
  try {
    const to = damage.next?.offset ?? nextPage(damage.offset, damage.pageBytes);
    let from = damage.offset;
    if (damage.kind !== 'record') {
      // A file that was cut off is as long again as what is put there.
      const head = emptyHead(damage, Math.max(await file.size(), to), to);
      await file.write([head], 0);
      from = head.length;
    }
    const isHeadAlone = damage.kind !== 'record' && damage.lastSequence <= damage.firstSequence;
    if (!isHeadAlone || damage.next !== undefined) {
      // Only a PAD that begins a page may be longer than one.
      const boundary = Math.min(nextPage(from, damage.pageBytes), to);
      await writePad(file, from, boundary, damage);
      await writePad(file, boundary, to, damage);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  if (isMissing) await disk.syncDirectory(directory);
}

function nextPage(offset: number, pageBytes: number): number {
  return offset - (offset % pageBytes) + pageBytes;
}

/** Takes the room up to the next record as well when that is too small for a PAD. */
function emptyHead(damage: Damage, segmentBytes: number, to: number): Buffer {
  const rest = to - recordBytes(HEAD_BYTES);
  const length = HEAD_BYTES + (rest < HEADER_BYTES ? rest : 0);
  // Without a PAD behind it the head itself leads over to the next record.
  const sequence = rest < HEADER_BYTES ? headerOf(damage).sequence : damage.firstSequence;
  const record = Buffer.alloc(recordBytes(length));
  encodeHead({
    number: damage.segment,
    segmentBytes,
    pageBytes: damage.pageBytes,
    previousSequence: sequence - 1,
    stateBytes: 0,
  }).copy(record, HEADER_BYTES);
  sealRecord(record, 0, { ...headerOf(damage), type: SEGMENT_STATE, length, sequence });
  return record;
}

async function writePad(
  file: { write(buffers: readonly Uint8Array[], position: number): Promise<void> },
  from: number,
  to: number,
  damage: Damage,
): Promise<void> {
  if (to - from === 0) return;
  const isEndOfPage = to % damage.pageBytes === 0;
  if (to - from < HEADER_BYTES && isEndOfPage) return;
  if (to - from < HEADER_BYTES) throw beyondRepair(damage, undefined);
  const pad = Buffer.alloc(HEADER_BYTES);
  sealRecord(pad, 0, { ...headerOf(damage), type: PAD, length: to - from - HEADER_BYTES });
  await file.write([pad], from);
}

/** As of the last record that was cut out. */
function headerOf(damage: Damage): Header {
  const first = damage.kind === 'record' ? damage.firstSequence - 1 : damage.firstSequence;
  const sequence = Math.max(damage.lastSequence, first);
  return { type: PAD, length: 0, epoch: damage.epoch, sequence, syncedSequence: sequence };
}
