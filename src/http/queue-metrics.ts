import type { QueueStatus, WorkerStatus } from '../broker/contract.ts';
import { type MetricFamily, type Sample, single } from './metric-family.ts';
import { type LabelledQueues, OTHERS, type Totals } from './queue-labels.ts';

const TOTALS: Readonly<Record<keyof Totals, string>> = {
  enqueued: 'Tasks that were enqueued, over restarts.',
  completed: 'Tasks that were completed, over restarts.',
  failed: 'Attempts that failed, over restarts; a task may fail several times.',
  dead: 'Tasks whose last attempt failed, over restarts.',
  cancelled: 'Tasks that were cancelled or purged, over restarts.',
};

const STATES = ['ready', 'active', 'scheduled', 'blocked', 'completed', 'dead', 'cancelled'] as const;

type State = (typeof STATES)[number];

export function queueMetrics(queues: LabelledQueues, workers: readonly WorkerStatus[]): MetricFamily[] {
  const { labelled } = queues;
  const gauge = (name: string, help: string, of: (queue: QueueStatus) => number): MetricFamily => ({
    ...{ name, help, type: 'gauge' },
    samples: labelled.map(({ queue }) => ({ labels: { queue: queue.name }, value: of(queue) })),
  });
  const takers = workersByQueue(workers);
  return [
    ...counters(queues),
    ...depthMetrics(queues, STATES),
    oldest(queues),
    gauge('millrace_queue_paused', '1: no tasks of the queue are handed out.', ({ paused }) => Number(paused)),
    gauge('millrace_queue_workers', 'Workers that take tasks of the queue.', ({ name }) => takers.get(name) ?? 0),
  ];
}

function counters({ labelled, others }: LabelledQueues): MetricFamily[] {
  return (Object.keys(TOTALS) as (keyof Totals)[]).map((what) => {
    const samples: Sample[] = labelled.map(({ queue, totals }) => ({
      labels: { queue: queue.name },
      value: totals[what],
    }));
    if (others !== undefined) samples.push({ labels: { queue: OTHERS }, value: others.totals[what] });
    return { name: `millrace_tasks_${what}_total`, help: TOTALS[what], type: 'counter', samples };
  });
}

/** How many queues there are, and how many tasks in these states. */
export function depthMetrics({ labelled, others }: LabelledQueues, states: readonly State[]): MetricFamily[] {
  const samples = labelled.flatMap(({ queue }) =>
    states.map((state) => ({ labels: { queue: queue.name, state }, value: queue[state] })),
  );
  if (others !== undefined) {
    for (const state of states) {
      const value = others.queues.reduce((sum, queue) => sum + queue[state], 0);
      samples.push({ labels: { queue: OTHERS, state }, value });
    }
  }
  const help = 'Tasks in each state; completed, dead and cancelled ones while they are retained.';
  const count = labelled.length + (others?.queues.length ?? 0);
  return [
    single('gauge', 'millrace_queues', 'Queues that there are, with series of their own or without.', count),
    { name: 'millrace_queue_tasks', help, type: 'gauge', samples },
  ];
}

function oldest({ labelled, others }: LabelledQueues): MetricFamily {
  const samples = labelled.map(({ queue }) => ({ labels: { queue: queue.name }, value: queue.oldestReadyMs / 1000 }));
  if (others !== undefined) {
    const value = others.queues.reduce((max, { oldestReadyMs }) => Math.max(max, oldestReadyMs), 0) / 1000;
    samples.push({ labels: { queue: OTHERS }, value });
  }
  const help = 'How long ago the oldest ready task was enqueued.';
  return { name: 'millrace_queue_oldest_ready_seconds', help, type: 'gauge', samples };
}

function workersByQueue(workers: readonly WorkerStatus[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { queues } of workers) for (const queue of queues) counts.set(queue, (counts.get(queue) ?? 0) + 1);
  return counts;
}
