import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { describeRecord } from '../engine/records.ts';
import { MillraceError } from '../errors.ts';
import { NodeDisk } from '../io/node-disk.ts';
import { backup } from '../journal/backup.ts';
import { dump } from '../journal/dump.ts';
import { CLOSE, EPOCH, PAD, SEGMENT_STATE } from '../journal/format.ts';
import { repair } from '../journal/repair.ts';
import type { ScannedRecord } from '../journal/scan.ts';
import { type VerifyReport, verify } from '../journal/verify.ts';
import type { Damage, Walk } from '../journal/walk.ts';
import { addCommand, addGroup } from './command.ts';
import { CommandFailed, isSystemError } from './failure.ts';
import { toggle } from './flags.ts';
import { print, printJson, printSlowly } from './output.ts';
import { printable, printableJson } from './printable.ts';
import { formatBytes, formatCount, plural } from './units.ts';

const json = toggle('print JSON');

export function register(program: Command): void {
  const group = addGroup(program, 'journal', 'check, show, mend and copy a data directory', [
    'millrace journal verify ./millrace-data',
  ]);
  addCommand(group, {
    usage: 'verify <dir>',
    summary: 'read everything and name all damage',
    details: 'Fails when there is damage. Changes nothing. Of a running server verify a backup.',
    flags: { json },
    examples: ['millrace journal verify ./millrace-data'],
    run: (values, [directory = '']) => verifyDirectory(directory, values.json),
  });
  addCommand(group, {
    usage: 'dump <dir>',
    summary: 'print every record',
    details: 'Of a running server dump a backup.',
    flags: { json: toggle('print a JSON object for each record') },
    examples: ['millrace journal dump ./millrace-data | less'],
    run: (values, [directory = '']) => dumpDirectory(directory, values.json),
  });
  addCommand(group, {
    usage: 'repair <dir>',
    summary: 'cut damaged regions out, so that the server starts again',
    details: 'Prints what is lost with them. The files are first copied, as they are, to DIR.before-repair-N.',
    flags: { json },
    examples: ['millrace journal repair ./millrace-data'],
    run: (values, [directory = '']) => repairDirectory(directory, values.json),
  });
  addCommand(group, {
    usage: 'backup <dir> <target>',
    summary: 'copy a data directory, also while a server uses it',
    details: 'The target must be new or empty. The copy is complete up to some moment during the run, and verified.',
    flags: { json },
    examples: ['millrace journal backup ./millrace-data /backup/millrace-2026-08-01'],
    run: async (values, [directory = '', target = '']) => {
      await checkDirectory(directory);
      const report = await backup(directory, target, new NodeDisk(), describeRecord).catch(explain(directory));
      const { segments, recordCount, bytes, lastSequence } = report;
      if (values.json) printJson({ directory, target, ...report });
      else {
        print(
          `Copied ${plural(segments, 'segment')} with ${plural(recordCount, 'record')} (${formatBytes(bytes)}) to ${target}, ` +
            `up to record ${formatCount(lastSequence)}; verified`,
        );
      }
    },
  });
}

async function verifyDirectory(directory: string, asJson: boolean): Promise<void> {
  await checkDirectory(directory);
  const report = await verify(directory, new NodeDisk(), describeRecord).catch(explain(directory));
  if (report.segments.length === 0 && report.damage.length === 0) {
    throw new MillraceError('NOT_FOUND', `there is no journal in ${directory}: is it the server's --data directory?`);
  }
  if (asJson) printJson({ directory, intact: report.damage.length === 0, ...report });
  else print(describeReport(directory, report).join('\n'));
  if (report.damage.length === 0) return;
  const message = `${plural(report.damage.length, 'damaged region')}: to cut out what is lost, millrace journal repair ${directory}`;
  throw new CommandFailed('JOURNAL_DAMAGED', message);
}

function describeReport(directory: string, report: VerifyReport): string[] {
  const { segments, spares, unused, recordCount, sequence, epoch, cleanlyClosed, torn, damage } = report;
  const bytes = segments.reduce((sum, { end }) => sum + end, 0);
  const ending = cleanlyClosed ? 'in order' : 'not in order: the process was killed, or the machine stopped';
  return [
    `Journal    ${directory}: ${damage.length === 0 ? 'intact' : 'DAMAGED'}`,
    `Segments   ${formatCount(segments.length)} with ${formatBytes(bytes)}, ${formatCount(spares.length + unused.length)} made ahead`,
    `Records    ${formatCount(recordCount)}, the last is ${formatCount(sequence)}; start ${formatCount(epoch)}`,
    `Last run   ended ${ending}`,
    ...describeTorn(torn),
    ...damage.flatMap(describeDamage),
  ];
}

