import { expect } from 'vitest';
import { type Batch, defineTask, FatalTaskError } from '../../src/index.ts';
import { Arrivals, Deferred, failure } from './events.ts';
import type { Behaviours } from './place.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

export const batches: Behaviours = {
  'a batch handler gets tasks together and gives each its result': async (place) => {
    const client = await place.connect();
    const sizes = new Arrivals<number>();
    const double = defineTask<number, number>('double');
    const tasks = await client.enqueueMany(double, [1, 2, 3, 4, 5, 6, 7]);
    await client.work([
      double.handleBatch(
        async (batch) => {
          sizes.add(batch.length);
          return batch.inputs.map((input) => input * 2);
        },
        { batchSize: 5 },
      ),
    ]);
    expect(await tasks.results()).toEqual([2, 4, 6, 8, 10, 12, 14]);
    expect(Math.max(...sizes.all)).toBe(5);
    expect(sizes.all.reduce((sum, size) => sum + size, 0)).toBe(7);
  },

  'a batch handler that returns nothing completes all its tasks': async (place) => {
    const client = await place.connect();
    const sum = defineTask<number>('sum');
    let total = 0;
    await client.work([
      sum.handleBatch((batch) => {
        for (const input of batch) total += input;
      }),
    ]);
    const tasks = await client.enqueueMany(
      sum,
      Array.from({ length: 5000 }, (_, i) => i),
    );
    expect(await tasks.results()).toEqual(new Array(5000).fill(undefined));
    expect(total).toBe((5000 * 4999) / 2);
  },

  'a batch handler can fail some of its tasks': async (place) => {
    const client = await place.connect();
    const pick = defineTask<number, string>('pick', { maxAttempts: 2, backoff: AT_ONCE });
    await client.work([
      pick.handleBatch(async (batch) => {
        for (const [index, input] of batch.inputs.entries()) {
          if (input === 1 && batch.attempt === 1) batch.fail(index, new Error('once'));
          if (input === 2) batch.fail(index, new FatalTaskError('never'));
        }
        return batch.inputs.map((input) => `${input} in attempt ${batch.attempt}`);
      }),
    ]);
    const tasks = [...(await client.enqueueMany(pick, [0, 1, 2, 3]))];
    expect(await tasks[0].result()).toBe('0 in attempt 1');
    expect(await tasks[1].result()).toBe('1 in attempt 2');
    expect(await tasks[3].result()).toBe('3 in attempt 1');
    expect((await failure(tasks[2].result())).message).toContain('never');
    expect(await tasks[2].info()).toMatchObject({ state: 'dead', attempt: 1 });
  },

  'what a batch handler throws fails every task that it had not failed itself': async (place) => {
    const client = await place.connect();
    const broken = defineTask<number>('broken', { maxAttempts: 1 });
    await client.work([
      broken.handleBatch(async (batch) => {
        batch.fail(0, new Error('its own reason'));
        throw new Error('the whole batch');
      }),
    ]);
    const tasks = [...(await client.enqueueMany(broken, [0, 1, 2]))];
    const errors = await Promise.all(tasks.map((task) => failure(task.result())));
    expect(errors.map((error) => (error.cause as Error).message)).toEqual([
      'its own reason',
      'the whole batch',
      'the whole batch',
    ]);
  },

  'a batch handler that returns too few results fails its tasks with that': async (place) => {
    const client = await place.connect();
    const short = defineTask<number>('short', { maxAttempts: 1 });
    await client.work([short.handleBatch(async () => [1])]);
    const tasks = await client.enqueueMany(short, [1, 2, 3]);
    for (const task of tasks) {
      const error = await failure(task.result());
      expect(error.message).toContain('3 tasks');
    }
  },

  'a payload that is not JSON ends its own task only': async (place) => {
    const client = await place.connect();
    const read = defineTask<unknown, unknown>('read', { backoff: AT_ONCE });
    const bytes = defineTask('read', { payload: 'bytes', maxAttempts: 3 });
    const tasks = [...(await client.enqueueMany(bytes, [Buffer.from('1'), Buffer.from('{"broken'), Buffer.from('3')]))];
    await client.work([read.handleBatch((batch) => batch.inputs.map((input) => input))]);
    const json = client.task(tasks[0].id);
    expect(await json.result()).toBe(1);
    expect(await client.task(tasks[2].id).result()).toBe(3);
    const error = await failure(tasks[1].result());
    expect(error.cause).toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect(await tasks[1].info()).toMatchObject({ state: 'dead', attempt: 1 });
  },

  'a batch knows its tasks': async (place) => {
    const client = await place.connect();
    const seen = new Arrivals<Record<string, unknown>>();
    const look = defineTask<string>('look', { queue: 'there', maxAttempts: 4 });
    const tasks = await client.enqueueMany(look, ['ä', 'b']);
    await client.work([
      look.handleBatch((batch: Batch<string>) => {
        const { name, queue, attempt, maxAttempts, length } = batch;
        seen.add({
          ...{ name, queue, attempt, maxAttempts, length },
          ids: [batch.id(0), batch.id(1)],
          bytes: Buffer.from(batch.bytes(0)).toString(),
          last: batch.input(1),
          iterated: [...batch],
          aborted: batch.signal.aborted,
        });
        for (const index of [-1, 2, 0.5]) expect(() => batch.id(index)).toThrow(/counted from 0/);
      }),
    ]);
    await tasks.results();
    expect(seen.all).toEqual([
      {
        ...{ name: 'look', queue: 'there', attempt: 1, maxAttempts: 4, length: 2 },
        ids: [...tasks.ids],
        bytes: '"ä"',
        last: 'b',
        iterated: ['ä', 'b'],
        aborted: false,
      },
    ]);
  },

  'a batch that runs past the timeout of its tasks is aborted and they are tried again': async (place) => {
    const client = await place.connect();
    const slow = defineTask<number, number>('slow', { timeoutMs: 30, maxAttempts: 2, backoff: AT_ONCE });
    await client.work([
      slow.handleBatch(async (batch) => {
        if (batch.attempt === 1) await new Promise((resolve) => batch.signal.addEventListener('abort', resolve));
        return batch.inputs.map(() => batch.attempt);
      }),
    ]);
    const tasks = await client.enqueueMany(slow, [1, 2, 3]);
    expect(await tasks.results()).toEqual([2, 2, 2]);
  },

  'batch handlers and others share the concurrency of a worker': async (place) => {
    const client = await place.connect();
    const running = new Arrivals<string>();
    const go = new Deferred();
    let now = 0;
    let most = 0;
    const enter = async (count: number): Promise<void> => {
      now += count;
      most = Math.max(most, now);
      running.add('started');
      await go.promise;
      now -= count;
    };
    const batch = defineTask('batch');
    const single = defineTask('single');
    await client.work(
      [batch.handleBatch(({ length }) => enter(length), { batchSize: 3 }), single.handle(() => enter(1))],
      { concurrency: 4, prefetch: 20 },
    );
    const all = [
      await client.enqueueMany('batch', [1, 2, 3, 4, 5, 6]),
      await client.enqueueMany('single', [1, 2, 3, 4]),
    ];
    await running.count(1);
    go.resolve();
    await Promise.all(all.map((tasks) => tasks.results()));
    expect(most).toBeLessThanOrEqual(4);
  },
};
