import type { Percentiles } from '../broker/contract.ts';
import { redact } from '../errors.ts';
import { formatChart } from './demo-chart.ts';
import type { DemoReport } from './demo-run.ts';
import type { WorkerLoad } from './demo-watch.ts';
import { type Column, formatTable } from './table.ts';
import { formatBar, formatCount, formatDuration, formatRate, formatShare, plural } from './units.ts';

/** Fits into 100 columns. */
export function formatDemo(report: DemoReport): string {
  const { clients, tasksPerClient, workers, durability, url, seconds } = report;
  const ok = report.lost === 0 && report.duplicated === 0;
  return [
    '',
    `${plural(clients, 'client')} with ${plural(tasksPerClient, 'task')} each, ${plural(workers.length, 'worker')} with ` +
      `${workers[0]?.concurrency ?? 0} at a time, ${describeDurability(durability)}${redact(url)}`,
    '',
    ...sideBySide(tasksBlock(report), throughputBlock(report)),
    '',
    ...latencyBlock(report),
    ...workersBlock(workers),
    '',
    'QUEUE SIZE',
    ...formatChart(
      report.queueSizes.map(({ atMs, queued }) => ({ atMs, value: queued })),
      80,
      8,
    ),
    '',
    ok
      ? `Every one of ${plural(report.enqueued, 'acknowledged task')} ended exactly once, in ${seconds.toFixed(1)} s.`
      : `NOT every acknowledged task ended exactly once: ${report.lost} lost, ${report.duplicated} duplicated.`,
  ].join('\n');
}

/** Of our own server it is the fsync policy. */
function describeDurability(durability: string | undefined): string {
  if (durability === undefined) return '';
  return ['always', 'interval', 'never'].includes(durability) ? `fsync ${durability}, ` : `${durability}, `;
}

function tasksBlock({ enqueued, completed, retried, failedAttempts, dead, lost, duplicated }: DemoReport): string[] {
  const line = (label: string, count: number, note = ''): string =>
    `${label.padEnd(12)}${formatCount(count).padStart(10)}  ${note}`.trimEnd();
  return [
    'TASKS',
    line('enqueued', enqueued),
    line('completed', completed),
    line('retried', retried, `${plural(failedAttempts, 'failed attempt')}`),
    line('dead', dead, dead === 0 ? '' : 'failed at every attempt'),
    line('lost', lost, lost === 0 ? '✓' : 'NOT in the ledger'),
    line('duplicated', duplicated, duplicated === 0 ? '✓' : 'MORE THAN ONCE in the ledger'),
  ];
}

function throughputBlock({ throughput, confirmMs, queueSizes }: DemoReport): string[] {
  const { inPerSecond, inSeconds, outPerSecond, outSeconds } = throughput;
  const peak = Math.max(0, ...queueSizes.map(({ queued }) => queued));
  return [
    'THROUGHPUT',
    `in         ${formatRate(inPerSecond).padStart(10)}  over ${inSeconds.toFixed(1)} s`,
    `out        ${formatRate(outPerSecond).padStart(10)}  over ${outSeconds.toFixed(1)} s`,
    `peak queue ${formatCount(peak).padStart(10)}`,
    `confirmed in p50 ${formatDuration(confirmMs.p50)}, p99 ${formatDuration(confirmMs.p99)} a call`,
  ];
}

const LATENCY_COLUMNS: Column<{ name: string; latency: Percentiles }>[] = [
  { title: 'LATENCY FROM ENQUEUE', text: ({ name }) => name },
  ...(['p50', 'p95', 'p99'] as const).map(
    (key): Column<{ name: string; latency: Percentiles }> => ({
      title: key,
      align: 'right',
      text: ({ latency }) => formatDuration(latency[key]).padStart(9),
    }),
  ),
];

function latencyBlock({ latencyMs }: DemoReport): string[] {
  if (latencyMs === undefined) return [];
  const rows = [
    { name: 'to first start', latency: latencyMs.start },
    { name: 'to completion, at the first attempt', latency: latencyMs.total },
  ];
  return [...formatTable(LATENCY_COLUMNS, rows, undefined), ''];
}

const WORKER_COLUMNS: Column<WorkerLoad>[] = [
  { title: 'WORKERS', text: ({ name }) => name },
  {
    title: 'busy while tasks waited',
    text: ({ utilisation }) =>
      utilisation === undefined ? 'not told' : `${formatBar(utilisation, 24)} ${formatShare(utilisation)}`,
  },
  { title: 'completed', align: 'right', text: ({ completed }) => formatCount(completed) },
  { title: 'failed', align: 'right', text: ({ failed }) => formatCount(failed) },
];

function workersBlock(workers: readonly WorkerLoad[]): string[] {
  return formatTable(WORKER_COLUMNS, workers, undefined);
}

function sideBySide(left: readonly string[], right: readonly string[]): string[] {
  const width = 52;
  return Array.from({ length: Math.max(left.length, right.length) }, (_, index) =>
    `${(left[index] ?? '').padEnd(width)}${right[index] ?? ''}`.trimEnd(),
  );
}
