import { expect } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { Arrivals, Deferred, failure, HeldHandler, until } from './events.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;

export const cancelling: Behaviours = {
  'a task that waits is cancelled at once and never runs': async (place) => {
    const client = await place.connect();
    const tasks = [...(await client.enqueueMany<string>('wait', ['a', 'b', 'c']))];
    expect(await tasks[1].cancel()).toBe('cancelled');
    expect(await tasks[1].info()).toMatchObject({ state: 'cancelled', attempt: 0 });
    const ran = new Arrivals<unknown>();
    await client.work({ wait: (input) => ran.add(input) });
    await Promise.all([tasks[0].result(), tasks[2].result()]);
    expect(ran.all).toEqual(['a', 'c']);
    expect((await failure(tasks[1].result())).code).toBe('TASK_CANCELLED');
  },

  'a scheduled task is cancelled at once': async (place) => {
    const client = await place.connect();
    const tasks = [
      await client.enqueue('later', null, { delayMs: HOUR }),
      await client.enqueue('later', null, { runAt: Date.now() + HOUR }),
    ];
    for (const task of tasks) {
      expect(await task.cancel()).toBe('cancelled');
      expect(await task.info()).toMatchObject({ state: 'cancelled' });
    }
    expect(await client.queue('default').status()).toMatchObject({ scheduled: 0, cancelled: 2 });
  },

  'a task that pauses between two attempts is cancelled at once': async (place) => {
    const client = await place.connect();
    const failing = defineTask('failing', { backoff: { delayMs: HOUR } });
    await client.work([failing.handle(() => Promise.reject(new Error('again')))]);
    const task = await client.enqueue(failing, null);
    await until(
      () => task.info(),
      ({ state }) => state === 'scheduled',
    );
    expect(await task.cancel()).toBe('cancelled');
    expect(await task.info()).toMatchObject({ state: 'cancelled', failures: [{ attempt: 1 }] });
  },

  'the handler of a running task is told, and the task is cancelled when it gives up': async (place) => {
    const client = await place.connect();
    const started = new Deferred<AbortSignal>();
    await client.work({
      long: (_, { signal }) => {
        started.resolve(signal);
        return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    });
    const task = await client.enqueue('long', null);
    const signal = await started.promise;
    const waiting = failure(task.result());
    expect(await task.cancel()).toBe('requested');
    expect((await waiting).code).toBe('TASK_CANCELLED');
    expect(signal.reason).toMatchObject({ code: 'TASK_CANCELLED' });
    expect(await task.info()).toMatchObject({ state: 'cancelled', attempt: 1 });
    expect(await client.queue('default').status()).toMatchObject({ active: 0, cancelled: 1 });
  },

  'a running task whose handler finishes nevertheless is completed': async (place) => {
    const client = await place.connect();
    const long = new HeldHandler(() => 'done all the same');
    await client.work({ long: long.run });
    const task = await client.enqueue('long', null);
    await long.started.promise;
    expect(await task.cancel()).toBe('requested');
    expect(await task.cancel()).toBe('requested');
    expect(await task.info()).toMatchObject({ state: 'active', cancelRequested: true });
    long.go.resolve();
    expect(await task.result()).toBe('done all the same');
  },

  'a task that a worker holds and has not started is cancelled and never runs': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    const ran = new Arrivals<unknown>();
    await client.work(
      {
        step: async (input) => {
          ran.add(input);
          await go.promise;
        },
      },
      { concurrency: 1, prefetch: 3 },
    );
    const tasks = [...(await client.enqueueMany('step', ['a', 'b', 'c']))];
    await ran.count(1);
    const waiting = failure(tasks[1].result());
    await tasks[1].cancel();
    expect((await waiting).code).toBe('TASK_CANCELLED');
    go.resolve();
    await tasks[2].result();
    expect(ran.all).toEqual(['a', 'c']);
    expect(await tasks[1].info()).toMatchObject({ state: 'cancelled', attempt: 0 });
  },

  'a task that was cancelled while it failed is not tried again': async (place) => {
    const client = await place.connect();
    const long = new HeldHandler(() => {
      throw new Error('failed on its own');
    });
    await client.work({ long: long.run });
    const task = await client.enqueue('long', null, { maxAttempts: 5 });
    await long.started.promise;
    await task.cancel();
    long.go.resolve();
    expect((await failure(task.result())).code).toBe('TASK_CANCELLED');
  },

  'a task that has ended cannot be cancelled': async (place) => {
    const client = await place.connect();
    await client.work({
      fine: () => 1,
      broken: () => Promise.reject(new Error('no')),
    });
    const completed = await client.enqueue('fine', null);
    const dead = await client.enqueue('broken', null, { maxAttempts: 1 });
    const cancelled = await client.enqueue('fine', null, { delayMs: HOUR });
    await cancelled.cancel();
    await completed.result();
    await failure(dead.result());
    for (const [task, state] of [
      [completed, 'completed'],
      [dead, 'dead'],
      [cancelled, 'cancelled'],
    ] as const) {
      const error = await failure(task.cancel());
      expect(error.code).toBe('CONFLICT');
      expect(error.message).toContain(state);
    }
  },
};
