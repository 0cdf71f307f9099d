import { expect, test } from 'vitest';
import type { QueueStatus, Status, WorkerStatus } from '../../src/broker/contract.ts';
import { NO_LIMITS } from '../../src/limits.ts';
import { Observer } from '../../src/scaling/observer.ts';

const COUNTS = { active: 0, scheduled: 0, blocked: 0, completed: 0, dead: 0, cancelled: 0 };

function queue(name: string, enqueued: number, change: Partial<QueueStatus> = {}): QueueStatus {
  return {
    ...{ name, paused: false, ready: 0, oldestReadyMs: 0, limits: NO_LIMITS, ...COUNTS },
    totals: { enqueued, completed: 0, failed: 0, dead: 0, cancelled: 0 },
    retention: { completedCountMax: 1, completedAgeMs: 1, deadCountMax: 1, deadAgeMs: 1 },
    ...change,
  };
}

function worker(pid: number, change: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    ...{ id: `w${pid}`, name: `crew/${pid}`, host: 'h', pid, queues: ['a', 'b'], concurrency: 10, prefetch: 20 },
    ...{ held: 0, running: 0, utilisation: 0, completed: 0, failed: 0, connectedAtMs: 0, lastSeenMs: 0 },
    ...change,
  };
}

function status(queues: QueueStatus[], workers: WorkerStatus[]): Status {
  return { queues, workers } as unknown as Status;
}

const OWN = {
  working: [1, 2].map((pid) => ({ name: `crew/${pid}`, pid })),
  current: 3,
  retiring: 1,
  queues: ['a', 'b'],
};

test('of all queues and workers it sees those that matter', () => {
  const seen = new Observer().observe(
    status(
      [
        queue('a', 5, { ready: 3, oldestReadyMs: 40 }),
        queue('b', 5, { heldUpBy: 'rate' }),
        queue('other', 9, { ready: 100, oldestReadyMs: 9000 }),
      ],
      [
        worker(1, { running: 10, held: 14, utilisation: 1 }),
        worker(2, { running: 2, held: 2, utilisation: 0.5 }),
        worker(3, { name: 'crew/1', queues: ['b', 'c'], concurrency: 20 }),
        worker(4, { queues: ['other'], concurrency: 1000 }),
      ],
    ),
    OWN,
    0,
  );
  expect(seen).toEqual({
    ...{ current: 3, atWork: 2, retiring: 1, utilisation: 0.75, runningShare: 0.6, heldAhead: 4 },
    queues: [
      { name: 'a', ready: 3, oldestReadyMs: 40, heldUpBy: undefined },
      { name: 'b', ready: 0, oldestReadyMs: 0, heldUpBy: 'rate' },
    ],
    ...{ arrivalRate: 0, endRate: 0, share: 0.5 },
  });
});

test('rates are those of the last five seconds, of what is not held up, and of its own workers', () => {
  const observer = new Observer();
  const look = (second: number) =>
    observer.observe(
      status(
        [queue('a', 100 + second * 30), queue('b', second * 1000, { paused: true })],
        [
          worker(1, { completed: 1_000_000 + second * 8, failed: second * 2 }),
          worker(7, { completed: second * 500 }),
          // It comes later.
          ...(second < 4 ? [] : [worker(2, { completed: (second - 4) * 20 })]),
        ],
      ),
      OWN,
      second * 1000,
    );
  look(0);
  expect(look(1)).toMatchObject({ arrivalRate: 30, endRate: 10 });
  for (let second = 2; second < 9; second++) look(second);
  expect(look(9)).toMatchObject({ arrivalRate: 30, endRate: 30 });
  observer.forget();
  expect(look(60)).toMatchObject({ arrivalRate: 0, endRate: 0 });
  expect(look(61)).toMatchObject({ arrivalRate: 30, endRate: 30 });
});
