import type {
  Percentiles,
  QueueStatus,
  ScalingDecision,
  Status,
  SupervisorStatus,
  WorkerStatus,
} from '../broker/contract.ts';
import { type Column, formatTable } from './table.ts';
import {
  formatBar,
  formatBytes,
  formatCount,
  formatDuration,
  formatPercentiles,
  formatRate,
  formatShare,
  formatTime,
  plural,
} from './units.ts';

const BAR_WIDTH = 10;

const QUEUE_COLUMNS: readonly Column<QueueStatus>[] = [
  { title: 'QUEUE', elastic: true, text: ({ name, heldUpBy, paused }) => noted(name, paused ? 'paused' : heldUpBy) },
  count('READY', ({ ready }) => ready),
  count('ACTIVE', ({ active }) => active),
  count('SCHEDULED', ({ scheduled }) => scheduled),
  count('BLOCKED', ({ blocked }) => blocked),
  count('COMPLETED', ({ completed }) => completed),
  count('DEAD', ({ dead }) => dead),
  count('CANCELLED', ({ cancelled }) => cancelled),
  {
    title: 'OLDEST READY',
    align: 'right',
    text: ({ ready, oldestReadyMs }) => (ready === 0 ? '-' : formatDuration(oldestReadyMs)),
  },
];

const WORKER_COLUMNS: readonly Column<WorkerStatus>[] = [
  { title: 'WORKER', elastic: true, text: ({ name }) => name },
  {
    title: 'BUSY',
    text: ({ utilisation }) => `${formatBar(utilisation, BAR_WIDTH)} ${formatShare(utilisation).padStart(5)}`,
  },
  { title: 'RUNNING', align: 'right', text: ({ running, concurrency }) => `${running}/${concurrency}` },
  count('HELD', ({ held }) => held),
  count('COMPLETED', ({ completed }) => completed),
  count('FAILED', ({ failed }) => failed),
  { title: 'QUEUES', elastic: true, text: ({ queues }) => queues.join(', ') },
];

const SUPERVISOR_COLUMNS: readonly Column<SupervisorStatus>[] = [
  { title: 'SUPERVISOR', elastic: true, text: ({ name }) => name },
  {
    title: 'PROCESSES',
    align: 'right',
    text: ({ current, retiring }) => (retiring === 0 ? String(current) : `${current} and ${retiring} retiring`),
  },
  { title: 'MIN–MAX', align: 'right', text: ({ min, max }) => `${min}–${max}` },
  {
    title: 'LAST DECISION',
    elastic: true,
    text: ({ decisions: [last] }) => (last === undefined ? '-' : decided(last)),
  },
];

function decided({ atMs, from, to, reason }: ScalingDecision): string {
  return `${formatTime(atMs)} ${from === to ? `stays ${to}` : `${from} → ${to}`}: ${reason}`;
}

const NOTES = { paused: 'paused', concurrency: 'at its concurrency', rate: 'at its rate' } as const;

function noted(name: string, heldUpBy: QueueStatus['heldUpBy']): string {
  return heldUpBy === undefined ? name : `${name} (${NOTES[heldUpBy]})`;
}

function count<Row>(title: string, of: (row: Row) => number): Column<Row> {
  return { title, align: 'right', text: (row) => formatCount(of(row)) };
}

export function queueTable(queues: readonly QueueStatus[], columns: number | undefined): string[] {
  return formatTable(QUEUE_COLUMNS, queues, columns);
}

export interface Screen {
  /** Undefined: as wide as need be. */
  columns: number | undefined;
  /** Undefined: all rows of both tables. */
  rows: number | undefined;
}

/** Lines of the head, the figures and the gaps between the parts. */
const OTHER_ROWS = 12;
/** Supervisors that are shown, and what stands around them. */
const SUPERVISORS_MAX = 4;
const SUPERVISOR_ROWS = 3;

export function statusView(url: string, status: Status, { columns, rows }: Screen): string[] {
  const supervisors = supervisorLines(status.supervisors ?? [], { columns, rows });
  const room = rows === undefined ? Number.POSITIVE_INFINITY : Math.max(2, rows - OTHER_ROWS - supervisors.length);
  const workerRoom = Math.max(1, room - status.queues.length, Math.floor(room / 2));
  const workers = status.workers.slice(0, workerRoom);
  const queues = status.queues.slice(0, Math.max(1, room - workers.length));
  return [
    head(url, status),
    '',
    ...(queues.length === 0 ? ['no queues yet'] : queueTable(queues, columns)),
    ...more(status.queues.length - queues.length, 'queue'),
    '',
    ...(workers.length === 0 ? ['no workers'] : formatTable(WORKER_COLUMNS, workers, columns)),
    ...more(status.workers.length - workers.length, 'worker'),
    ...supervisors,
    '',
    ...figures(status),
  ];
}

/** On a screen that has room for them: few, because the tables above matter more. */
function supervisorLines(all: readonly SupervisorStatus[], { columns, rows }: Screen): string[] {
  const room = rows === undefined ? all.length : Math.min(SUPERVISORS_MAX, rows - OTHER_ROWS - SUPERVISOR_ROWS - 4);
  if (all.length === 0 || room < 1) return [];
  return [
    '',
    ...formatTable(SUPERVISOR_COLUMNS, all.slice(0, room), columns),
    ...more(all.length - room, 'supervisor'),
  ];
}

function head(url: string, { server }: Status): string {
  const { version, uptimeMs, durability, connections, pid, stopping } = server;
  const parts = [
    `${url}  Millrace ${version}`,
    `up ${formatDuration(Math.floor(uptimeMs / 1000) * 1000)}`,
    `fsync ${durability}`,
    plural(connections, 'connection'),
    `process ${pid}`,
  ];
  return [...parts, ...(stopping ? ['STOPPING'] : [])].join(', ');
}

function more(hidden: number, what: string): string[] {
  return hidden <= 0 ? [] : [`… and ${plural(hidden, `more ${what}`)}`];
}

function figures({ throughput, latencyMs, journal, memory }: Status): string[] {
  const { enqueued, completed, failed } = throughput;
  const stored =
    journal === null
      ? 'none, all is in memory'
      : `${formatBytes(journal.bytes)} in ${plural(journal.segments, 'segment')}, ${plural(journal.syncs, 'sync')}`;
  return [
    `Throughput     in ${formatRate(enqueued)}, out ${formatRate(completed)}, failed ${formatRate(failed)}`,
    `Until started  ${describeLatency(latencyMs.start)}`,
    `Until done     ${describeLatency(latencyMs.total)}`,
    `Journal        ${stored}; memory ${formatBytes(memory.rssBytes)}`,
  ];
}

function describeLatency(percentiles: Percentiles): string {
  return percentiles.count === 0 ? 'nothing in the last minute' : formatPercentiles(percentiles);
}
