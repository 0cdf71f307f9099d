import { expect, test } from 'vitest';
import type { QueueStatus } from '../broker/contract.ts';
import { LIMITS, NO_LIMITS } from '../limits.ts';
import { OTHERS, QueueLabels, type Totals } from './queue-labels.ts';

function queue(name: string, totals: Partial<Totals> = {}, ready = 0): QueueStatus {
  const retention = { completedCountMax: 0, completedAgeMs: 0, deadCountMax: 0, deadAgeMs: 0 };
  return {
    ...{ name, ready, retention, limits: NO_LIMITS, paused: false, active: 0, scheduled: 0, blocked: 0 },
    ...{ completed: 0, dead: 0, cancelled: 0, oldestReadyMs: 0 },
    totals: { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0, ...totals },
  };
}

/** As many as may have labels, all with something in them. */
function full(from = 0): QueueStatus[] {
  return Array.from({ length: LIMITS.metricsQueuesMax }, (_, i) => queue(`q${from + i}`, { enqueued: 5 }, 5));
}

const labelsOf = (labels: ReturnType<QueueLabels['scrape']>): string[] => labels.labelled.map(({ queue: q }) => q.name);

test('a failure that is taken back does not lower the counter, and is not counted again', () => {
  const labels = new QueueLabels();
  const failed = (count: number) =>
    labels.scrape([queue('a', { enqueued: 9, failed: count })]).labelled[0]?.totals.failed;
  expect([failed(3), failed(1), failed(3), failed(4)]).toEqual([3, 3, 3, 4]);
});

test('a backend that was replaced counts anew', () => {
  const labels = new QueueLabels();
  labels.scrape([queue('a', { enqueued: 9, failed: 3 })]);
  const [after] = labels.scrape([queue('a', { enqueued: 2, failed: 1 })]).labelled;
  expect(after?.totals).toMatchObject({ enqueued: 2, failed: 1 });
});

test('the queues with the most tasks and traffic have labels', () => {
  const [idle, busy, deep] = [queue('idle'), queue('busy', { enqueued: 100 }), queue('deep', {}, 100)];
  const names = labelsOf(new QueueLabels().scrape([idle, busy, deep, ...full().slice(2)]));
  expect(names).toHaveLength(LIMITS.metricsQueuesMax);
  expect(names).toEqual(expect.arrayContaining(['busy', 'deep']));
  expect(names).not.toContain('idle');
});

test('a label stays, however much others grow, until its queue is gone', () => {
  const labels = new QueueLabels();
  labels.scrape(full());
  const late = queue('late', { enqueued: 1000 }, 1000);
  const second = labels.scrape([...full(), late]);
  expect(labelsOf(second)).not.toContain('late');
  expect(second.others?.totals.enqueued).toBe(1000);
  expect(labelsOf(labels.scrape([...full().slice(1), late]))).toContain('late');
});

test('the counters of the others start at 0 and never fall, though one of them gets a label', () => {
  const labels = new QueueLabels();
  const [first, ...rest] = full();
  const others = (...queues: QueueStatus[]) => labels.scrape(queues).others?.totals.enqueued;
  const late = (enqueued: number) => queue('late', { enqueued });
  const later = queue('later', { enqueued: 0 });
  expect(others(first as QueueStatus, ...rest, late(3), later)).toBe(0);
  expect(others(first as QueueStatus, ...rest, late(7), later)).toBe(4);
  // It takes the label of the one that is gone.
  expect(others(...rest, late(9), later)).toBe(4);
  expect(others(...rest, late(20), later)).toBe(4);
});

test('a queue that is called as the others are is one of them', () => {
  const labels = new QueueLabels();
  labels.scrape([queue(OTHERS, { enqueued: 1 }), queue('a')]);
  const { labelled, others } = labels.scrape([queue(OTHERS, { enqueued: 3 }), queue('a')]);
  expect(labelled.map(({ queue: { name } }) => name)).toEqual(['a']);
  expect(others?.totals.enqueued).toBe(2);
});
