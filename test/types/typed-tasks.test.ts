import { type } from 'arktype';
import * as v from 'valibot';
import { expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { type Client, defineTask, type Flow, type Task, type TaskBatch, type TaskGroup } from '../../src/index.ts';

/**
 * What the compiler is to accept and to refuse: `npx tsc -p tsconfig.json` checks this file, where a line that should be
 * refused and is not is an error itself. Nothing in it runs.
 */
type Outside = { width: string; crop: { left: number } };
type Inside = { width: number; crop: { left: number } };
type Result = { pixels: number };

const zod = defineTask('zod', {
  input: z.object({ width: z.string().transform(Number), crop: z.object({ left: z.number() }) }),
  output: z.object({ pixels: z.number() }),
});
const valibot = defineTask('valibot', {
  input: v.object({ width: v.pipe(v.string(), v.transform(Number)), crop: v.object({ left: v.number() }) }),
  output: v.object({ pixels: v.number() }),
});
const arktype = defineTask('arktype', {
  input: type({ width: 'string.numeric.parse', crop: { left: 'number' } }),
  output: type({ pixels: 'number' }),
});
const given = defineTask<Outside, Result>('given');
const bytes = defineTask('bytes', { payload: 'bytes', result: 'bytes' });
const untyped = defineTask('untyped');

const good = { width: '1', crop: { left: 1 } };

function definitions(): void {
  expectTypeOf(zod.types).toEqualTypeOf<{ input: Outside; result: Result }>();
  expectTypeOf(valibot.types).toEqualTypeOf<{ input: Outside; result: Result }>();
  expectTypeOf(arktype.types).toEqualTypeOf<{ input: Outside; result: Result }>();
  expectTypeOf(given.types).toEqualTypeOf<{ input: Outside; result: Result }>();
  expectTypeOf(bytes.types).toEqualTypeOf<{ input: Uint8Array; result: Uint8Array | undefined }>();
  expectTypeOf(untyped.types).toEqualTypeOf<{ input: unknown; result: unknown }>();
}

function handlers(): void {
  for (const kind of [zod.handle, valibot.handle, arktype.handle]) {
    expectTypeOf(kind).parameter(0).parameter(0).toEqualTypeOf<Inside>();
    expectTypeOf(kind).parameter(0).returns.toEqualTypeOf<Result | Promise<Result>>();
  }
  for (const kind of [zod.handleBatch, valibot.handleBatch, arktype.handleBatch]) {
    expectTypeOf(kind).parameter(0).parameter(0).toHaveProperty('inputs').toEqualTypeOf<readonly Inside[]>();
  }
  // @ts-expect-error: the result has another type
  zod.handle(() => ({ pixels: 'many' }));
  // @ts-expect-error: so has what the promise resolves with
  valibot.handle(async () => 1);
  // @ts-expect-error: the width is a number here
  arktype.handle(({ width }) => ({ pixels: width.length }));
  // @ts-expect-error: one result for each task
  zod.handleBatch(() => ({ pixels: 1 }));
  // @ts-expect-error: each of its type
  arktype.handleBatch((batch) => batch.inputs.map(() => 'x'));
  given.handle((input) => {
    expectTypeOf(input).toEqualTypeOf<Outside>();
    return { pixels: 1 };
  });
}

async function enqueues(client: Client): Promise<void> {
  expectTypeOf(client.enqueue(zod, good)).toEqualTypeOf<Promise<Task<Result>>>();
  expectTypeOf(client.enqueue(valibot, good)).toEqualTypeOf<Promise<Task<Result>>>();
  expectTypeOf(client.enqueue(arktype, good)).toEqualTypeOf<Promise<Task<Result>>>();
  expectTypeOf(client.enqueueMany(arktype, [good])).toEqualTypeOf<Promise<TaskBatch<Result>>>();
  expectTypeOf((await client.enqueue(zod, good)).result()).toEqualTypeOf<Promise<Result>>();
  expectTypeOf((await client.enqueueMany(zod, [good])).results()).toEqualTypeOf<Promise<Result[]>>();
  expectTypeOf(client.task('1-1', valibot).result()).toEqualTypeOf<Promise<Result>>();
  expectTypeOf(client.enqueue('by.name', { anything: 1 })).toEqualTypeOf<Promise<Task<unknown>>>();
  expectTypeOf(client.enqueue<number>('by.name')).toEqualTypeOf<Promise<Task<number>>>();
  // @ts-expect-error: the width is text here
  await client.enqueue(zod, { width: 1, crop: { left: 1 } });
  // @ts-expect-error: something is missing
  await client.enqueue(valibot, { width: '1' });
  // @ts-expect-error: a definition with an input needs one
  await client.enqueue(arktype);
  // @ts-expect-error: one of them is wrong
  await client.enqueueMany(arktype, [good, { width: 1 }]);
  // @ts-expect-error: bytes are given as bytes
  await client.enqueue(bytes, 'text');
  // @ts-expect-error: there is no such option
  await client.enqueue(zod, good, { retries: 3 });
}

async function groups(client: Client): Promise<void> {
  const flow = client.flow((build) => {
    const parent = build.add(zod, good);
    expectTypeOf(parent.result).toEqualTypeOf<Result>();
    // @ts-expect-error: the width is text here, too
    build.add(arktype, { width: 1, crop: { left: 1 } }, { dependsOn: [parent] });
  });
  expectTypeOf(flow).toEqualTypeOf<Promise<Flow>>();
  const build = (): void => {};
  expectTypeOf(client.batch(build, { task: zod, input: good })).toEqualTypeOf<Promise<TaskGroup<Result>>>();
  expectTypeOf(client.batch(build, { task: 'by.name', input: 1 })).toEqualTypeOf<Promise<TaskGroup<unknown>>>();
  expectTypeOf(client.batch<number>(build, { task: 'by.name' })).toEqualTypeOf<Promise<TaskGroup<number>>>();
  // @ts-expect-error: the callback's input is checked like any other
  await client.batch(build, { task: zod, input: 5 });
}

test('the compiler has checked this file', () => {
  for (const statements of [definitions, handlers, enqueues, groups]) expect(statements).toBeTypeOf('function');
});
