import { expect } from 'vitest';
import { z } from 'zod';
import { defineTask } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { Deferred, failure } from './events.ts';
import type { Behaviours } from './place.ts';

const VALUES: unknown[] = [
  0,
  -1.5e300,
  true,
  false,
  null,
  '',
  'text',
  'Ünïcödé \u0000 \u2028 \ud83e\udd84 日本語',
  '\ud800 half of a pair',
  [],
  {},
  [[[]]],
  { nested: { list: [1, { deep: null }], '': 'empty key' } },
  'x'.repeat(100_000),
];

export const results: Behaviours = {
  'a result comes back as it was returned, whatever JSON it is': async (place) => {
    const client = await place.connect();
    await client.work([defineTask('echo').handle((input) => input)]);
    for (const value of VALUES) {
      const task = await client.enqueue('echo', value);
      expect(await task.result()).toEqual(JSON.parse(JSON.stringify(value)));
    }
  },

  'a handler that returns nothing has the result undefined, one that returns null has null': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('nothing').handle(() => undefined),
      defineTask('null').handle(() => null),
      defineTask('nothing.later').handle(async () => {}),
    ]);
    const tasks = await Promise.all(['nothing', 'null', 'nothing.later'].map((name) => client.enqueue(name, 1)));
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual([undefined, null, undefined]);
  },

  'bytes go in and come out untouched': async (place) => {
    const client = await place.connect();
    const invert = defineTask('invert', { payload: 'bytes', result: 'bytes' });
    await client.work([invert.handle((bytes) => bytes.map((byte) => 255 - byte))]);
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    const [inverted, empty] = await Promise.all([
      client.enqueue(invert, all),
      client.enqueue(invert, new Uint8Array()),
    ]);
    expect([...((await inverted.result()) ?? [])]).toEqual([...all].reverse());
    expect([...((await empty.result()) ?? [])]).toEqual([]);
  },

  'result() asked for before the end and after it is the same, for everyone who asks': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([defineTask('answer').handle(() => go.promise.then(() => ({ answer: 42 })))]);
    const task = await client.enqueue('answer', null);
    const early = [task.result(), task.result(), (await place.connect()).task(task.id).result()];
    go.resolve();
    expect(await Promise.all(early)).toEqual([{ answer: 42 }, { answer: 42 }, { answer: 42 }]);
    expect(await task.result()).toEqual({ answer: 42 });
    expect(await (await place.connect()).task(task.id).result()).toEqual({ answer: 42 });
  },

  'result() that takes too long rejects with TIMEOUT, and the task goes on': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([defineTask('slow').handle(() => go.promise)]);
    const task = await client.enqueue('slow', null);
    const error = await failure(task.result({ timeoutMs: 20 }));
    expect(error.code).toBe('TIMEOUT');
    expect(error.message).toContain('20 ms');
    expect(error.message).toContain(task.id);
    go.resolve();
    expect(await task.result()).toBeUndefined();
  },

  'a signal ends the wait for a result with its reason': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('nobody', null);
    const controller = new AbortController();
    const reason = new Error('no longer interested');
    const waiting = task.result({ signal: controller.signal });
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(task.result({ signal: controller.signal })).rejects.toBe(reason);
  },

  'the result of a dead task rejects with TASK_DEAD and the last error as its cause': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('broken', { maxAttempts: 1 }).handle(() => {
        throw new RangeError('out of it');
      }),
    ]);
    const task = await client.enqueue('broken', null, { maxAttempts: 1 });
    const error = await failure(task.result());
    expect(error.code).toBe('TASK_DEAD');
    expect(error.message).toContain(task.id);
    expect(error.message).toContain('out of it');
    expect(error.cause).toMatchObject({ name: 'RangeError', message: 'out of it' });
    expect((await failure(task.result())).code).toBe('TASK_DEAD');
  },

  'the result of a cancelled task rejects with TASK_CANCELLED, for those who wait and those who ask later': async (
    place,
  ) => {
    const client = await place.connect();
    const task = await client.enqueue('unwanted', null);
    const waiting = failure(task.result());
    expect(await client.tasks.cancel(task.id)).toBe('cancelled');
    expect((await waiting).code).toBe('TASK_CANCELLED');
    expect((await failure(task.result())).code).toBe('TASK_CANCELLED');
  },

  'the result of a task that nobody enqueued rejects with NOT_FOUND': async (place) => {
    const client = await place.connect();
    const { id } = await client.enqueue('real', null);
    const unknown = `${id.slice(0, id.indexOf('-'))}-zzzz`;
    const error = await failure(client.task(unknown).result());
    expect(error.code).toBe('NOT_FOUND');
    expect(error.message).toContain(unknown);
    expect((await failure(client.tasks.get(unknown))).code).toBe('NOT_FOUND');
  },

  'text that is no id is refused with INVALID_ARGUMENT': async (place) => {
    const client = await place.connect();
    for (const text of ['x'.repeat(600_000), '', 'nonsense', '1-2-3', '../1-0']) {
      expect((await failure(client.tasks.get(text))).code).toBe('INVALID_ARGUMENT');
      expect((await failure(() => client.task(text).result())).code).toBe('INVALID_ARGUMENT');
      expect((await failure(client.events({ task: text }))).code).toBe('INVALID_ARGUMENT');
    }
  },

  'a result of exactly the limit is kept, and a larger one ends its task dead at once': async (place) => {
    const client = await place.connect();
    const make = defineTask<number>('make', { result: 'bytes' } as never);
    await client.work([make.handle((length) => new Uint8Array(Number(length)).fill(7) as never)]);
    const fits = await client.enqueue(make, LIMITS.resultBytesMax);
    const result = (await fits.result()) as Uint8Array;
    expect(result.length).toBe(LIMITS.resultBytesMax);
    const task = await client.enqueue(make, LIMITS.resultBytesMax + 1);
    const error = await failure(task.result());
    expect(error.code).toBe('TASK_DEAD');
    expect(error.cause).toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    expect(await client.tasks.get(task.id)).toMatchObject({ state: 'dead', attempt: 1 });
  },

  'a result that JSON cannot hold ends its task dead at once': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('bigint').handle(() => 10n),
      defineTask('function').handle(() => () => {}),
      defineTask('bytes').handle(() => new Uint8Array(3)),
    ]);
    for (const name of ['bigint', 'function', 'bytes']) {
      const task = await client.enqueue(name, null);
      const error = await failure(task.result());
      expect(error.code).toBe('TASK_DEAD');
      expect(error.cause).toMatchObject({ code: 'INVALID_PAYLOAD' });
      expect(await client.tasks.get(task.id)).toMatchObject({ state: 'dead', attempt: 1 });
    }
  },

  'a schema checks what a handler returns, and result() gives what it makes of it': async (place) => {
    const client = await place.connect();
    const count = defineTask('count', { output: z.object({ words: z.number(), unit: z.string().default('w') }) });
    await client.work([count.handle((input) => input as never)]);
    expect(await (await client.enqueue(count, { words: 3 })).result()).toEqual({ words: 3, unit: 'w' });
    const wrong = await client.enqueue(count, { words: 'three' }, { maxAttempts: 5 });
    const error = await failure(wrong.result());
    expect(error.cause).toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect((error.cause as Error).message).toContain('words');
    expect(await wrong.info()).toMatchObject({ state: 'dead', attempt: 1 });
  },

  'a result that is not what the asker expects rejects with INVALID_PAYLOAD': async (place) => {
    const client = await place.connect();
    await client.work({ text: () => 'text' });
    const { id } = await client.enqueue('text', null);
    expect(await client.task(id).result()).toBe('text');
    const number = defineTask('text', { output: z.number() });
    expect((await failure(client.task(id, number).result())).code).toBe('INVALID_PAYLOAD');
    const bytes = defineTask('text', { result: 'bytes' });
    expect(Buffer.from((await client.task(id, bytes).result()) ?? []).toString()).toBe('"text"');
  },

  'a thousand results are waited for at once': async (place) => {
    const client = await place.connect();
    await client.work([defineTask<number, number>('square').handle((input) => input * input)]);
    const numbers = Array.from({ length: 1000 }, (_, i) => i);
    const tasks = await Promise.all(numbers.map((i) => client.enqueue('square', i)));
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual(numbers.map((i) => i * i));
  },
};
