import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { defineTask, FatalTaskError, MillraceError, RetryLater } from '../../src/index.ts';
import { type TestQueue, testQueue } from '../../src/testing/test-queue.ts';

let queue: TestQueue;

beforeEach(async () => {
  queue = await testQueue();
});

afterEach(() => queue.close());

const FIXED = { type: 'fixed', delayMs: 10_000, jitter: false } as const;

/** What a handler waits for that the clock knows nothing of, longer than the queue looks for it with haste. */
async function outside(): Promise<void> {
  for (let turns = 0; turns < 200; turns++) await turn();
}

async function rejection(promise: Promise<unknown>): Promise<MillraceError> {
  const error = await promise.then(
    () => new Error('did not reject'),
    (reason: unknown) => reason,
  );
  if (error instanceof MillraceError) return error;
  throw error;
}

describe('drain', () => {
  test('runs everything that is due, with what that enqueues, and nothing that is not', async () => {
    const ran: unknown[] = [];
    const { client } = queue;
    await client.work({
      first: async (input) => {
        await outside();
        ran.push(input);
        await client.enqueue('second', 'from the first');
      },
      second: (input) => {
        ran.push(input);
      },
    });
    await client.enqueue('first', 'now');
    await client.enqueue('second', 'later', { delayMs: 60_000 });
    expect(await queue.drain()).toMatchObject({ completed: 2, failed: 0, dead: 0, ready: 0 });
    expect(ran).toEqual(['now', 'from the first']);
  });

  test('rejects with what the handler threw, also when another attempt follows', async () => {
    const thrown = new TypeError('no such address');
    await queue.client.work({
      mail: () => {
        throw thrown;
      },
    });
    const task = await queue.client.enqueue('mail');
    const error = await rejection(queue.drain());
    expect(error.code).toBe('HANDLER_FAILED');
    expect(error.cause).toBe(thrown);
    expect(error.message).toContain(`mail, task ${task.id}, attempt 1 of 3: TypeError: no such address at `);
    expect(error.message).toContain('test-queue.test.ts');
    expect(error.details.failures).toMatchObject([{ id: task.id, attempt: 1, dead: false, error: thrown }]);
    expect(await queue.drain()).toMatchObject({ completed: 0, failed: 0 });
  });

  test('names every attempt that failed, up to ten, and says which tasks are dead', async () => {
    await queue.client.work({
      bad: () => {
        throw new FatalTaskError('never');
      },
    });
    await queue.client.enqueueMany('bad', Array(12).fill(0));
    const { message } = await rejection(queue.drain());
    expect(message).toMatch(/^12 attempts failed:\n/);
    expect(message.match(/now dead: FatalTaskError: never/g)).toHaveLength(10);
    expect(message).toContain('and 2 more');
  });

  test('reports failures that are allowed, with the names that no handler has and the payloads that were refused', async () => {
    const sum = defineTask<number[], number>('sum');
    await queue.client.work([sum.handle((numbers) => numbers.length)]);
    await queue.client.enqueue('unknown', null, { maxAttempts: 1 });
    const report = await queue.drain({ allowFailures: true });
    expect(report).toMatchObject({ completed: 0, failed: 1, dead: 1 });
    expect(report.failures[0]?.error).toMatchObject({ code: 'NO_HANDLER' });
  });

  test('says how many tasks are ready that nobody takes, but not of paused queues', async () => {
    await queue.client.enqueueMany('orphan', [1, 2]);
    await queue.client.enqueue('waits', null, { queue: 'paused' });
    await queue.client.queue('paused').pause();
    expect(await queue.drain()).toMatchObject({ completed: 0, ready: 2 });
  });

  test('says how many tasks are ready that the rate of their queue holds up', async () => {
    await queue.client.queue('paced').limit({ rate: { count: 1, periodMs: 60_000 } });
    await queue.client.work({ step: () => {} }, { queues: ['paced'] });
    await queue.client.enqueueMany('step', [1, 2, 3], { queue: 'paced' });
    expect(await queue.drain()).toMatchObject({ completed: 1, ready: 2 });
    expect(await queue.advance('2m')).toMatchObject({ completed: 2 });
    expect(await queue.drain()).toMatchObject({ ready: 0 });
  });

  test('counts batch handlers by their tasks', async () => {
    await queue.client.work([
      defineTask<number>('many').handleBatch((batch) => {
        batch.fail(1, new Error('the second'));
      }),
    ]);
    await queue.client.enqueueMany('many', [1, 2, 3], { maxAttempts: 1 });
    expect(await queue.drain({ allowFailures: true })).toMatchObject({ completed: 2, failed: 1, dead: 1 });
  });

  test('calls the hooks of a worker as ever', async () => {
    const onComplete = vi.fn();
    await queue.client.work({ a: () => 'result' }, { hooks: { onComplete } });
    await queue.client.enqueue('a');
    expect(await queue.drain()).toMatchObject({ completed: 1 });
    expect(onComplete).toHaveBeenCalledWith(expect.objectContaining({ name: 'a' }), 'result');
  });

  test('rejects naming the handlers that still run after waitMs', async () => {
    const impatient = await testQueue({ waitMs: 30 });
    await impatient.client.work({ hangs: () => new Promise(() => {}) });
    const task = await impatient.client.enqueue('hangs');
    const error = await rejection(impatient.drain());
    expect(error.code).toBe('TIMEOUT');
    expect(error.message).toContain(
      `after 30 ms of real time, or more, these handlers have not ended: "hangs" (task ${task.id}`,
    );
    expect(error.message).toContain('queue.sleep');
    await impatient.close();
  });

  test('rejects when tasks come without end', async () => {
    const impatient = await testQueue({ waitMs: 30 });
    const { client } = impatient;
    await client.work({ again: () => void client.enqueue('again') });
    await client.enqueue('again');
    expect((await rejection(impatient.drain())).message).toContain('tasks still come');
    await impatient.close();
  });
});

