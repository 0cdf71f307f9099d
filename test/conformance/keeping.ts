import { expect } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

/** What is still there after everything was closed and opened again. */
export const keeping: Behaviours = {
  'tasks of every state are found again after everything was closed and opened': async (place) => {
    const before = await place.connect();
    const worker = await before.work({
      fine: (input) => input,
      broken: () => Promise.reject(new Error('no')),
    });
    const completed = await before.enqueue('fine', { kept: true });
    const dead = await before.enqueue('broken', null, { maxAttempts: 2, backoff: AT_ONCE });
    await completed.result();
    await failure(dead.result());
    await worker.stop();
    const ready = await before.enqueueMany('fine', ['r1', 'r2'], { priority: 9 });
    const scheduled = await before.enqueue('fine', 's', { delayMs: HOUR });
    const appointed = await before.enqueue('fine', 's', { runAt: Date.now() + HOUR });
    const cancelled = await before.enqueue('fine', 'c');
    await cancelled.cancel();
    const ids = [completed.id, dead.id, ...ready.ids, scheduled.id, appointed.id, cancelled.id];
    const infos = await Promise.all(ids.map((id) => before.tasks.get(id)));
    await place.restart();
    const after = await place.connect();
    for (const [index, id] of ids.entries()) {
      const { runAtMs, enqueuedAtMs, finishedAtMs, failures, ...rest } = await after.tasks.get(id);
      expect(rest).toEqual(without(infos[index]));
      expect(failures.map(({ error }) => error)).toEqual(infos[index].failures.map(({ error }) => error));
      expect(enqueuedAtMs - infos[index].enqueuedAtMs).toBeCloseTo(0, -2);
      expect((finishedAtMs ?? 0) - (infos[index].finishedAtMs ?? 0)).toBeCloseTo(0, -2);
      expect((runAtMs ?? 0) - (infos[index].runAtMs ?? 0)).toBeCloseTo(0, -2);
    }
    expect(await after.queue('default').status()).toMatchObject({
      ...{ ready: 2, active: 0, scheduled: 2, completed: 1, dead: 1, cancelled: 1 },
      totals: { enqueued: 7, completed: 1, failed: 2, dead: 1, cancelled: 1 },
    });
  },

  'results and errors are found again after everything was closed and opened': async (place) => {
    const before = await place.connect();
    await before.work({
      echo: (input) => input,
      nothing: () => undefined,
      broken: () => Promise.reject(new RangeError('out of it')),
    });
    const echo = await before.enqueue('echo', { nested: ['ü', null] });
    const nothing = await before.enqueue('nothing', null);
    const broken = await before.enqueue('broken', null, { maxAttempts: 1 });
    await Promise.allSettled([echo.result(), nothing.result(), broken.result()]);
    await place.restart();
    const after = await place.connect();
    expect(await after.task(echo.id).result()).toEqual({ nested: ['ü', null] });
    expect(await after.task(nothing.id).result()).toBeUndefined();
    expect((await failure(after.task(broken.id).result())).cause).toMatchObject({
      name: 'RangeError',
      message: 'out of it',
    });
  },

  'tasks that waited run in their order after everything was closed and opened': async (place) => {
    // Somebody has it open all the time, so that this holds for memory too.
    const keeper = await place.connect();
    const before = await place.connect();
    for (let batch = 0; batch < 3; batch++) await before.enqueueMany('step', [`${batch}a`, `${batch}b`]);
    await before.enqueue('step', 'first', { priority: 9 });
    await before.close();
    const ran = new Arrivals<unknown>();
    const after = await place.connect();
    await after.work({ step: async (input) => ran.add(input) }, { concurrency: 1 });
    expect(await ran.count(7)).toEqual(['first', '0a', '0b', '1a', '1b', '2a', '2b']);
    await keeper.close();
  },

  'a task that waits for its time still does after everything was closed and opened': async (place) => {
    const before = await place.connect();
    const calledMs = Date.now();
    await before.enqueue('later', 'delayed', { delayMs: 150 });
    await before.enqueue('later', 'appointed', { runAt: calledMs + 200 });
    await place.restart();
    const after = await place.connect();
    const ran = new Arrivals<[unknown, number]>();
    await after.work({ later: (input) => ran.add([input, Date.now()]) });
    const [[first, firstMs], [second, secondMs]] = await ran.count(2);
    expect([first, second]).toEqual(['delayed', 'appointed']);
    expect(firstMs - calledMs).toBeGreaterThanOrEqual(149);
    expect(secondMs - calledMs).toBeGreaterThanOrEqual(200);
  },

  'pauses, retention and totals are found again after everything was closed and opened': async (place) => {
    const before = await place.connect();
    await before.work({ fine: () => 1 });
    await (await before.enqueueMany('fine', [1, 2, 3])).results();
    await before.queue('default').pause();
    await before.queue('default').retention({ completedCountMax: 7, deadAgeMs: 12_345 });
    const { retention, totals } = await before.queue('default').status();
    await place.restart();
    const after = await place.connect();
    const ran = new Arrivals<unknown>();
    await after.work({ fine: (input) => ran.add(input) });
    await after.enqueue('fine', 'waits');
    const status = await after.queue('default').status();
    expect(status).toMatchObject({ paused: true, ready: 1, retention });
    expect(status.totals).toEqual({ ...totals, enqueued: 4 });
    expect(ran.all).toEqual([]);
    await after.queue('default').resume();
    await ran.count(1);
  },

  'a task that ran when everything was closed runs again uncharged': async (place) => {
    const before = await place.connect();
    const started = new Deferred();
    await before.work({
      endless: () => {
        started.resolve();
        return new Promise(() => {});
      },
    });
    const task = await before.enqueue('endless', null, { maxAttempts: 1 });
    await started.promise;
    await place.restart();
    const after = await place.connect();
    await after.work({ endless: (_, { attempt }) => attempt });
    expect(await after.task(task.id).result()).toBe(1);
  },

  'failed attempts count on after everything was closed and opened': async (place) => {
    const before = await place.connect();
    const failing = defineTask('failing', { maxAttempts: 2, backoff: { type: 'fixed', delayMs: HOUR } });
    await before.work([failing.handle(() => Promise.reject(new Error('first')))]);
    const task = await before.enqueue(failing, null);
    await until(
      () => task.info(),
      ({ state }) => state === 'scheduled',
    );
    await place.restart();
    const after = await place.connect();
    await after.work([failing.handle((_, { attempt }) => Promise.reject(new Error(`attempt ${attempt}`)))]);
    await after.tasks.retry(task.id);
    await failure(after.task(task.id).result());
    const { failures } = await after.tasks.get(task.id);
    expect(failures.map(({ error }) => error.message)).toEqual(['first', 'attempt 2']);
  },

  'ids never repeat, however often everything is closed and opened': async (place) => {
    const ids: string[] = [];
    for (let round = 0; round < 4; round++) {
      const client = await place.connect();
      const batches = [await client.enqueueMany('any', [1, 2, 3]), await client.enqueueMany('any', [4])];
      for (const batch of batches) ids.push(...batch.ids);
      await client.queue('default').purge();
      await place.restart();
    }
    expect(new Set(ids).size).toBe(16);
  },
};

function without(info: object): object {
  const { runAtMs, enqueuedAtMs, finishedAtMs, failures, ...rest } = info as Record<string, unknown>;
  return rest;
}
