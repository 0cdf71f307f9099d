import { expect, test } from 'vitest';
import type { QueueStatus, Status, WorkerStatus } from '../broker/contract.ts';
import { NO_LIMITS } from '../limits.ts';
import { describeTraffic, trafficKey } from './server-report.ts';
import { statusView } from './status-view.ts';

function queue(index: number, change: Partial<QueueStatus> = {}): QueueStatus {
  return {
    name: `queue-${index}`,
    paused: false,
    ready: 0,
    active: 0,
    scheduled: 0,
    blocked: 0,
    completed: 0,
    dead: 0,
    cancelled: 0,
    oldestReadyMs: 0,
    totals: { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 },
    retention: { completedCountMax: 1, completedAgeMs: 1, deadCountMax: 1, deadAgeMs: 1 },
    limits: NO_LIMITS,
    ...change,
  };
}

function worker(index: number, change: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    id: String(index),
    name: `host-with-a-name:${1000 + index}`,
    host: 'host',
    pid: 1000 + index,
    queues: ['default', 'mail'],
    concurrency: 50,
    prefetch: 100,
    held: 100,
    running: 50,
    utilisation: 0.93,
    completed: 1_234_567,
    failed: 12,
    connectedAtMs: 0,
    lastSeenMs: 0,
    ...change,
  };
}

function status(queues: QueueStatus[], workers: WorkerStatus[]): Status {
  return {
    server: {
      version: '1.2.3',
      pid: 7,
      startedAtMs: 0,
      uptimeMs: 200_000,
      durability: 'always',
      connections: 3,
      stopping: false,
    },
    queues,
    workers,
    throughput: { enqueued: 12_345, completed: 1234, failed: 0 },
    latencyMs: { start: { p50: 0.2, p95: 1, p99: 2, count: 5 }, total: { p50: 0, p95: 0, p99: 0, count: 0 } },
    journal: { segments: 2, bytes: 130 * 2 ** 20, syncs: 1, appendedBytes: 0 },
    memory: { rssBytes: 90 * 2 ** 20, heapBytes: 0 },
  };
}

test('people see queues, workers and figures', () => {
  const queues = [queue(1, { ready: 1234, dead: 3, oldestReadyMs: 4200 }), queue(2, { paused: true })];
  const view = statusView('tcp://h:5555', status(queues, [worker(1)]), { columns: 100, rows: undefined });
  expect(view.join('\n')).toBe(`\
tcp://h:5555  Millrace 1.2.3, up 3 min 20 s, fsync always, 3 connections, process 7

QUEUE             READY  ACTIVE  SCHEDULED  BLOCKED  COMPLETED  DEAD  CANCELLED  OLDEST READY
queue-1           1,234       0          0        0          0     3          0         4.2 s
queue-2 (paused)      0       0          0        0          0     0          0             -

WORKER                 BUSY              RUNNING  HELD  COMPLETED  FAILED  QUEUES
host-with-a-name:1001  █████████░  93 %    50/50   100  1,234,567      12  default, mail

Throughput     in 12.3 k/s, out 1,234/s, failed 0/s
Until started  p50 0.2, p95 1, p99 2 ms
Until done     nothing in the last minute
Journal        130 MiB in 2 segments, 1 sync; memory 90.0 MiB`);
});

test.each([
  [1, 1],
  [50, 50],
  [200, 1],
  [1, 200],
])('%d queues and %d workers fit the screen', (queueCount, workerCount) => {
  const queues = Array.from({ length: queueCount }, (_, index) =>
    queue(index, { name: `a-long-queue-name-${index}`.repeat(3), completed: 10_000_000, ready: 10_000_000 }),
  );
  const workers = Array.from({ length: workerCount }, (_, index) => worker(index));
  const view = statusView('tcp://h:5555', status(queues, workers), { columns: 100, rows: 24 });
  expect(view.length).toBeLessThanOrEqual(24);
  expect(Math.max(...view.map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(view.some((line) => line.startsWith('a-long-queue'))).toBe(true);
  expect(view.some((line) => line.startsWith('host-with-a-name'))).toBe(true);
  expect(view.filter((line) => /^… and \d+ more (queue|worker)s$/.test(line))).toHaveLength(
    Number(queueCount > 1) + Number(workerCount > 1),
  );
});

test('supervisors stand below the workers with their last decision, cut to the screen', () => {
  const decision = { atMs: 0, from: 1, to: 2, reason: `40 tasks wait, ${'the oldest for 6 s, '.repeat(10)}` };
  const crew = { ...{ id: '1', name: 'crew', host: 'h', pid: 1, queues: ['q'], min: 1, max: 8 }, lastSeenMs: 0 };
  const supervisors = Array(6).fill({ ...crew, current: 2, retiring: 1, decisions: [decision] });
  const many = { ...status([queue(1)], Array(30).fill(worker(1))), supervisors };
  const view = statusView('tcp://h:5555', many, { columns: 100, rows: 24 });
  expect(view.length).toBeLessThanOrEqual(24);
  expect(Math.max(...view.map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(view).toContainEqual(expect.stringMatching(/^SUPERVISOR +PROCESSES +MIN–MAX +LAST DECISION$/));
  expect(view).toContainEqual(
    expect.stringMatching(/^crew +2 and 1 retiring +1–8 {2}1970-01-01 \S+ 1 → 2: 40 tasks wait.*…$/),
  );
  expect(view).toContain('… and 2 more supervisors');
  const whole = statusView(
    'tcp://h:5555',
    { ...many, supervisors: [{ ...crew, current: 1, retiring: 0, decisions: [] }] },
    {
      columns: undefined,
      rows: undefined,
    },
  );
  expect(whole).toContainEqual(expect.stringMatching(/^crew +1 +1–8 {2}-$/));
});

test('the log line names all that moves, and repeats itself only when something moved', () => {
  const busy = status([queue(1, { ready: 5, active: 2 })], [worker(1)]);
  expect(describeTraffic(busy)).toBe(
    'in 12.3 k/s, out 1,234/s, failed 0/s | start p50 0.2, p95 1, p99 2 ms | queue-1: 5 ready, 2 active | ' +
      'busy: host-with-a-name:1001 93 %',
  );
  const later = { ...busy, throughput: { enqueued: 0, completed: 0, failed: 0 } };
  expect(trafficKey(later)).toBe(trafficKey(busy));
  expect(trafficKey(status([queue(1, { ready: 6, active: 2 })], [worker(1)]))).not.toBe(trafficKey(busy));
  expect(trafficKey(status(busy.queues, []))).not.toBe(trafficKey(busy));
});
