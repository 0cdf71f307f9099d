import { expect } from 'vitest';
import { type Client, defineTask, LIMITS } from '../../src/index.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import { pages } from './pages.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

/** Looking for tasks among many, and changing what was found. */
export const searching: Behaviours = {
  'the newest tasks come first when that is asked for, once each over the pages': async (place) => {
    const client = await place.connect();
    const ids: string[] = [];
    for (const queue of ['a', 'b', 'a']) {
      ids.push(...(await client.enqueueMany('x', [1, 2, 3, 4], { queue })).ids);
    }
    const newest = ids.toReversed();
    for (const limit of [1, 5, 12, 100]) {
      expect((await pages(client, { order: 'newest', limit })).map(({ id }) => id)).toEqual(newest);
    }
    expect((await pages(client, { order: 'newest', queue: 'b', limit: 3 })).map(({ id }) => id)).toEqual(
      newest.slice(4, 8),
    );
    expect((await client.tasks.list({ order: 'newest', limit: 12 })).next).toBeUndefined();
    expect((await pages(client, { order: 'newest', state: 'dead' })).length).toBe(0);
  },

  'tasks are found by text in their newest error, whatever its case': async (place) => {
    const client = await place.connect();
    const dead = await deadOf(client, [
      ['mail', new TypeError('Mailbox "a-1" is full (100%)')],
      ['mail', new Error('no route_to host')],
      ['sms', new RangeError('noXroute to host')],
    ]);
    await client.enqueue('waits', null, { queue: 'unattended' });
    const found = async (error: string, more: object = {}): Promise<string[]> =>
      (await pages(client, { error, ...more })).map(({ id }) => id);
    expect(await found('mailBOX "A-1"')).toEqual([dead[0]]);
    expect(await found('typeerror')).toEqual([dead[0]]);
    expect(await found('handler_failed')).toEqual(dead);
    expect(await found('HANDLER_FAILED', { order: 'newest', limit: 2 })).toEqual(dead.toReversed());
    expect(await found('route', { queue: 'sms' })).toEqual([dead[2]]);
    expect(await found('0%)')).toEqual([dead[0]]);
    // No pattern of any kind.
    expect(await found('no_route')).toEqual([]);
    expect(await found('no route_')).toEqual([dead[1]]);
    expect(await found('no%host')).toEqual([]);
    expect(await found('.*')).toEqual([]);
    expect(await found('route', { state: 'completed' })).toEqual([]);
    for (const error of ['', 'x'.repeat(LIMITS.errorTextCharactersMax + 1), 7 as unknown as string]) {
      expect((await failure(() => client.tasks.list({ error }))).code).toBe('INVALID_ARGUMENT');
    }
    expect(await found('x'.repeat(LIMITS.errorTextCharactersMax))).toEqual([]);
  },

  'queue and state of a task are told without the rest': async (place) => {
    const { client, broker } = await place.open();
    const work = defineTask<number, number>('work', { maxAttempts: 1 });
    const [good, bad] = [await client.enqueue(work, 1, { queue: 'a' }), await client.enqueue(work, 2, { queue: 'a' })];
    const later = await client.enqueue('x', null, { queue: 'b', delayMs: HOUR });
    expect(await broker.taskState(good.id)).toEqual({ queue: 'a', state: 'ready' });
    expect(await broker.taskState(later.id)).toEqual({ queue: 'b', state: 'scheduled' });
    const half = work.handle((input) => {
      if (input === 2) throw new Error('no');
      return input;
    });
    await client.work([half], { queues: ['a'] });
    await good.result();
    await failure(bad.result());
    await later.cancel();
    expect(await broker.taskState(good.id)).toEqual({ queue: 'a', state: 'completed' });
    expect(await broker.taskState(bad.id)).toEqual({ queue: 'a', state: 'dead' });
    expect(await broker.taskState(later.id)).toEqual({ queue: 'b', state: 'cancelled' });
    const unknown = `${good.id.slice(0, good.id.indexOf('-'))}-zzzz`;
    expect((await failure(broker.taskState(unknown))).code).toBe('NOT_FOUND');
  },

  'tasks are found by when they were enqueued': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('x', null);
    const { enqueuedAtMs } = await task.info();
    const found = async (fromMs?: number, toMs?: number): Promise<number> =>
      (await pages(client, { fromMs, toMs })).length;
    expect(await found(enqueuedAtMs - 1000, enqueuedAtMs + 1000)).toBe(1);
    expect(await found(0)).toBe(1);
    expect(await found(enqueuedAtMs + 1000)).toBe(0);
    expect(await found(undefined, enqueuedAtMs - 1000)).toBe(0);
    for (const filter of [{ fromMs: 5, toMs: 5 }, { fromMs: -1 }, { toMs: 0.5 }, { fromMs: Number.NaN }]) {
      expect((await failure(() => client.tasks.list(filter))).code).toBe('INVALID_ARGUMENT');
    }
  },

  'the tasks that a worker runs are found by its id, with when they began': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    const started = new Arrivals<string>();
    for (const name of ['one', 'two']) {
      await client.work(
        {
          [`of ${name}`]: async (_, { id }) => {
            started.add(id);
            await go.promise;
          },
        },
        { name, queues: [name], concurrency: 2, prefetch: 2 },
      );
    }
    const beforeMs = Date.now();
    const ofOne = await client.enqueueMany('of one', [1, 2], { queue: 'one' });
    const ofTwo = await client.enqueue('of two', null, { queue: 'two' });
    await started.count(3);
    const { workers } = await until(
      () => client.status(),
      (status) => status.workers.length === 2,
    );
    const [one, two] = ['one', 'two'].map((name) => workers.find((worker) => worker.name === name)?.id as string);
    const found = await pages(client, { worker: one, order: 'newest' });
    expect(found.map(({ id }) => id)).toEqual([...ofOne.ids].reverse());
    expect(await pages(client, { worker: one, state: 'ready' })).toEqual([]);
    expect(await pages(client, { worker: 'nobody' })).toEqual([]);
    const info = await until(
      () => client.tasks.get(ofTwo.id),
      ({ startedAtMs }) => startedAtMs !== undefined,
    );
    expect(info).toMatchObject({ state: 'active', worker: 'two', workerId: two });
    // Clocks of several processes, and of a database.
    expect(info.startedAtMs).toBeGreaterThan(beforeMs - 1000);
    expect(info.startedAtMs).toBeLessThan(Date.now() + 1000);
    go.resolve();
    await ofTwo.result();
    const ended = await ofTwo.info();
    expect(ended).not.toHaveProperty('startedAtMs');
    expect(ended).not.toHaveProperty('workerId');
  },

  'a failed attempt says who ran it, and since when': async (place) => {
    const client = await place.connect();
    const slow = defineTask('slow', { maxAttempts: 2, backoff: AT_ONCE, timeoutMs: 50 });
    await client.work(
      [
        slow.handle(async (_, { attempt, signal }) => {
          if (attempt === 1) throw new Error('at once');
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        }),
      ],
      { name: 'the slow one' },
    );
    const beforeMs = Date.now();
    const task = await client.enqueue(slow, null);
    await failure(task.result());
    const { failures } = await task.info();
    expect(failures).toMatchObject([
      { attempt: 1, worker: 'the slow one', error: { message: 'at once' } },
      { attempt: 2, worker: 'the slow one', error: { code: 'TASK_TIMEOUT' } },
    ]);
    const [first, second] = failures.map(({ startedAtMs = 0, atMs }) => [startedAtMs, atMs]) as [number, number][];
    expect(first?.[0]).toBeGreaterThan(beforeMs - 1000);
    expect(second?.[0]).toBeGreaterThanOrEqual(first?.[0] as number);
    expect((second?.[1] as number) - (second?.[0] as number)).toBeGreaterThan(40);
  },

  'status says of each worker which release it is of, and how long it has been silent': async (place) => {
    const client = await place.connect();
    await client.work({ x: () => 1 });
    const { server, workers } = await until(
      () => client.status(),
      (status) => status.workers.length === 1,
    );
    expect(workers[0]?.version).toMatch(/^\d+\.\d+\.\d+/);
    expect(server.version).toBeTypeOf('string');
    expect(workers[0]?.lastSeenMs).toBeGreaterThanOrEqual(0);
    expect(workers[0]?.lastSeenMs).toBeLessThan(60_000);
  },

  'many dead tasks are retried at once, those that the filter names': async (place) => {
    const client = await place.connect();
    const dead = await deadOf(client, [
      ['a', new Error('timeout of db 1')],
      ['a', new Error('bad input')],
      ['b', new Error('timeout of db 2')],
    ]);
    expect(await client.tasks.retryMany({ error: 'TIMEOUT OF' })).toBe(2);
    const state = async (id: string): Promise<string> => (await client.tasks.get(id)).state;
    expect(await Promise.all(dead.map(state))).toEqual(['ready', 'dead', 'ready']);
    const { attempt, failures } = await client.tasks.get(dead[0] as string);
    expect([attempt, failures.length]).toEqual([0, 1]);
    expect(await client.tasks.retryMany({ error: 'TIMEOUT OF' })).toBe(0);
    await client.work({ broken: () => 'well again' }, { queues: ['a', 'b'] });
    expect(await client.task(dead[2] as string).result()).toBe('well again');
    expect(await state(dead[1] as string)).toBe('dead');
    expect(await client.tasks.retryMany({ queue: 'a', state: 'dead' })).toBe(1);
    expect(await client.task(dead[1] as string).result()).toBe('well again');
  },

  'scheduled tasks are among those that are retried': async (place) => {
    const client = await place.connect();
    const later = await client.enqueueMany('x', [1, 2, 3], { delayMs: HOUR });
    const ready = await client.enqueue('x', 4);
    expect(await client.tasks.retryMany({ queue: 'default' })).toBe(3);
    const seen = new Arrivals<unknown>();
    await client.work({ x: (input) => seen.add(input) }, { concurrency: 1 });
    await Promise.all([...later, ready].map((task) => task.result()));
    expect([...seen.all].sort()).toEqual([1, 2, 3, 4]);
  },

  'many tasks are cancelled at once, those that wait and those that run, and those who wait for them are told': async (
    place,
  ) => {
    const client = await place.connect();
    const started = new Arrivals<unknown>();
    const go = new Deferred();
    await client.work(
      {
        long: async (input, { signal }) => {
          started.add(input);
          await Promise.race([go.promise, new Promise((resolve) => signal.addEventListener('abort', resolve))]);
          signal.throwIfAborted();
        },
      },
      { concurrency: 1, prefetch: 1 },
    );
    const running = await client.enqueue('long', 0);
    await started.count(1);
    const ready = [...(await client.enqueueMany('long', [1, 2, 3]))];
    const later = await client.enqueue('long', 4, { delayMs: HOUR });
    const others = [
      await client.enqueue('other', 5, { delayMs: HOUR }),
      await client.enqueue('long', 6, { delayMs: HOUR, queue: 'elsewhere' }),
    ];
    const ends = [running, ...ready, later].map((task) => failure(task.result()));
    expect(await client.tasks.cancelMany({ name: 'long', queue: 'default' })).toBe(5);
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual(new Array(5).fill('TASK_CANCELLED'));
    expect(await client.tasks.cancelMany({ name: 'long', queue: 'default' })).toBe(0);
    for (const task of others) expect(await task.info()).toMatchObject({ state: 'scheduled' });
    expect(started.all).toEqual([0]);
    go.resolve();
  },

  'what depends on tasks that are cancelled together is cancelled with them': async (place) => {
    const client = await place.connect();
    const { tasks } = await client.flow((flow) => {
      const first = flow.add('x', 1);
      const second = flow.add('x', 2, { dependsOn: first });
      flow.add('y', 3, { dependsOn: second });
    });
    expect(await client.tasks.cancelMany({ name: 'x' })).toBe(2);
    for (const task of tasks) expect(await task.info()).toMatchObject({ state: 'cancelled' });
  },

  'very many tasks are changed in steps': async (place) => {
    const client = await place.connect();
    const count = LIMITS.bulkTasksMax + 500;
    await client.enqueueMany('x', new Array(count).fill(0), { delayMs: HOUR });
    expect(await client.tasks.retryMany({ name: 'x', state: 'scheduled' })).toBe(count);
    expect(await client.queue('default').status()).toMatchObject({ ready: count, scheduled: 0 });
    expect(await client.tasks.cancelMany({ name: 'x', order: 'newest' })).toBe(count);
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, cancelled: count });
  },

  'a filter that names nothing, or what cannot be, changes nothing': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('x', null);
    const bad = [{}, { order: 'newest' as const }, { queue: undefined }, { state: 'completed' as const }, { what: 1 }];
    for (const filter of bad) {
      expect((await failure(() => client.tasks.cancelMany(filter))).code).toBe('INVALID_ARGUMENT');
    }
    expect((await failure(() => client.tasks.cancelMany({}))).message).toContain('fromMs 0');
    expect((await failure(() => client.tasks.retryMany({ state: 'ready' }))).message).toContain('dead or scheduled');
    expect(await task.info()).toMatchObject({ state: 'ready' });
    expect(await client.tasks.cancelMany({ queue: 'nowhere' })).toBe(0);
    expect(await client.tasks.cancelMany({ fromMs: 0 })).toBe(1);
  },

  'dead tasks are grouped by what they died of, and a group is found and retried': async (place) => {
    const client = await place.connect();
    const dead = await deadOf(client, [
      ['a', new Error('user 17 not found')],
      ['a', new Error('user 18 not found')],
      ['a', new TypeError('user 19 not found')],
      ['b', new Error('user 20 not found')],
      ['a', new Error('user 21 not found')],
    ]);
    const all = await client.tasks.deadGroups();
    expect(all).toMatchObject({ scanned: 5, complete: true });
    expect(all.groups).toHaveLength(3);
    const [largest] = all.groups;
    expect(largest).toMatchObject({
      ...{ queue: 'a', name: 'broken', code: 'HANDLER_FAILED', error: 'Error' },
      ...{ message: 'user # not found', count: 3, sampleId: dead[4] },
    });
    expect(largest?.newestAtMs).toBeGreaterThanOrEqual(largest?.oldestAtMs as number);
    const { groups } = await client.tasks.deadGroups({ queue: 'b' });
    expect(groups).toMatchObject([{ queue: 'b', count: 1, sampleId: dead[3] }]);
    expect((await client.tasks.deadGroups({ queue: 'nowhere' })).groups).toEqual([]);
    const errorGroup = largest?.group as string;
    expect((await pages(client, { errorGroup, limit: 2 })).map(({ id }) => id)).toEqual([dead[0], dead[1], dead[4]]);
    expect(await pages(client, { errorGroup: 'none' })).toEqual([]);
    expect(await client.tasks.retryMany({ errorGroup })).toBe(3);
    expect(await client.queue('a').status()).toMatchObject({ dead: 1, ready: 3 });
    expect((await client.tasks.deadGroups()).groups).toHaveLength(2);
    expect(await client.tasks.retryMany({ errorGroup })).toBe(0);
  },

  'what was retried and cancelled together is found so after everything was closed and opened': async (place) => {
    const client = await place.connect();
    const dead = await deadOf(client, [
      ['a', new Error('first')],
      ['a', new Error('second')],
    ]);
    const later = await client.enqueueMany('x', [1, 2], { delayMs: HOUR });
    expect(await client.tasks.retryMany({ error: 'first' })).toBe(1);
    expect(await client.tasks.cancelMany({ name: 'x' })).toBe(2);
    await place.restart();
    const again = await place.connect();
    const states = await Promise.all([...dead, ...later.ids].map(async (id) => (await again.tasks.get(id)).state));
    expect(states).toEqual(['ready', 'dead', 'cancelled', 'cancelled']);
    const [failed] = (await again.tasks.get(dead[1] as string)).failures;
    expect(failed).toMatchObject({ worker: 'breaker', error: { message: 'second' } });
    expect(failed?.startedAtMs).toBeTypeOf('number');
    expect((await again.tasks.deadGroups()).groups).toMatchObject([{ message: 'second', count: 1 }]);
  },
};

/** Tasks that have died one after the other, of these errors; their worker is gone. */
async function deadOf(client: Client, errors: readonly [queue: string, error: Error][]): Promise<string[]> {
  const worker = await client.work(
    { broken: (index) => Promise.reject(errors[index as number]?.[1]) },
    { name: 'breaker', queues: [...new Set(errors.map(([queue]) => queue))] },
  );
  const ids: string[] = [];
  for (const [index, [queue]] of errors.entries()) {
    const task = await client.enqueue('broken', index, { queue, maxAttempts: 1 });
    await failure(task.result());
    ids.push(task.id);
  }
  await worker.stop();
  return ids;
}
