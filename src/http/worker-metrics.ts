import type { WorkerStatus } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { type MetricFamily, single } from './metric-family.ts';
import { OTHERS } from './queue-labels.ts';

interface Sum {
  running: number;
  concurrency: number;
  busy: number;
}

/** By name: those that share one are one to whoever looks, and an id would be a new series after every reconnect. */
export function workerMetrics(workers: readonly WorkerStatus[]): MetricFamily[] {
  const sums = [...sumByLabel(workers)];
  const gauge = (name: string, help: string, of: (sum: Sum) => number): MetricFamily => ({
    ...{ name, help, type: 'gauge' },
    samples: sums.map(([worker, sum]) => ({ labels: { worker }, value: of(sum) })),
  });
  return [
    single('gauge', 'millrace_workers', 'Workers that are connected.', workers.length),
    gauge('millrace_worker_running_tasks', 'Tasks that its handlers have.', ({ running }) => running),
    gauge('millrace_worker_concurrency', 'Handlers that may run at the same time.', ({ concurrency }) => concurrency),
    gauge(
      'millrace_worker_utilisation_ratio',
      'Share of its handlers that were busy over the last seconds, 0 to 1.',
      ({ busy, concurrency }) => (concurrency === 0 ? 0 : busy / concurrency),
    ),
  ];
}

function sumByLabel(workers: readonly WorkerStatus[]): Map<string, Sum> {
  const sums = new Map<string, Sum>();
  // Those that were there before keep their label.
  const inOrder = [...workers].sort((a, b) => a.connectedAtMs - b.connectedAtMs);
  for (const { name, running, concurrency, utilisation } of inOrder) {
    const label = sums.has(name) || sums.size < LIMITS.metricsWorkersMax ? name : OTHERS;
    const sum = sums.get(label) ?? { running: 0, concurrency: 0, busy: 0 };
    sum.running += running;
    sum.concurrency += concurrency;
    sum.busy += utilisation * concurrency;
    sums.set(label, sum);
  }
  return sums;
}
