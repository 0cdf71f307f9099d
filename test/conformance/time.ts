import { expect } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { Arrivals } from './events.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;

export const time: Behaviours = {
  'a delayed task is scheduled, and starts no sooner than its delay': async (place) => {
    const client = await place.connect();
    const started = new Arrivals<number>();
    await client.work([defineTask('later').handle(() => started.add(performance.now()))]);
    const calledMs = performance.now();
    const delays = [50, 1, 20.5];
    await Promise.all(delays.map((delayMs) => client.enqueue('later', null, { delayMs })));
    const startedMs = await started.count(3);
    expect(startedMs[0] - calledMs).toBeGreaterThanOrEqual(1);
    expect(startedMs[1] - calledMs).toBeGreaterThanOrEqual(20.5);
    expect(startedMs[2] - calledMs).toBeGreaterThanOrEqual(50);
    const far = await client.enqueue('later', null, { delayMs: HOUR });
    const info = await client.tasks.get(far.id);
    expect(info.state).toBe('scheduled');
    expect(Math.abs((info.runAtMs ?? 0) - info.enqueuedAtMs - HOUR)).toBeLessThanOrEqual(1);
  },

  'delayed tasks start in the order in which they are due': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<number>();
    await client.work([defineTask<number>('due').handle(async (input) => ran.add(input))], { concurrency: 1 });
    const delays = [90, 30, 120, 60, 0, 150];
    await Promise.all(delays.map((delayMs) => client.enqueue('due', delayMs, { delayMs })));
    expect(await ran.count(delays.length)).toEqual(delays.toSorted((a, b) => a - b));
  },

  'a task with runAt starts no sooner than that moment, given as a Date or a number': async (place) => {
    const client = await place.connect();
    const started = new Arrivals<[number, number]>();
    await client.work([defineTask<number>('at').handle((atMs) => started.add([atMs, Date.now()]))]);
    const soonMs = Date.now() + 60;
    await client.enqueue('at', soonMs, { runAt: new Date(soonMs) });
    await client.enqueue('at', soonMs + 30, { runAt: soonMs + 30 });
    for (const [atMs, startedMs] of await started.count(2)) expect(startedMs).toBeGreaterThanOrEqual(atMs);
    const farMs = Date.now() + HOUR;
    const far = await client.enqueue('at', farMs, { runAt: farMs });
    expect(await client.tasks.get(far.id)).toMatchObject({ state: 'scheduled', runAtMs: farMs });
  },

  'a task with runAt in the past, or without delay, starts now': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    await client.work([defineTask<string>('now').handle((input) => ran.add(input))]);
    await client.enqueue('now', 'past', { runAt: new Date(1) });
    await client.enqueue('now', 'long ago', { runAt: 0 });
    await client.enqueue('now', 'no delay', { delayMs: 0 });
    expect((await ran.count(3)).toSorted()).toEqual(['long ago', 'no delay', 'past']);
  },

  'a whole batch can be delayed': async (place) => {
    const client = await place.connect();
    const tasks = await client.enqueueMany('batch', [1, 2, 3], { delayMs: HOUR });
    for (const id of tasks.ids) expect((await client.tasks.get(id)).state).toBe('scheduled');
  },

  'a scheduled task that is retried starts now': async (place) => {
    const client = await place.connect();
    await client.work([defineTask('early').handle((_, { attempt }) => attempt)]);
    const tasks = [
      await client.enqueue('early', null, { delayMs: HOUR }),
      await client.enqueue('early', null, { runAt: Date.now() + HOUR }),
    ];
    for (const task of tasks) {
      await client.tasks.retry(task.id);
      expect(await task.result()).toBe(1);
    }
  },
};
