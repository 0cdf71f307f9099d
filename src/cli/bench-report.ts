import type { ProfileSummary } from '../bench/profile.ts';
import type { BenchReport, BenchRow } from '../bench/suite.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatShare, plural } from './units.ts';

const COLUMNS: Column<BenchRow>[] = [
  { title: '', text: ({ row }) => String(row) },
  { title: '', text: ({ title }) => title },
  { title: 'median', align: 'right', text: ({ median }) => formatFigure(median) },
  { title: 'min', align: 'right', text: ({ min }) => formatFigure(min) },
  { title: 'max', align: 'right', text: ({ max }) => formatFigure(max) },
  { title: '', text: ({ unit }) => unit },
  { title: 'goal', align: 'right', text: formatGoal },
  { title: '', text: ({ reached }) => (reached === undefined ? '' : reached ? '✓' : 'missed') },
];

export function formatBench(report: BenchReport): string {
  const { machine, versions, durability, disk, rows, payloadBytes, encrypted } = report;
  const runs = Math.max(0, ...rows.map((row) => row.runs));
  const dsync =
    disk.zeroedDsyncP50Us === null ? '' : `, pre-zeroed with O_DSYNC ${Math.round(disk.zeroedDsyncP50Us)} µs`;
  const lines = [
    `Millrace ${versions.millrace}, Node ${versions.node} on ${machine.cpu}, ${plural(machine.cores, 'core')}, ` +
      `${formatBytes(machine.memoryBytes)}, ${machine.os}`,
    `${durability}, ${payloadBytes} bytes of JSON a task${encrypted ? ', encrypted' : ''}; server, producer and worker in a process each; ${plural(runs, 'run')}`,
    `disk (${machine.fileSystem}): 4 KiB write + fdatasync ${Math.round(disk.fdatasyncP50Us)} µs${dsync}`,
    ...notes(report),
    '',
    ...formatTable(COLUMNS, rows, undefined),
    '',
    formatLedger(rows),
  ];
  return lines.join('\n');
}

function notes({ machine, clockIsShared, notes: ofRows }: BenchReport): string[] {
  return [
    ...(machine.fileSystem === 'tmpfs' ? ['note: a sync on tmpfs costs nothing; choose a disk with --data'] : []),
    ...(clockIsShared ? [] : ['note: processes share only the wall clock here: row 5 is good to about a millisecond']),
    ...ofRows.map((note) => `note: ${note}`),
  ];
}

function formatLedger(rows: readonly BenchRow[]): string {
  const lost = Math.max(0, ...rows.map((row) => row.lost));
  const duplicated = Math.max(0, ...rows.map((row) => row.duplicated));
  const verdict =
    lost + duplicated === 0 ? 'every task was processed exactly once' : 'NOT every task was processed once';
  return `ledger: ${lost} lost, ${duplicated} duplicated: ${verdict}`;
}

function formatGoal({ goal }: BenchRow): string {
  return goal === undefined ? '' : `${goal.better === 'higher' ? '≥' : '≤'} ${formatFigure(goal.value)}`;
}

/** Three digits that matter. */
function formatFigure(value: number): string {
  if (value >= 100) return formatCount(value);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function formatProfiles(profiles: readonly ProfileSummary[]): string {
  return profiles.map(formatProfile).join('\n');
}

function formatProfile({ name, busyMs, idleMs, top }: ProfileSummary): string {
  const lines = top.map(
    ({ place, selfMs, share }) => `${formatShare(share).padStart(6)}  ${selfMs.toFixed(0).padStart(6)} ms  ${place}`,
  );
  return ['', `${name}: busy ${formatDuration(busyMs)}, idle ${formatDuration(idleMs)}`, ...lines].join('\n');
}
