import { drawCharts, type Line, type Panel } from '../../src/bench/chart.ts';
import { type DocumentColumn, markdownTable } from '../../src/bench/document.ts';
import type { Verdict } from './check.ts';
import type { Evidence, Sample } from './scene.ts';

const MiB = 1024 * 1024;
/** A part of a run of which there is enough to say how it goes on. */
const JUDGED_SECONDS_MIN = 600;
/** What later may be more than earlier: noise of a machine that does other things too. */
const MEMORY_GROWTH = { share: 0.15, bytes: 24 * MiB };
const DISK_GROWTH = { share: 0.25, bytes: 192 * MiB };
const LATENCY_GROWTH = { share: 1, ms: 5 };
const OPEN_FILES_GROWTH = 8;

/** The middle of the values of the second quarter, which begins when what is kept has grown, and of the last one. */
export interface Trend {
  readonly name: string;
  readonly unit: 'MiB' | 'ms' | 'files';
  readonly early: number;
  readonly late: number;
  readonly max: number;
  /** What `late` may be; undefined where it is only told. */
  readonly bound: number | undefined;
}

/** Start latency in one stretch of the run. */
export interface Stretch {
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Start latencies over the run, in stretches as long as those between two samples. */
export function stretchesOf({ beganMs }: Evidence, starts: Verdict['starts'], seconds: number): Stretch[] {
  const groups = new Map<number, number[]>();
  for (const { atMs, latencyMs } of starts) {
    const index = Math.floor((atMs - beganMs) / 1000 / seconds);
    const group = groups.get(index) ?? [];
    group.push(latencyMs);
    groups.set(index, group);
  }
  return [...groups].map(([index, latencies]) => {
    const sorted = latencies.sort((a, b) => a - b);
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
    return { seconds: (index + 1) * seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
  });
}

export function trendsOf(evidence: Evidence, stretches: readonly Stretch[]): Trend[] {
  const { samples } = evidence;
  const names = Object.keys(samples[0]?.processes ?? {});
  const series = (name: string, unit: Trend['unit'], read: (sample: Sample) => number | undefined, bound: Bound) =>
    trendOf(
      name,
      unit,
      samples.map((sample) => ({ seconds: sample.seconds, value: read(sample) })),
      bound,
    );
  const memory: Bound = (early) => early * (1 + MEMORY_GROWTH.share) + MEMORY_GROWTH.bytes / MiB;
  return [
    // Those that are replaced begin anew.
    ...names
      .filter(isLasting)
      .map((name) => series(`memory of ${name}`, 'MiB', (sample) => scaled(sample.processes[name]?.rssBytes), memory)),
    ...Object.keys(samples[0]?.services ?? {}).map((name) =>
      series(`memory of ${name}`, 'MiB', (sample) => scaled(sample.services[name]), undefined),
    ),
    ...names.filter(isLasting).map((name) =>
      series(
        `open files of ${name}`,
        'files',
        (sample) => sample.processes[name]?.openFiles,
        (early) => early + OPEN_FILES_GROWTH,
      ),
    ),
    series(
      'disk',
      'MiB',
      (sample) => scaled(sample.dataBytes),
      (early) => early * (1 + DISK_GROWTH.share) + DISK_GROWTH.bytes / MiB,
    ),
    ...(['p50Ms', 'p99Ms'] as const).map((which) =>
      trendOf(
        `start latency ${which.slice(0, 3)}`,
        'ms',
        stretches.map((stretch) => ({ seconds: stretch.seconds, value: stretch[which] })),
        (early) => early * (1 + LATENCY_GROWTH.share) + LATENCY_GROWTH.ms,
      ),
    ),
  ];
}

type Bound = ((early: number) => number) | undefined;

const isLasting = (name: string): boolean => !/^worker [^1]/.test(name);
const scaled = (bytes: number | undefined): number | undefined => (bytes === undefined ? undefined : bytes / MiB);

function trendOf(
  name: string,
  unit: Trend['unit'],
  points: readonly { seconds: number; value: number | undefined }[],
  bound: Bound,
): Trend {
  const known = points.filter((point): point is { seconds: number; value: number } => point.value !== undefined);
  const end = Math.max(...known.map(({ seconds }) => seconds));
  const middle = (from: number, to: number): number => {
    const part = known.filter(({ seconds }) => seconds >= end * from && seconds <= end * to).map(({ value }) => value);
    return part.sort((a, b) => a - b)[Math.floor(part.length / 2)] ?? Number.NaN;
  };
  const early = middle(0.25, 0.5);
  const max = Math.max(...known.map(({ value }) => value));
  return { name, unit, early, late: middle(0.75, 1), max, bound: bound?.(early) };
}

/** What was promised and did not hold. */
export function brokenPromises(evidence: Evidence, verdict: Verdict, trends: readonly Trend[]): string[] {
  const { queue, ticks, schedule, firstTickMs, openFiles, complaints } = evidence;
  const { acknowledged, completed, dead, cancelled } = verdict.counts as Record<string, number>;
  const wrong = [...verdict.problems, ...complaints];
  const expect = (what: string, is: number, wanted: number): void => {
    if (is !== wanted) wrong.push(`${what}: ${is}, and it must be ${wanted}`);
  };
  expect('enqueued, as the queue counts them', queue.totals.enqueued, acknowledged as number);
  expect('completed, as the queue counts them', queue.totals.completed, completed as number);
  expect('dead, as the queue counts them', queue.totals.dead, dead as number);
  expect('cancelled, as the queue counts them', queue.totals.cancelled, cancelled as number);
  const { firedCount, lastAtMs = 0, everyMs = 1000 } = schedule;
  expect('firings of the schedule', firedCount, Math.round((lastAtMs - firstTickMs) / everyMs) + 1);
  // One may have fired between the last look at the schedule and its end.
  if (ticks.totals.enqueued < firedCount || ticks.totals.enqueued > firedCount + 1)
    wrong.push(`${firedCount} firings, and ${ticks.totals.enqueued} tasks of them`);
  expect('tasks of the schedule that completed', ticks.totals.completed, ticks.totals.enqueued);
  const [before, after] = openFiles;
  if (after > before + OPEN_FILES_GROWTH)
    wrong.push(`the server had ${before} files open before anybody came, and ${after} after all had gone`);
  const seconds = evidence.samples.at(-1)?.seconds ?? 0;
  for (const { name, unit, early, late, bound } of trends) {
    if (seconds < JUDGED_SECONDS_MIN || bound === undefined || late <= bound) continue;
    wrong.push(`${name} grew from ${round(early)} to ${round(late)} ${unit}, and may be ${round(bound)}`);
  }
  return wrong;
}

export function drawReport(evidence: Evidence, stretches: readonly Stretch[]): string {
  const { samples } = evidence;
  const minutes = (seconds: number): number => seconds / 60;
  const line = (name: string, read: (sample: Sample) => number | undefined): Line => ({
    name,
    points: samples.flatMap((sample) => {
      const value = read(sample);
      return value === undefined ? [] : [[minutes(sample.seconds), value] as const];
    }),
  });
  const services = Object.keys(samples[0]?.services ?? {});
  const about = { xTitle: 'minutes', scale: 'linear' } as const;
  const rss = (name: string): Line => line(name, (sample) => scaled(sample.processes[name]?.rssBytes));
  const panels: Panel[] = [
    { ...about, title: 'resident memory, MiB', lines: [rss('server'), rss('worker 1'), rss('producer 1')] },
    {
      ...about,
      title: 'start latency, ms',
      lines: (['p50Ms', 'p99Ms'] as const).map((which) => ({
        name: which.slice(0, 3),
        points: stretches.map((stretch) => [minutes(stretch.seconds), stretch[which]] as const),
      })),
    },
    {
      ...about,
      title: 'open files of the server',
      lines: [line('server', (sample) => sample.processes.server?.openFiles)],
    },
    { ...about, title: 'disk, MiB', lines: [line('disk', (sample) => scaled(sample.dataBytes))] },
    { ...about, title: 'tasks that wait or run', lines: [line('backlog', ({ backlog }) => backlog)] },
    { ...about, title: 'tasks completed', lines: [line('completed', ({ completed }) => completed)] },
    ...(services.length === 0
      ? []
      : [
          {
            ...about,
            title: 'memory of the services, MiB',
            lines: services.map((name) => line(name, (sample) => scaled(sample.services[name]))),
          },
        ]),
  ];
  return drawCharts(
    panels.filter(({ lines }) => lines.some(({ points }) => points.length > 0)),
    3,
  );
}

const TREND_COLUMNS: readonly DocumentColumn[] = [
  { title: '' },
  ...['second quarter', 'last quarter', 'most'].map((title) => ({ title, align: 'right' }) as const),
];

/** For a page: what happened, and how it went on. */
export function describeRun(evidence: Evidence, verdict: Verdict, trends: readonly Trend[]): string {
  const { viewer, cuts, restarts, schedule, openFiles } = evidence;
  const { acknowledged, completed, dead, cancelled, lost, runs, again } = verdict.counts as Record<string, number>;
  const count = (value: number | undefined): string => (value ?? 0).toLocaleString('en');
  const rows = trends.map(({ name, unit, early, late, max }) => {
    const cells = [early, late, max].map((value) => `${round(value)}${unit === 'files' ? '' : ` ${unit}`}`);
    return [name, ...cells];
  });
  return [
    `${count(acknowledged)} tasks acknowledged in ${count(evidence.samples.at(-1)?.seconds)} seconds: ${count(completed)} completed, ` +
      `${count(dead)} dead as they were to, ${count(cancelled)} cancelled, ${count(lost)} lost; ${count(runs)} runs, of which ${count(again)} ` +
      `again because of ${count(cuts)} cut connections and ${count(restarts)} restarts of workers, half of them kills. ` +
      `${count(schedule.firedCount)} firings of a schedule, ${count(viewer.requests)} requests of a dashboard and of Prometheus, ` +
      `${count(viewer.events)} events read from a stream. Open files of the server before anybody came: ${openFiles[0]}, after all had gone: ${openFiles[1]}.`,
    '',
    markdownTable(TREND_COLUMNS, rows),
    '',
  ].join('\n');
}

function round(value: number): string {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(2)));
}