describe('advance', () => {
  test('fires what is due in its order, at its time, and stops where it was told', async () => {
    const startMs = queue.now().getTime();
    const ran: [unknown, number][] = [];
    await queue.client.work({
      timed: async (input) => {
        await outside();
        ran.push([input, queue.now().getTime() - startMs]);
      },
    });
    await queue.client.enqueue('timed', 'third', { delayMs: 3_600_000 });
    await queue.client.enqueue('timed', 'second', { runAt: startMs + 90_000 });
    await queue.client.enqueue('timed', 'first', { delayMs: 60_000 });
    expect(await queue.advance('59s')).toMatchObject({ completed: 0 });
    expect(await queue.advance(1000)).toMatchObject({ completed: 1 });
    expect(await queue.advance('1h')).toMatchObject({ completed: 2 });
    expect(ran).toEqual([
      ['first', 60_000],
      ['second', 90_000],
      ['third', 3_600_000],
    ]);
    expect(queue.now().getTime()).toBe(startMs + 3_660_000);
  });

  test('runs retries after their backoff, and reports the attempts that failed', async () => {
    await queue.client.work({
      flaky: (_input, ctx) => {
        if (ctx.attempt === 1) throw new Error('once');
        if (ctx.attempt === 2) throw new RetryLater(600_000);
        return 'at last';
      },
    });
    const task = await queue.client.enqueue('flaky', null, { backoff: FIXED });
    expect(await queue.advance(0)).toMatchObject({ completed: 0, failed: 1 });
    expect(await queue.advance(9_999)).toMatchObject({ completed: 0, failed: 0 });
    expect(await queue.advance(1)).toMatchObject({ failed: 1, failures: [{ attempt: 2, dead: false }] });
    expect(await queue.advance('10m')).toMatchObject({ completed: 1, failed: 0 });
    expect(await task.result()).toBe('at last');
  });

  test('times out a handler that takes longer on the clock, and aborts its signal', async () => {
    const reasons: unknown[] = [];
    await queue.client.work({
      slow: async (_input, ctx) => {
        ctx.signal.addEventListener('abort', () => reasons.push((ctx.signal.reason as MillraceError).code));
        await queue.sleep('2h', ctx);
      },
    });
    const task = await queue.client.enqueue('slow', null, { timeoutMs: 60_000, maxAttempts: 1 });
    expect(await queue.drain()).toMatchObject({ completed: 0 });
    expect(await queue.advance('59s')).toMatchObject({ failed: 0 });
    expect(await queue.advance('1s')).toMatchObject({ failed: 1, dead: 1 });
    expect(reasons).toEqual(['TASK_TIMEOUT']);
    expect((await task.info()).state).toBe('dead');
  });

  test('ends the work of handlers that wait for the clock', async () => {
    const { client } = queue;
    await client.work({ slow: (_input, ctx) => queue.sleep('5m', ctx) });
    await client.enqueueMany('slow', [1, 2, 3]);
    expect(await queue.advance('4m')).toMatchObject({ completed: 0 });
    expect(client.workers[0]?.attempts()).toMatchObject([{ name: 'slow' }, { name: 'slow' }, { name: 'slow' }]);
    expect(await queue.advance('1m')).toMatchObject({ completed: 3 });
    expect(client.workers[0]?.attempts()).toEqual([]);
  });

  test('times out a handler that never ends, once it was waited for', async () => {
    const impatient = await testQueue({ waitMs: 30 });
    await impatient.client.work({ hangs: () => new Promise(() => {}), other: () => 1 });
    await impatient.client.enqueue('hangs', null, { timeoutMs: 60_000, maxAttempts: 1 });
    await impatient.client.enqueue('other', null, { delayMs: 30_000 });
    expect(await impatient.advance('1m')).toMatchObject({ completed: 1, failed: 1, dead: 1 });
    await impatient.close();
  });

  test('rejects naming a handler that runs on, when its time is not yet over, and leaves the clock there', async () => {
    const impatient = await testQueue({ waitMs: 30 });
    await impatient.client.work({ hangs: () => new Promise(() => {}) });
    const startMs = impatient.now().getTime();
    await impatient.client.enqueue('hangs', null, { delayMs: 20_000 });
    const error = await rejection(impatient.advance('1m'));
    expect(error).toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('"hangs"') });
    expect(impatient.now().getTime()).toBe(startMs + 20_000);
    await impatient.close();
  });

  test('is the same in every run, jitter too', async () => {
    const times = async (): Promise<number[]> => {
      const one = await testQueue();
      const startMs = one.now().getTime();
      const at: number[] = [];
      await one.client.work({
        jittery: () => {
          at.push(one.now().getTime() - startMs);
          throw new Error('again');
        },
      });
      await one.client.enqueue('jittery', null, { maxAttempts: 5 });
      await one.advance('1h');
      await one.close();
      return at;
    };
    const first = await times();
    expect(first).toHaveLength(5);
    expect(await times()).toEqual(first);
  });

  test('refuses what is no duration, and two at the same time', async () => {
    for (const wrong of ['1 hour', 'h', -1, Number.NaN, null, '400d']) {
      expect((await rejection(queue.advance(wrong as number))).code).toBe('INVALID_ARGUMENT');
    }
    const first = queue.advance('1s');
    expect((await rejection(queue.drain())).message).toContain('await one after the other');
    await first;
  });
});

