import { expect } from 'vitest';
import { defineTask, type EnqueueOptions, LIMITS } from '../../src/index.ts';
import { Arrivals, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const AT_ONCE = { backoff: { type: 'fixed', delayMs: 0, jitter: false } } as const;
/** Names and values that some encoding might stumble over. */
const ODD = { 'x-tenant': 'a', __proto__x: '"},"payload":1', empty: '', größe: 'ü {"é":"€"} \\ 🚀' };

/** Headers as they are at their bounds: many of them, and together as large as may be. */
function largest(): Record<string, string> {
  const headers: Record<string, string> = { ['n'.repeat(LIMITS.headerNameBytesMax)]: '' };
  let left = LIMITS.headersBytesMax - (3 + LIMITS.headerNameBytesMax);
  for (let index = 10; index < 9 + LIMITS.headersMax; index++) {
    const last = index === 8 + LIMITS.headersMax;
    headers[`h${index}`] = 'v'.repeat(last ? left - 6 : 100);
    left -= 106;
  }
  return headers;
}

/** Outside what is allowed, with what the message must name. */
const WRONG: readonly (readonly [unknown, ...string[]])[] = [
  ['text', 'headers must be an object', '"text"'],
  [['a'], 'headers must be an object'],
  [null, 'headers must be an object'],
  [new Map([['tenant', 'a']]), 'headers must be an object', 'Map'],
  [new Headers({ tenant: 'a' }), 'headers must be an object'],
  [{ n: 5 }, '"n"', '5', 'text'],
  [{ n: null }, '"n"', 'null', 'text'],
  [{ n: { deep: 'a' } }, '"n"', 'text'],
  [{ '': 'a' }, 'the name of a header', '0 bytes'],
  [{ ['x'.repeat(129)]: 'a' }, 'the name of a header', '129 bytes', '128'],
  [{ 'a\nb': 'a' }, 'the name of a header', 'control character'],
  [{ n: 'a\r\nb' }, '"n"', 'control character'],
  [{ n: 'a\u0000' }, '"n"', 'control character'],
  [{ n: '\ud800' }, '"n"', 'control character'],
  [Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`n${index}`, ''])), '33 headers', '32'],
  [{ n: 'ü'.repeat(2047) }, '4098 bytes of headers', '4096'],
];

