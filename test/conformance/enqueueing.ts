import { expect } from 'vitest';
import { z } from 'zod';
import { defineTask } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { Arrivals, failure } from './events.ts';
import type { Behaviours } from './place.ts';

export const enqueueing: Behaviours = {
  'an enqueued task has an id and runs with its payload': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    const greet = defineTask('greet');
    await client.work([greet.handle((input, { id }) => ran.add({ id, input }))]);
    const task = await client.enqueue(greet, { name: 'Ada' });
    expect(await ran.count(1)).toEqual([{ id: task.id, input: { name: 'Ada' } }]);
    expect(task.id).toMatch(/\S/);
  },

  'a plain name and a definition of that name reach the same handler': async (place) => {
    const client = await place.connect();
    const double = defineTask<number, number>('double');
    await client.work([double.handle((input) => input * 2)]);
    const tasks = [await client.enqueue('double', 4), await client.enqueue(double, 5)];
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual([8, 10]);
  },

  'a handler given by name runs the tasks of that name': async (place) => {
    const client = await place.connect();
    await client.work({ 'text.upper': (input: unknown) => String(input).toUpperCase() });
    const task = await client.enqueue('text.upper', 'abc');
    expect(await task.result()).toBe('ABC');
  },

  'the options of a definition hold for its tasks, and those of an enqueue go before them': async (place) => {
    const client = await place.connect();
    const definition = defineTask('with.options', { queue: 'one', priority: 8, maxAttempts: 7, timeoutMs: 12_345 });
    const plain = await client.enqueue(definition, null);
    const changed = await client.enqueue(definition, null, { queue: 'two', priority: 1, maxAttempts: 2 });
    expect(await client.tasks.get(plain.id)).toMatchObject({
      queue: 'one',
      name: 'with.options',
      priority: 8,
      maxAttempts: 7,
      timeoutMs: 12_345,
    });
    expect(await client.tasks.get(changed.id)).toMatchObject({
      queue: 'two',
      priority: 1,
      maxAttempts: 2,
      timeoutMs: 12_345,
    });
  },

  'a task without options has the documented defaults': async (place) => {
    const client = await place.connect();
    const before = Date.now();
    const task = await client.enqueue('plain', { a: 1 });
    const info = await client.tasks.get(task.id);
    expect(info).toMatchObject({
      id: task.id,
      queue: 'default',
      name: 'plain',
      state: 'ready',
      priority: 4,
      attempt: 0,
      maxAttempts: 3,
      timeoutMs: 1_800_000,
      payload: { encoding: 'utf8', data: '{"a":1}' },
      payloadBytes: 7,
      failures: [],
    });
    expect(info.enqueuedAtMs).toBeGreaterThanOrEqual(before - 1);
    expect(info.enqueuedAtMs).toBeLessThanOrEqual(Date.now() + 1);
  },

  'enqueueMany gives an id for each payload, in their order': async (place) => {
    const client = await place.connect();
    const tasks = await client.enqueueMany('many', ['a', 'b', 'c']);
    expect(tasks.length).toBe(3);
    const infos = await Promise.all([...tasks.ids].map((id) => client.tasks.get(id)));
    expect(infos.map((info) => info.payload?.data)).toEqual(['"a"', '"b"', '"c"']);
  },

  'enqueueMany of nothing is a batch of nothing': async (place) => {
    const client = await place.connect();
    expect([...(await client.enqueueMany('none', [])).ids]).toEqual([]);
    expect((await client.tasks.list()).tasks).toEqual([]);
  },

  'enqueues of one turn keep their order, whatever their names and queues': async (place) => {
    const client = await place.connect();
    const calls = Array.from({ length: 30 }, (_, i) =>
      client.enqueue(`name.${i % 3}`, i, { queue: i % 2 === 0 ? 'even' : 'odd', priority: i % 5 }),
    );
    const ids = (await Promise.all(calls)).map((task) => task.id);
    const infos = await Promise.all(ids.map((id) => client.tasks.get(id)));
    expect(infos.map((info) => [info.name, info.queue, info.priority, info.payload?.data])).toEqual(
      ids.map((_, i) => [`name.${i % 3}`, i % 2 === 0 ? 'even' : 'odd', i % 5, String(i)]),
    );
  },

  'a hundred enqueues of one turn get a hundred ids and run once each': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<number>();
    await client.work([defineTask<number>('count').handle((input) => ran.add(input))]);
    const numbers = Array.from({ length: 100 }, (_, i) => i);
    const tasks = await Promise.all(numbers.map((i) => client.enqueue('count', i)));
    expect(new Set(tasks.map((task) => task.id)).size).toBe(100);
    await Promise.all(tasks.map((task) => task.result()));
    expect(ran.all.toSorted((a, b) => a - b)).toEqual(numbers);
  },

  'ten thousand tasks in many batches from several clients run once each': async (place) => {
    const clients = await Promise.all([place.connect(), place.connect(), place.connect()]);
    const ran = new Arrivals<number>();
    const count = defineTask<number>('count');
    await clients[0].work([count.handle((input) => ran.add(input))], { concurrency: 20 });
    await clients[1].work([count.handle(async (input) => ran.add(input))], { concurrency: 20 });
    const ids = new Set<string>();
    const batches = Array.from({ length: 100 }, (_, batch) => Array.from({ length: 100 }, (_, i) => batch * 100 + i));
    await Promise.all(
      batches.map(async (batch, i) => {
        for (const id of (await clients[i % 3].enqueueMany(count, batch)).ids) ids.add(id);
      }),
    );
    expect(ids.size).toBe(10_000);
    await ran.count(10_000);
    expect(ran.all.toSorted((a, b) => a - b)).toEqual(batches.flat());
  },

  'a payload of exactly the limit is taken, and one byte more is refused': async (place) => {
    const client = await place.connect();
    const sizes = new Arrivals<number>();
    const measure = defineTask('measure', { payload: 'bytes' });
    await client.work([measure.handle((input) => sizes.add(input.length))]);
    await client.enqueue(measure, new Uint8Array(LIMITS.payloadBytesMax));
    expect(await sizes.count(1)).toEqual([LIMITS.payloadBytesMax]);
    const error = await failure(() => client.enqueue(measure, new Uint8Array(LIMITS.payloadBytesMax + 1)));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    expect(error.message).toContain(String(LIMITS.payloadBytesMax));
    expect(error.message).toContain(String(LIMITS.payloadBytesMax + 1));
    await client.enqueue(measure, new Uint8Array(0));
    expect(await sizes.count(2)).toEqual([LIMITS.payloadBytesMax, 0]);
  },

  'payloads of one turn that are larger than a frame together arrive whole': async (place) => {
    const client = await place.connect();
    const sums = new Arrivals<number>();
    const sum = defineTask('sum', { payload: 'bytes' });
    await client.work([sum.handle((bytes) => sums.add(bytes.reduce((total, byte) => total + byte, 0)))]);
    const payloads = Array.from({ length: 20 }, (_, i) => new Uint8Array(1_000_000).fill(i));
    await Promise.all(payloads.map((payload) => client.enqueue(sum, payload)));
    await sums.count(20);
    expect(sums.all.toSorted((a, b) => a - b)).toEqual(payloads.map((_, i) => i * 1_000_000));
  },

  'one enqueueMany of more than a frame or a batch holds is refused, and nothing of it is enqueued': async (place) => {
    const client = await place.connect();
    const bytes = defineTask('bytes', { payload: 'bytes' });
    const large = await failure(() => client.enqueueMany(bytes, new Array(17).fill(new Uint8Array(1_000_000))));
    expect(large.code).toBe('PAYLOAD_TOO_LARGE');
    expect(large.message).toContain('split');
    const many = await failure(() => client.enqueueMany('many', new Array(LIMITS.batchTasksMax + 1).fill(1)));
    expect(many.code).toBe('INVALID_ARGUMENT');
    expect(many.message).toContain(String(LIMITS.batchTasksMax));
    const one = [new Uint8Array(1), new Uint8Array(LIMITS.payloadBytesMax + 1)];
    expect((await failure(() => client.enqueueMany(bytes, one))).code).toBe('PAYLOAD_TOO_LARGE');
    expect((await client.tasks.list()).tasks).toEqual([]);
  },

  'a payload that JSON cannot hold is refused, and the client goes on': async (place) => {
    const client = await place.connect();
    const circle: { self?: unknown } = {};
    circle.self = circle;
    for (const payload of [circle, 1n, () => {}, Symbol('s')]) {
      const error = await failure(() => client.enqueue('any', payload));
      expect(error.code).toBe('INVALID_PAYLOAD');
    }
    const error = await failure(() => client.enqueueMany('any', [1, 2n]));
    expect(error.code).toBe('INVALID_PAYLOAD');
    expect((await client.tasks.list()).tasks).toEqual([]);
    await client.enqueue('any', 'fine');
    expect((await client.tasks.list()).tasks).toHaveLength(1);
  },

  'a schema checks what is enqueued and gives the handler what it makes of it': async (place) => {
    const client = await place.connect();
    const seen = new Arrivals<unknown>();
    const resize = defineTask('resize', { input: z.object({ width: z.number(), unit: z.string().default('px') }) });
    await client.work([resize.handle((input) => seen.add(input))]);
    await client.enqueue(resize, { width: 5 });
    expect(await seen.count(1)).toEqual([{ width: 5, unit: 'px' }]);
    const error = await failure(() => client.enqueue(resize, { width: 'five' } as never));
    expect(error.code).toBe('INVALID_PAYLOAD');
    expect(error.message).toContain('width');
    const many = await failure(() => client.enqueueMany(resize, [{ width: 1 }, { width: 'two' } as never]));
    expect(many.code).toBe('INVALID_PAYLOAD');
    // A sender without the definition can enqueue anything; the handler never sees it.
    const wrong = await client.enqueue('resize', { width: 'five' }, { maxAttempts: 5 });
    const dead = await failure(wrong.result());
    expect(dead.code).toBe('TASK_DEAD');
    expect(await client.tasks.get(wrong.id)).toMatchObject({ state: 'dead', attempt: 1 });
    expect(seen.all).toHaveLength(1);
  },
};
