import type { ProfileSummary } from '../bench/profile.ts';
import type { BenchReport, BenchRow, LedgerReport } from '../bench/suite.ts';
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
  const { machine, versions, durability, disk, rows, ledgers, payloadBytes, encrypted } = report;
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
    formatLedgers(ledgers),
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

function formatLedgers(ledgers: readonly LedgerReport[]): string {
  const sum = (of: (ledger: LedgerReport) => number): number => ledgers.reduce((total, each) => total + of(each), 0);
  const counts = `${sum(({ lost }) => lost)} lost, ${sum(({ duplicated }) => duplicated)} duplicated`;
  const verdict = ledgerProblem(ledgers) === undefined ? 'every' : 'NOT every';
  return `ledger: ${counts}: ${verdict} task was processed exactly once`;
}

/** What is wrong, and where; undefined when every task was processed exactly once. */
export function ledgerProblem(ledgers: readonly LedgerReport[]): string | undefined {
  const wrong = ledgers.filter(({ lost, duplicated }) => lost > 0 || duplicated > 0);
  if (wrong.length === 0) return undefined;
  const names = wrong.map(({ name, lost, duplicated }) => `${name} (${lost} lost, ${duplicated} duplicated)`);
  return `not every task was processed exactly once: ${names.join(', ')}`;
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
