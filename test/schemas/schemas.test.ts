import type { StandardSchemaV1 } from '@standard-schema/spec';
import { type } from 'arktype';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { defineTask } from '../../src/index.ts';
import { type TestQueue, testQueue } from '../../src/testing/test-queue.ts';

/** The same kind of task with a schema of each library; the width is text outside and a number inside. */
const OPTIONS = { maxAttempts: 5, backoff: { type: 'fixed', delayMs: 1000, jitter: false } } as const;
const LIBRARIES = {
  zod: defineTask('resize', {
    ...OPTIONS,
    input: z.object({ width: z.string().regex(/^\d+$/).transform(Number), crop: z.object({ left: z.number() }) }),
    output: z.object({ pixels: z.number() }),
  }),
  valibot: defineTask('resize', {
    ...OPTIONS,
    input: v.object({
      width: v.pipe(v.string(), v.regex(/^\d+$/), v.transform(Number)),
      crop: v.object({ left: v.number() }),
    }),
    output: v.object({ pixels: v.number() }),
  }),
  arktype: defineTask('resize', {
    ...OPTIONS,
    input: type({ width: 'string.numeric.parse', crop: { left: 'number' } }),
    output: type({ pixels: 'number' }),
  }),
};

const GOOD = { width: '20', crop: { left: 3 } };
const BAD = { width: 20, crop: { left: 'x' } };
/** In whichever order. */
const BOTH_ISSUES = /(?=.*\bwidth\b)(?=.*\bcrop\.left\b).*: .*; /;

let queue: TestQueue;

beforeEach(async () => {
  queue = await testQueue();
});

afterEach(() => queue.close());

describe.each(Object.entries(LIBRARIES))('a schema of %s', (_library, resize) => {
  test('gives the handler what it makes of the input, and result() what the handler returned', async () => {
    await queue.client.work([resize.handle(({ width, crop }) => ({ pixels: width * crop.left }))]);
    const task = await queue.client.enqueue(resize, GOOD);
    expect(await queue.drain()).toMatchObject({ completed: 1 });
    expect(await task.result()).toEqual({ pixels: 60 });
  });

  test('refuses an enqueue with every issue and its place, and nothing is enqueued', async () => {
    const refusal = { code: 'INVALID_PAYLOAD', message: expect.stringMatching(BOTH_ISSUES) };
    const { client } = queue;
    await expect(client.enqueue(resize, BAD as never)).rejects.toMatchObject(refusal);
    await expect(client.enqueueMany(resize, [GOOD, BAD as never])).rejects.toMatchObject(refusal);
    await expect(client.flow((flow) => flow.add(resize, BAD as never))).rejects.toMatchObject(refusal);
    await expect(client.enqueue(resize, BAD as never, { uniqueKey: 'k' })).rejects.toMatchObject(refusal);
    expect((await client.tasks.list()).tasks).toEqual([]);
  });

  test('ends a task that was enqueued past it dead at once, with the issues, in its first attempt', async () => {
    let called = 0;
    await queue.client.work([
      resize.handle(() => {
        called++;
        return { pixels: 1 };
      }),
    ]);
    const task = await queue.client.enqueue('resize', BAD, { maxAttempts: 5 });
    const report = await queue.drain({ allowFailures: true });
    expect(report).toMatchObject({ completed: 0, failed: 1, dead: 1 });
    expect(called).toBe(0);
    const { state, attempt, failures } = await task.info();
    expect({ state, attempt }).toEqual({ state: 'dead', attempt: 1 });
    const error = { code: 'INVALID_PAYLOAD', message: expect.stringMatching(BOTH_ISSUES) };
    expect(failures).toMatchObject([{ attempt: 1, error }]);
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_DEAD', cause: error });
    expect(await queue.advance('1h')).toMatchObject({ failed: 0 });
  });

  test('ends a task whose handler returns something else dead at once', async () => {
    await queue.client.work([resize.handle(() => ({ pixels: 'many' }) as never)]);
    const task = await queue.client.enqueue(resize, GOOD);
    expect(await queue.drain({ allowFailures: true })).toMatchObject({ failed: 1, dead: 1 });
    expect((await task.info()).failures).toMatchObject([
      { error: { code: 'INVALID_PAYLOAD', message: expect.stringContaining('the result of resize') } },
    ]);
  });

  test('ends its own task only in a batch, whose others run uncharged', async () => {
    await queue.client.work([resize.handleBatch((batch) => batch.inputs.map(({ width }) => ({ pixels: width })))]);
    const tasks = [...(await queue.client.enqueueMany('resize', [GOOD, BAD, GOOD], OPTIONS))];
    expect(await queue.drain({ allowFailures: true })).toMatchObject({ completed: 2, failed: 1, dead: 1 });
    const infos = await Promise.all(tasks.map((task) => task.info()));
    expect(infos.map(({ state, attempt }) => [state, attempt])).toEqual([
      ['completed', 1],
      ['dead', 1],
      ['completed', 1],
    ]);
    expect(await queue.client.task(tasks[0]?.id as string, resize).result()).toEqual({ pixels: 20 });
  });
});

describe('a schema', () => {
  test('may answer later, before the enqueue and before the handler', async () => {
    const checked = defineTask('checked', {
      input: z.object({ name: z.string().refine(async (name) => name !== 'taken', 'is taken') }),
    });
    await queue.client.work([checked.handle(({ name }) => name)]);
    await expect(queue.client.enqueue(checked, { name: 'taken' })).rejects.toThrow(/name: is taken/);
    const past = await queue.client.enqueue('checked', { name: 'taken' });
    const task = await queue.client.enqueue(checked, { name: 'free' });
    expect(await queue.drain({ allowFailures: true })).toMatchObject({ completed: 1, dead: 1 });
    expect(await task.result()).toBe('free');
    expect((await past.info()).failures).toMatchObject([{ error: { code: 'INVALID_PAYLOAD' } }]);
  });

  test.each([
    ['at once', schemaOf(() => thrower())],
    ['later', schemaOf(async () => thrower())],
  ])('that throws, %s, refuses what it was asked about', async (_when, input) => {
    const broken = defineTask('broken', { input });
    await queue.client.work([broken.handle(() => 1)]);
    await expect(queue.client.enqueue(broken, 1)).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: 'the schema of the input of broken threw: a bug in the schema',
    });
    await queue.client.enqueue('broken', 1);
    expect(await queue.drain({ allowFailures: true })).toMatchObject({ failed: 1, dead: 1 });
  });

  test('lists twenty issues, and counts the others', async () => {
    const long = defineTask('long', { input: z.array(z.number()) });
    const error = await queue.client.enqueue(long, Array(25).fill('x') as never).catch((reason: unknown) => reason);
    expect((error as Error).message).toMatch(/19: .*; and 5 more$/);
  });
});

/** One of nobody's library. */
function schemaOf(validate: () => Promise<never>): StandardSchemaV1<unknown> {
  return { '~standard': { version: 1, vendor: 'own', validate } };
}

function thrower(): never {
  throw new Error('a bug in the schema');
}
