import { beforeEach, expect, test } from 'vitest';
import { closeInMemory, openInMemory } from '../../test/support/embedded.ts';
import { settle } from '../../test/support/scripted-server.ts';
import type { ManualClock } from '../../test/twins/manual-clock.ts';
import type { Client } from '../client/client.ts';
import { LIMITS } from '../limits.ts';
import { History } from './history.ts';

let opened: Awaited<ReturnType<typeof openInMemory>>;
let client: Client;
let clock: ManualClock;
let history: History;

beforeEach(async () => {
  opened = await openInMemory();
  ({ client, clock } = opened);
  history = new History(opened.broker, clock);
  history.start();
  return async () => {
    history.stop();
    await closeInMemory(client, clock);
  };
});

async function sample(): Promise<void> {
  clock.advance(LIMITS.historyIntervalMs);
  await settle();
}

test('a sample every interval sums up all queues', async () => {
  await client.enqueueMany('x', [1, 2], { queue: 'a' });
  await client.enqueue('x', 3, { queue: 'b', delayMs: 3_600_000 });
  expect(history.samples).toEqual([]);
  const beganMs = clock.wallMs();
  await sample();
  expect(history.samples).toMatchObject([
    {
      atMs: beganMs + LIMITS.historyIntervalMs,
      queues: { ready: 2, active: 0, scheduled: 1, blocked: 0, dead: 0 },
      oldestReadyMs: LIMITS.historyIntervalMs,
      workers: 0,
      utilisation: 0,
    },
  ]);
});

test('the rates of a queue are those of the last interval', async () => {
  await client.enqueue('x', 1, { queue: 'a' });
  await sample();
  expect(history.ratesOf('a')).toEqual({ enqueued: 0, completed: 0, failed: 0 });
  await client.enqueueMany('x', new Array(10).fill(0), { queue: 'a' });
  await sample();
  expect(history.ratesOf('a')).toEqual({ enqueued: 2, completed: 0, failed: 0 });
  await sample();
  expect(history.ratesOf('a')).toEqual({ enqueued: 0, completed: 0, failed: 0 });
  expect(history.ratesOf('unknown')).toEqual({ enqueued: 0, completed: 0, failed: 0 });
});

test('the last 15 minutes are kept, and no more', async () => {
  for (let count = 0; count < LIMITS.historySamplesMax + 3; count++) await sample();
  expect(history.samples).toHaveLength(LIMITS.historySamplesMax);
  const [first, last] = [history.samples.at(0), history.samples.at(-1)];
  expect((last?.atMs ?? 0) - (first?.atMs ?? 0)).toBe(15 * 60_000 - LIMITS.historyIntervalMs);
});

test('nothing more is sampled once it is stopped', async () => {
  await sample();
  history.stop();
  await sample();
  await sample();
  expect(history.samples).toHaveLength(1);
});
