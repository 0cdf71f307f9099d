import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawCharts, type Line, type Panel } from '../bench/chart.ts';
import { checkPart, markdownTable, writePart } from '../bench/document.ts';
import type { GrowthPoint, GrowthSeries } from '../bench/growth-points.ts';
import type { GrowthReport } from '../bench/growth-scenes.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount } from './units.ts';

const NAMES: Record<GrowthSeries, string> = {
  queued: 'queued tasks',
  queues: 'queues, all busy',
  'idle-queues': 'queues, one busy',
  producers: 'producers’ connections',
  workers: 'workers’ connections',
  payload: 'bytes a payload',
};

const PAGE = 'benchmarks.md';
const PART = 'growth';

const BYTES_PER_MB = 1e6;
const BYTES_PER_MIB = 1024 * 1024;

const COLUMNS: Column<GrowthPoint>[] = [
  { title: 'what grows', text: ({ series }) => NAMES[series] },
  { title: 'to', align: 'right', text: ({ size }) => formatCount(size) },
  { title: 'tasks/s', align: 'right', text: ({ tasksPerS }) => formatCount(tasksPerS) },
  { title: 'MB/s', align: 'right', text: formatMegabytes },
  { title: 'enqueued/s', align: 'right', text: (point) => orNothing(point.enqueueTasksPerS, formatCount) },
  { title: 'server CPU µs a task', align: 'right', text: ({ serverCpuUs }) => formatMicroseconds(serverCpuUs) },
  { title: 'server MiB', align: 'right', text: ({ serverBytes }) => formatCount(serverBytes / BYTES_PER_MIB) },
  { title: 'bytes a task', align: 'right', text: (point) => orNothing(point.bytesPerTask, formatCount) },
];

function formatMegabytes({ tasksPerS, payloadBytes }: GrowthPoint): string {
  const megabytes = (tasksPerS * payloadBytes) / BYTES_PER_MB;
  return megabytes < 9.95 ? megabytes.toFixed(1) : formatCount(megabytes);
}

function formatMicroseconds(us: number): string {
  return us < 9.995 ? us.toFixed(2) : formatCount(us);
}

function orNothing(value: number | null, format: (value: number) => string): string {
  return value === null ? '' : format(value);
}

export function formatGrowth(report: GrowthReport): string {
  return [`${describe(report)}.`, '', ...formatTable(COLUMNS, report.points, undefined)].join('\n');
}

function describe({ machine, versions, durability, disk }: GrowthReport): string {
  return (
    `Millrace ${versions.millrace}, Node ${versions.node}, ${machine.cpu} with ${machine.cores} cores, ` +
    `${formatBytes(machine.memoryBytes)}, ${machine.os}, ${machine.fileSystem}, ${durability}; ` +
    `the disk takes ${formatCount(disk.bytesPerS / BYTES_PER_MB)} MB/s in durable writes of 1 MiB`
  );
}

/** Before minutes of measuring: throws when the figures could not be put there. */
export function checkDocument(directory: string): void {
  checkPart(join(directory, PAGE), PART);
}

/** Draws `growth.svg` in this directory of documentation, and puts the figures into its `benchmarks.md`. */
export function documentGrowth(directory: string, report: GrowthReport): void {
  const rows = report.points.map((point) => COLUMNS.map((column) => column.text(point)));
  writePart(join(directory, PAGE), PART, `${describe(report)}:\n\n${markdownTable(COLUMNS, rows)}`);
  writeFileSync(join(directory, 'growth.svg'), drawGrowth(report.points));
}

interface Dimension {
  xTitle: string;
  series: readonly { of: GrowthSeries; name: string }[];
}

const DIMENSIONS: readonly Dimension[] = [
  { xTitle: 'queued tasks', series: [{ of: 'queued', name: 'worked off' }] },
  {
    xTitle: 'queues',
    series: [
      { of: 'queues', name: 'all busy' },
      { of: 'idle-queues', name: 'one busy' },
    ],
  },
  {
    xTitle: 'connections',
    series: [
      { of: 'producers', name: 'producers' },
      { of: 'workers', name: 'workers' },
    ],
  },
  { xTitle: 'bytes a payload', series: [{ of: 'payload', name: 'payload' }] },
];

const CHARTS: readonly { title: string; value: (point: GrowthPoint) => number }[] = [
  { title: 'tasks/s', value: ({ tasksPerS }) => tasksPerS },
  { title: 'server CPU, µs a task', value: ({ serverCpuUs }) => serverCpuUs },
  { title: 'server memory, MiB', value: ({ serverBytes }) => serverBytes / BYTES_PER_MIB },
];

/** A row for each thing that grows. */
export function drawGrowth(points: readonly GrowthPoint[]): string {
  const panels = DIMENSIONS.flatMap(({ xTitle, series }) =>
    CHARTS.map(({ title, value }): Panel => {
      const lines: Line[] = series.map(({ of, name }) => ({ name, points: pointsOf(points, of, value) }));
      // Of a single series, enqueueing is the other line of the first chart.
      if (xTitle === 'queued tasks' && title === 'tasks/s') {
        lines.push({ name: 'enqueued', points: pointsOf(points, 'queued', (point) => point.enqueueTasksPerS ?? 0) });
      }
      return { title, xTitle, lines };
    }),
  );
  return drawCharts(panels, CHARTS.length);
}

function pointsOf(
  points: readonly GrowthPoint[],
  wanted: GrowthSeries,
  value: (point: GrowthPoint) => number,
): [number, number][] {
  return points.filter(({ series }) => series === wanted).map((point) => [point.size, value(point)]);
}