function describeTorn(torn: Walk['torn']): string[] {
  if (torn === undefined) return [];
  const { bytes, file, offset } = torn;
  return [
    `Torn tail  ${formatBytes(bytes)} in ${file} at offset ${offset}: never confirmed; the next start cuts it off`,
  ];
}

function describeDamage({ kind, file, offset, bytes, firstSequence, lastSequence, ...about }: Damage): string[] {
  const lost =
    lastSequence < firstSequence
      ? 'no record is lost'
      : firstSequence === lastSequence
        ? `record ${firstSequence} is lost`
        : `records ${firstSequence} to ${lastSequence} are lost`;
  const where =
    kind === 'missing segment' ? `${file} is missing` : `${file} at offset ${offset}, ${formatBytes(bytes)}`;
  const notes = [
    ['damaged', about.broken],
    ['before it', about.before],
    ['behind it', about.after],
  ].flatMap(([title = '', text = '']) => (text === '' ? [] : [`           ${title}: ${printable(text)}`]));
  return [`Damage     ${where}: ${lost}`, ...notes];
}

async function dumpDirectory(directory: string, asJson: boolean): Promise<void> {
  await checkDirectory(directory);
  let damaged = 0;
  let lines: string[] = [];
  const flush = async (): Promise<void> => {
    if (lines.length > 0) await printSlowly(lines.join('\n'));
    lines = [];
  };
  await dump(directory, new NodeDisk(), {
    record: (record) => {
      lines.push(asJson ? printableJson(recordJson(record)) : describeScanned(record));
    },
    damage: (damage) => {
      damaged++;
      lines.push(...(asJson ? [printableJson({ damage })] : describeDamage(damage)));
    },
    pause: flush,
  }).catch(explain(directory));
  await flush();
  if (damaged > 0) throw new CommandFailed('JOURNAL_DAMAGED', `${plural(damaged, 'damaged region')}`);
}

const OWN_TYPES: Readonly<Record<number, string>> = {
  [SEGMENT_STATE]: 'a segment begins',
  [EPOCH]: 'a start begins',
  [PAD]: 'padding',
  [CLOSE]: 'closed in order',
};

function describeType({ type, body }: ScannedRecord): string {
  return OWN_TYPES[type] ?? describeRecord(type, body);
}

function recordJson(record: ScannedRecord): object {
  const { segment, offset, sequence, epoch, type, length, syncedSequence } = record;
  return { segment, offset, sequence, epoch, type, length, syncedSequence, about: describeType(record) };
}

function describeScanned(record: ScannedRecord): string {
  const { segment, offset, sequence, epoch, length } = record;
  const place = `${segment}:${offset}`.padEnd(14);
  return `${place} #${sequence} start ${epoch} ${formatBytes(length).padStart(9)}  ${printable(describeType(record))}`;
}

async function repairDirectory(directory: string, asJson: boolean): Promise<void> {
  await checkDirectory(directory);
  const report = await repair(directory, new NodeDisk(), describeRecord).catch(explain(directory));
  const { cut, lostRecordCount, asideDirectory } = report;
  if (asJson) {
    printJson({ directory, ...report });
  } else if (cut.length === 0) {
    print(`${directory} is intact: nothing was changed`);
  } else {
    const aside = asideDirectory === undefined ? '' : `; the files as they were lie in ${asideDirectory}`;
    print(`Cut out ${plural(cut.length, 'damaged region')}, ${plural(lostRecordCount, 'record')} lost${aside}`);
    print(cut.flatMap(describeDamage).join('\n'));
  }
}

async function checkDirectory(directory: string): Promise<void> {
  const stats = await stat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') throw new MillraceError('NOT_FOUND', `there is no directory ${directory}`);
    throw error;
  });
  if (!stats.isDirectory()) throw new MillraceError('NOT_FOUND', `${directory} is a file, not a data directory`);
}

/** The system's errors under our code, with the directory. */
function explain(directory: string): (error: unknown) => never {
  return (error) => {
    if (!isSystemError(error)) throw error;
    throw new MillraceError('JOURNAL_UNUSABLE', `data directory ${directory}: ${error.message}`, { cause: error });
  };
}
