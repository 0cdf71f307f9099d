import { expect } from 'vitest';
import { type Client, defineTask, FatalTaskError, RetryLater, type TaskContext } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

export const attempts: Behaviours = {
  'a task that fails runs again with its attempt counted until it succeeds': async (place) => {
    const client = await place.connect();
    const seen = new Arrivals<[number, number]>();
    const flaky = defineTask('flaky', { maxAttempts: 5, backoff: AT_ONCE });
    await client.work([
      flaky.handle(async (_, { attempt, maxAttempts }) => {
        seen.add([attempt, maxAttempts]);
        if (attempt < 3) throw new Error(`attempt ${attempt} failed`);
        return attempt;
      }),
    ]);
    const task = await client.enqueue(flaky, null);
    expect(await task.result()).toBe(3);
    expect(seen.all).toEqual([1, 2, 3].map((attempt) => [attempt, 5]));
    const info = await client.tasks.get(task.id);
    expect(info).toMatchObject({ state: 'completed', attempt: 3, result: { encoding: 'utf8', data: '3' } });
    expect(info.failures.map((failed) => [failed.attempt, failed.error.message])).toEqual([
      [1, 'attempt 1 failed'],
      [2, 'attempt 2 failed'],
    ]);
  },

  'a task that has used its attempts is dead and keeps its errors': async (place) => {
    const client = await place.connect();
    class OddError extends Error {
      override readonly name = 'OddError';
    }
    await client.work([
      defineTask('hopeless').handle(async (_, { attempt }) => {
        throw new OddError(`no ${attempt}`, { cause: new Error('what was behind it') });
      }),
    ]);
    const task = await client.enqueue('hopeless', null, { maxAttempts: 2, backoff: AT_ONCE });
    await failure(task.result());
    const info = await client.tasks.get(task.id);
    expect(info).toMatchObject({ state: 'dead', attempt: 2, maxAttempts: 2 });
    expect(info.finishedAtMs).toBeGreaterThanOrEqual(info.enqueuedAtMs);
    expect(info.failures.map((failed) => failed.error)).toMatchObject([
      { name: 'OddError', message: 'no 1', code: 'HANDLER_FAILED' },
      { name: 'OddError', message: 'no 2', code: 'HANDLER_FAILED' },
    ]);
    expect(info.failures[1].error.stack).toContain('attempts.ts');
    expect(info.failures[1].error.stack).toContain('what was behind it');
  },

  'a task with one attempt is dead after it': async (place) => {
    const client = await place.connect();
    const seen = new Arrivals<number>();
    await client.work([
      defineTask('once').handle((_, { attempt }) => {
        seen.add(attempt);
        throw new Error('no');
      }),
    ]);
    const task = await client.enqueue('once', null, { maxAttempts: 1, backoff: AT_ONCE });
    await failure(task.result());
    expect(seen.all).toEqual([1]);
  },

  'the last errors of many attempts are kept': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('stubborn').handle(async (_, { attempt }) => {
        throw new Error(String(attempt));
      }),
    ]);
    const count = LIMITS.attemptsKeptMax + 3;
    const task = await client.enqueue('stubborn', null, { maxAttempts: count, backoff: AT_ONCE });
    await failure(task.result());
    const info = await client.tasks.get(task.id);
    expect(info.attempt).toBe(count);
    expect(info.failures.map((failed) => failed.attempt)).toEqual(
      Array.from({ length: LIMITS.attemptsKeptMax }, (_, i) => i + 4),
    );
    expect(info.failures.map((failed) => failed.error.message)).toEqual(
      info.failures.map((failed) => String(failed.attempt)),
    );
  },

  'a fixed backoff is the same each time, an exponential one doubles up to its bound': async (place) => {
    const client = await place.connect();
    const failing = defineTask('failing', { maxAttempts: 10 });
    await client.work([failing.handle(() => Promise.reject(new Error('again')))]);
    const pauses = async (backoff: { type: 'fixed' | 'exponential'; maxDelayMs?: number }): Promise<number[]> => {
      const task = await client.enqueue(failing, null, { backoff: { delayMs: HOUR, jitter: false, ...backoff } });
      const all: number[] = [];
      for (let attempt = 1; attempt <= 5; attempt++) {
        all.push(await pauseAfter(client, task.id, attempt));
        await client.tasks.retry(task.id);
      }
      return all;
    };
    expect(await pauses({ type: 'fixed' })).toEqual([HOUR, HOUR, HOUR, HOUR, HOUR]);
    expect(await pauses({ type: 'exponential', maxDelayMs: 5 * HOUR })).toEqual(
      [1, 2, 4, 5, 5].map((hours) => hours * HOUR),
    );
  },

  'jitter draws each pause from the upper half of what it would be': async (place) => {
    const client = await place.connect();
    const failing = defineTask('failing', { backoff: { type: 'fixed', delayMs: HOUR, jitter: true } });
    await client.work([failing.handle(() => Promise.reject(new Error('again')))]);
    const tasks = await client.enqueueMany(failing, new Array(40).fill(null));
    const pauses = await Promise.all([...tasks.ids].map((id) => pauseAfter(client, id, 1)));
    for (const pauseMs of pauses) {
      expect(pauseMs).toBeGreaterThanOrEqual(HOUR / 2 - 1);
      expect(pauseMs).toBeLessThanOrEqual(HOUR + 1);
    }
    expect(new Set(pauses).size).toBeGreaterThan(20);
    expect(Math.max(...pauses) - Math.min(...pauses)).toBeGreaterThan(HOUR / 8);
  },

  'an attempt after a backoff starts no sooner than it says': async (place) => {
    const client = await place.connect();
    const startedMs = new Arrivals<number>();
    const failing = defineTask('failing', {
      maxAttempts: 3,
      backoff: { type: 'exponential', delayMs: 30, jitter: false },
    });
    await client.work([
      failing.handle(() => {
        startedMs.add(performance.now());
        throw new Error('again');
      }),
    ]);
    const task = await client.enqueue(failing, null);
    await failure(task.result());
    const [first, second, third] = startedMs.all;
    expect(second - first).toBeGreaterThanOrEqual(30);
    expect(third - second).toBeGreaterThanOrEqual(60);
  },

  'a final error makes the task dead at once': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('final').handle(() => {
        throw new FatalTaskError('there is no such image', { cause: new Error('404') });
      }),
    ]);
    const task = await client.enqueue('final', null, { maxAttempts: 9 });
    const error = await failure(task.result());
    expect(error.code).toBe('TASK_DEAD');
    expect(error.message).toContain('there is no such image');
    expect(await client.tasks.get(task.id)).toMatchObject({ state: 'dead', attempt: 1 });
  },

  'RetryLater sets the pause before the next attempt, which counts': async (place) => {
    const client = await place.connect();
    const polite = defineTask('polite', { maxAttempts: 3, backoff: AT_ONCE });
    await client.work([
      polite.handle(async (_, { attempt }) => {
        if (attempt === 1) throw new RetryLater(2 * HOUR, 'the other side asks for patience');
        return attempt;
      }),
    ]);
    const task = await client.enqueue(polite, null);
    expect(await pauseAfter(client, task.id, 1)).toBe(2 * HOUR);
    expect((await client.tasks.get(task.id)).failures[0].error.message).toBe('the other side asks for patience');
    await client.tasks.retry(task.id);
    expect(await task.result()).toBe(2);
  },

  'RetryLater on the last attempt makes the task dead': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('polite').handle(() => {
        throw new RetryLater(0);
      }),
    ]);
    const task = await client.enqueue('polite', null, { maxAttempts: 2 });
    expect((await failure(task.result())).code).toBe('TASK_DEAD');
    expect((await client.tasks.get(task.id)).attempt).toBe(2);
  },

  'whatever a handler throws fails its attempt with something readable': async (place) => {
    const client = await place.connect();
    const hostile = {
      get message(): string {
        throw new Error('not even that');
      },
    };
    const thrown: unknown[] = [
      'a text',
      undefined,
      null,
      0,
      12n,
      Symbol('mark'),
      { message: 'an object with a message' },
      { status: 500 },
      Object.create(null),
      hostile,
      Object.assign(new Error('with odd parts'), { name: 5, stack: 7, cause: 1n }),
      new Error('x'.repeat(200_000)),
      new Error('\ud800日本語'.repeat(20_000)),
    ];
    const throwing = defineTask<number>('throwing', { maxAttempts: 1 });
    await client.work([
      throwing.handle((index) => {
        throw thrown[index];
      }),
    ]);
    const tasks = await Promise.all(thrown.map((_, index) => client.enqueue(throwing, index)));
    for (const task of tasks) {
      const error = await failure(task.result());
      expect(error.code).toBe('TASK_DEAD');
      const { failures } = await client.tasks.get(task.id);
      expect(failures[0].error).toMatchObject({ code: 'HANDLER_FAILED', name: expect.any(String) });
      expect(failures[0].error.message.length).toBeGreaterThan(0);
    }
    const messageOf = async (index: number): Promise<string> =>
      (await client.tasks.get(tasks[index].id)).failures[0].error.message;
    expect(await messageOf(0)).toBe('a text');
    expect(await messageOf(6)).toBe('an object with a message');
    expect(await messageOf(7)).toContain('500');
    expect(await messageOf(11)).toMatch(/^x{1000}/);
  },

  'a task whose name the worker does not know fails with NO_HANDLER, and the worker goes on': async (place) => {
    const client = await place.connect();
    await client.work([defineTask('known').handle(() => 'done')]);
    const unknown = await client.enqueue('unknown', null, { maxAttempts: 2, backoff: AT_ONCE });
    const known = await client.enqueue('known', null);
    const error = await failure(unknown.result());
    expect(error.code).toBe('TASK_DEAD');
    expect(error.cause).toMatchObject({ code: 'NO_HANDLER' });
    expect(await client.tasks.get(unknown.id)).toMatchObject({ state: 'dead', attempt: 2 });
    expect((await client.tasks.get(unknown.id)).failures[0].error.message).toContain('known');
    expect(await known.result()).toBe('done');
  },

  'an attempt that runs past its timeoutMs is aborted and counted, and the next one runs': async (place) => {
    const client = await place.connect();
    const aborted = new Arrivals<unknown>();
    const slow = defineTask('slow', { timeoutMs: 40, maxAttempts: 2, backoff: AT_ONCE });
    await client.work([
      slow.handle(async (_, { attempt, signal }) => {
        if (attempt === 2) return 'in time';
        await abortOf(signal);
        aborted.add(signal.reason);
        throw signal.reason;
      }),
    ]);
    const calledMs = performance.now();
    const task = await client.enqueue(slow, null);
    expect(await task.result()).toBe('in time');
    expect(performance.now() - calledMs).toBeGreaterThanOrEqual(40);
    expect(aborted.all).toMatchObject([{ code: 'TASK_TIMEOUT' }]);
    const { failures, attempt } = await client.tasks.get(task.id);
    expect(attempt).toBe(2);
    expect(failures).toMatchObject([{ attempt: 1, error: { code: 'TASK_TIMEOUT' } }]);
    expect(failures[0].error.message).toContain('40 ms');
  },

  'what a handler returns after its timeout is ignored, and its slot is free meanwhile': async (place) => {
    const client = await place.connect();
    const late = new Deferred<string>();
    const returned = new Deferred();
    const slow = defineTask<unknown, string>('slow', { timeoutMs: 20, maxAttempts: 2, backoff: AT_ONCE });
    await client.work(
      [
        slow.handle(async (_, { attempt }) => {
          if (attempt === 2) return 'second';
          const value = await late.promise;
          setImmediate(returned.resolve);
          return value;
        }),
      ],
      { concurrency: 1 },
    );
    const task = await client.enqueue(slow, null);
    expect(await task.result()).toBe('second');
    late.resolve('first');
    await returned.promise;
    expect(await client.tasks.get(task.id)).toMatchObject({
      state: 'completed',
      attempt: 2,
      result: { data: '"second"' },
    });
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 1, failed: 1 });
  },

  'a handler is told about its task': async (place) => {
    const client = await place.connect();
    const contexts = new Arrivals<TaskContext>();
    await client.work([defineTask('told', { queue: 'elsewhere' }).handle((_, context) => contexts.add(context))]);
    const before = Date.now();
    const task = await client.enqueue('told', null, { queue: 'elsewhere', maxAttempts: 4 });
    const [context] = await contexts.count(1);
    expect(context).toMatchObject({ id: task.id, name: 'told', queue: 'elsewhere', attempt: 1, maxAttempts: 4 });
    expect(context.enqueuedAt).toBeInstanceOf(Date);
    expect(context.enqueuedAt.getTime()).toBeGreaterThanOrEqual(before - 1);
    expect(context.signal.aborted).toBe(false);
  },
};

/** How long after its failed attempt the task is due again. */
async function pauseAfter({ tasks }: Client, id: string, attempt: number): Promise<number> {
  const info = await until(
    () => tasks.get(id),
    ({ state, failures }) => state === 'scheduled' && failures.length === attempt,
  );
  return (info.runAtMs ?? Number.NaN) - (info.failures.at(-1)?.atMs ?? Number.NaN);
}

function abortOf(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
