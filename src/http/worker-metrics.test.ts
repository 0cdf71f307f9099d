import { expect, test } from 'vitest';
import type { WorkerStatus } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { workerMetrics } from './worker-metrics.ts';

function worker(name: string, connectedAtMs: number, running = 1): WorkerStatus {
  const about = { id: name, host: 'here', pid: 1, queues: [], prefetch: 4, held: running, completed: 0, failed: 0 };
  return { ...about, name, concurrency: 2, running, utilisation: running / 2, connectedAtMs, lastSeenMs: 0 };
}

test('a bounded number of workers have series of their own, those that came first; the rest are added up', () => {
  const late = Array.from({ length: LIMITS.metricsWorkersMax }, (_, i) => worker(`late${i}`, 2));
  const families = new Map(workerMetrics([...late, worker('early', 1, 2)]).map(({ name, samples }) => [name, samples]));
  const running = families.get('millrace_worker_running_tasks') ?? [];
  expect(running).toHaveLength(LIMITS.metricsWorkersMax + 1);
  expect(running[0]).toEqual({ labels: { worker: 'early' }, value: 2 });
  expect(running.at(-1)).toEqual({ labels: { worker: '(other)' }, value: 1 });
  expect(families.get('millrace_workers')).toEqual([{ labels: {}, value: LIMITS.metricsWorkersMax + 1 }]);
});

test('workers of one name are one, and busy as they are together', () => {
  const families = new Map(
    workerMetrics([worker('a', 1, 2), worker('a', 2, 0)]).map(({ name, samples }) => [name, samples]),
  );
  expect(families.get('millrace_worker_utilisation_ratio')).toEqual([{ labels: { worker: 'a' }, value: 0.5 }]);
  expect(families.get('millrace_worker_concurrency')).toEqual([{ labels: { worker: 'a' }, value: 4 }]);
});
