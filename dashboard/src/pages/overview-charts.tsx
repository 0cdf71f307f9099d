import { useMemo } from 'preact/hooks';
import { samples } from '../api/stats.ts';
import type { Sample } from '../api/types.ts';
import { Chart, type Series } from '../charts/chart.tsx';
import { compact, count, duration, rate, share } from '../format.ts';
import { spanMin } from '../preferences.ts';
import { useStore } from '../store.ts';

/** Where nothing came for longer, lines are broken. */
const GAP_S = 12;

export function Charts() {
  const kept = useStore(samples);
  const minutes = useStore(spanMin);
  const spanS = minutes * 60;
  const chart = useMemo(() => lines(kept, spanS), [kept, spanS]);
  return (
    <div class="charts">
      <Chart
        title="Throughput per second"
        times={chart.times}
        spanS={spanS}
        series={chart.throughput}
        format={rate}
        formatAxis={compact}
        atLeast={10}
      />
      <Chart
        title="Enqueue to start"
        times={chart.times}
        spanS={spanS}
        series={chart.start}
        format={duration}
        formatAxis={axisDuration}
        steps={DURATION_STEPS}
        atLeast={1}
      />
      <Chart
        title="Enqueue to confirmed completion"
        times={chart.times}
        spanS={spanS}
        series={chart.total}
        format={duration}
        formatAxis={axisDuration}
        steps={DURATION_STEPS}
        atLeast={1}
      />
      <Chart
        title="Tasks by state"
        times={chart.times}
        spanS={spanS}
        series={chart.states}
        format={count}
        formatAxis={compact}
        atLeast={10}
      />
      <Chart
        title="Workers busy"
        times={chart.times}
        spanS={spanS}
        series={chart.busy}
        format={share}
        formatAxis={share}
        atLeast={1}
      />
      <Chart
        title="Oldest waiting task"
        times={chart.times}
        spanS={spanS}
        series={chart.oldest}
        format={duration}
        formatAxis={axisDuration}
        steps={DURATION_STEPS}
        atLeast={1000}
      />
    </div>
  );
}

const DURATION_STEPS = [
  ...[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800].map((s) => s * 1000),
  ...[1, 2, 5, 10, 20, 50, 100, 200].map((days) => days * 86_400_000),
];

function axisDuration(ms: number): string {
  return ms === 0 ? '0' : duration(ms);
}

type Line = readonly [name: string, colour: string, dash: readonly number[], of: (sample: Sample) => number];

const SOLID: readonly number[] = [];
const DASHED = [6, 4];
const DOTTED = [2, 3];
const MIXED = [8, 3, 2, 3];

const LINES = {
  throughput: [
    ['in', '--chart-in', SOLID, ({ throughput }) => throughput.enqueued],
    ['out', '--chart-out', DASHED, ({ throughput }) => throughput.completed],
    ['failed', '--chart-failed', DOTTED, ({ throughput }) => throughput.failed],
  ],
  start: [
    ['p50', '--chart-p50', SOLID, ({ latencyMs }) => latencyMs.start.p50],
    ['p95', '--chart-p95', DASHED, ({ latencyMs }) => latencyMs.start.p95],
    ['p99', '--chart-p99', DOTTED, ({ latencyMs }) => latencyMs.start.p99],
  ],
  total: [
    ['p50', '--chart-p50', SOLID, ({ latencyMs }) => latencyMs.total.p50],
    ['p95', '--chart-p95', DASHED, ({ latencyMs }) => latencyMs.total.p95],
    ['p99', '--chart-p99', DOTTED, ({ latencyMs }) => latencyMs.total.p99],
  ],
  states: [
    ['ready', '--chart-ready', SOLID, ({ queues }) => queues.ready],
    ['active', '--chart-active', DASHED, ({ queues }) => queues.active],
    ['scheduled', '--chart-scheduled', DOTTED, ({ queues }) => queues.scheduled],
    ['blocked', '--chart-blocked', MIXED, ({ queues }) => queues.blocked],
    ['dead', '--chart-failed', [1, 2], ({ queues }) => queues.dead],
  ],
  busy: [['busy', '--chart-in', SOLID, ({ utilisation }) => utilisation]],
  oldest: [['waits for', '--chart-p99', SOLID, ({ oldestReadyMs }) => oldestReadyMs]],
} as const satisfies Record<string, readonly Line[]>;

function lines(kept: readonly Sample[], spanS: number) {
  const from = (kept.at(-1)?.atMs ?? 0) - spanS * 1000;
  const points: { atS: number; sample: Sample | null }[] = [];
  for (const sample of kept) {
    if (sample.atMs < from) continue;
    const atS = sample.atMs / 1000;
    const before = points.at(-1);
    if (before !== undefined && atS - before.atS > GAP_S) points.push({ atS: before.atS + 1, sample: null });
    points.push({ atS, sample });
  }
  const draw = (drawn: readonly Line[]): Series[] =>
    drawn.map(([name, colour, dash, of]) => ({
      name,
      colour,
      dash,
      values: points.map(({ sample }) => (sample === null ? null : of(sample))),
    }));
  return {
    times: points.map(({ atS }) => atS),
    throughput: draw(LINES.throughput),
    start: draw(LINES.start),
    total: draw(LINES.total),
    states: draw(LINES.states),
    busy: draw(LINES.busy),
    oldest: draw(LINES.oldest),
  };
}