describe('a test queue', () => {
  test('begins at the beginning of 2026, or when it is told', async () => {
    expect(queue.now()).toEqual(new Date('2026-01-01T00:00:00Z'));
    const startAt = new Date('2030-05-06T07:08:09Z');
    const other = await testQueue({ startAt });
    expect(other.now()).toEqual(startAt);
    await other.close();
    await expect(testQueue({ startAt: new Date('x') })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(testQueue({ startsAt: 1 } as object)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(testQueue({ waitMs: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('works while the timers of the process are fake ones', async () => {
    vi.useFakeTimers();
    try {
      const other = await testQueue();
      await other.client.work({ a: async () => 1 });
      await other.client.enqueue('a', null, { delayMs: 1000 });
      expect(await other.advance('1s')).toMatchObject({ completed: 1 });
      await other.close();
    } finally {
      vi.useRealTimers();
    }
  });

  test('closes although handlers hang or sleep, and aborts them', async () => {
    const other = await testQueue({ waitMs: 30 });
    const aborted: string[] = [];
    await other.client.work({
      sleeps: (_input, ctx) => other.sleep('1d', ctx).catch(() => void aborted.push('sleeps')),
      hangs: (_input, ctx) => {
        ctx.signal.addEventListener('abort', () => aborted.push('hangs'));
        return new Promise(() => {});
      },
    });
    await other.client.enqueue('hangs');
    await other.client.enqueue('sleeps');
    await other.advance(0).catch(() => {});
    await other.close();
    expect(aborted.sort()).toEqual(['hangs', 'sleeps']);
    expect((await rejection(other.drain())).code).toBe('CLOSED');
  });
});