/** What travels with a task beside its payload. */
export const carrying: Behaviours = {
  'headers reach the handler of their task, and no other': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ step: (input, { headers }) => ran.add([input, headers]) });
    await client.enqueue('step', 1, { headers: { tenant: 'a' } });
    await client.enqueue('step', 2);
    await client.enqueue('step', 3, { headers: {} });
    await client.enqueue('step', { größe: '€' }, { headers: ODD });
    await client.enqueue('step', 5, { headers: { tenant: undefined } });
    expect(await ran.count(5)).toEqual([
      [1, { tenant: 'a' }],
      [2, {}],
      [3, {}],
      [{ größe: '€' }, ODD],
      [5, {}],
    ]);
  },

  'headers reach a task that waits for its time, with bytes as its payload, in a queue of its own': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    const blob = defineTask('blob', { payload: 'bytes', queue: 'blobs', priority: 7, timeoutMs: 5000 });
    await client.work([blob.handle((input, { headers }) => ran.add([Buffer.from(input).toString('hex'), headers]))]);
    const payload = Uint8Array.of(0xff, 0, 0x80);
    await client.enqueue(blob, payload, { headers: ODD, delayMs: 40 });
    expect(await ran.count(1)).toEqual([['ff0080', ODD]]);
    await client.enqueue(blob, payload, { headers: { at: 'a time' }, runAt: Date.now() + 40 });
    expect((await ran.count(2))[1]).toEqual(['ff0080', { at: 'a time' }]);
  },

  'headers come again with every attempt, and after a redrive': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({
      failing: (_, { attempt, headers }) => {
        ran.add([attempt, headers]);
        return Promise.reject(new Error('no'));
      },
    });
    const task = await client.enqueue('failing', null, { ...AT_ONCE, maxAttempts: 3, headers: ODD });
    const attempts = [1, 2, 3].map((attempt) => [attempt, ODD]);
    expect(await ran.count(3)).toEqual(attempts);
    await failure(task.result());
    await until(
      () => client.queue('default').redrive(),
      (count) => count === 1,
      'the redrive of a dead task',
    );
    expect(await ran.count(6)).toEqual([...attempts, ...attempts]);
  },

  'all tasks of one enqueueMany have its headers': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    const step = defineTask('step');
    await client.work([
      step.handleBatch((batch) => {
        for (const [index, input] of batch.inputs.entries()) ran.add([input, batch.headers(index)]);
      }),
    ]);
    await client.enqueueMany(step, [1, 2, 3], { headers: { tenant: 'a' } });
    await client.enqueueMany(step, [4, 5]);
    expect(await ran.count(5)).toEqual([
      ...[1, 2, 3].map((input) => [input, { tenant: 'a' }]),
      ...[4, 5].map((input) => [input, {}]),
    ]);
  },

  'each task of a flow has its own headers': async (place) => {
    const client = await place.connect();
    await client.work({ step: (_, { headers }) => headers });
    const flow = await client.flow((builder) => {
      const first = builder.add('step', null, { headers: { step: 'one' } });
      const second = builder.add('step', null, { dependsOn: first, uniqueKey: 'k', headers: { step: 'two' } });
      builder.add('step', null, { dependsOn: second });
    });
    const results = await Promise.all(flow.tasks.map((task) => task.result()));
    expect(results).toEqual([{ step: 'one' }, { step: 'two' }, {}]);
    const group = await client.batch((builder) => builder.add('step', 1, { headers: ODD }), {
      task: 'step',
      options: { headers: { step: 'callback' } },
    });
    expect(await group.tasks[0]?.result()).toEqual(ODD);
    expect(await group.callback.result()).toEqual({ step: 'callback' });
  },

  'the tasks of a schedule have its headers': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ step: (_, { headers }) => ran.add(headers) });
    const options = { task: 'step', everyMs: 3_600_000 };
    await client.schedule('hourly', { ...options, headers: { tenant: 'a' } });
    expect(await client.schedules.get('hourly')).toMatchObject({ headers: { tenant: 'a' } });
    await client.schedules.runNow('hourly');
    await ran.count(1);
    await client.schedule('hourly', { ...options, headers: ODD });
    await client.schedules.runNow('hourly');
    await ran.count(2);
    await client.schedule('hourly', options);
    expect(await client.schedules.get('hourly')).not.toHaveProperty('headers');
    await client.schedules.runNow('hourly');
    expect(await ran.count(3)).toEqual([{ tenant: 'a' }, ODD, {}]);
  },

  'headers are seen when a task is looked at, and are no part of its payload': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('seen', { a: 1 }, { headers: ODD });
    const plain = await client.enqueue('seen', { a: 1 });
    const payload = { encoding: 'utf8', data: '{"a":1}' };
    expect(await task.info()).toMatchObject({ payload, payloadBytes: 7, headers: ODD });
    expect(await plain.info()).not.toHaveProperty('headers');
    const { tasks } = await client.tasks.list({ name: 'seen' });
    expect(tasks.map(({ payloadBytes }) => payloadBytes)).toEqual([7, 7]);
    for (const info of tasks) expect(info).not.toHaveProperty('headers');
  },

  'headers are found again after everything was closed and opened': async (place) => {
    const before = await place.connect();
    await before.enqueue('kept', 1, { headers: ODD });
    await before.enqueueMany('kept', [2, 3], { headers: { tenant: 'a' } });
    await before.enqueue('kept', 4);
    await place.restart();
    const after = await place.connect();
    const ran = new Arrivals<unknown>();
    await after.work({ kept: (input, { headers }) => ran.add([input, headers]) }, { concurrency: 1 });
    expect(await ran.count(4)).toEqual([
      [1, ODD],
      [2, { tenant: 'a' }],
      [3, { tenant: 'a' }],
      [4, {}],
    ]);
  },

  'headers outside their bounds are refused, and at them they are taken': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ step: (_, { headers }) => ran.add(headers) });
    for (const [headers, ...named] of WRONG) {
      const options = { headers } as EnqueueOptions;
      const error = await failure(() => client.enqueue('step', null, options));
      expect(error, JSON.stringify(headers)).toMatchObject({ code: 'INVALID_ARGUMENT' });
      for (const text of named) expect(error.message).toContain(text);
      for (const call of [
        () => client.enqueueMany('step', [1], options),
        () => client.flow((flow) => flow.add('step', null, options)),
        () => client.schedule('s', { task: 'step', everyMs: 3_600_000, headers } as never),
      ]) {
        expect(await failure(call)).toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
    }
    await client.enqueue('step', null, { headers: largest() });
    expect(await ran.count(1)).toEqual([largest()]);
  },
};
