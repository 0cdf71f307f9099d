import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { failure, until } from '../../test/conformance/events.ts';
import { closeInMemory, openInMemory } from '../../test/support/embedded.ts';
import type { ManualClock } from '../../test/twins/manual-clock.ts';
import type { Client } from '../client/client.ts';
import { defineTask } from '../task/definition.ts';
import { FatalTaskError } from './failures.ts';
import type { AttemptInfo, WorkerHooks } from './hooks.ts';

let client: Client;
let clock: ManualClock;
let calls: unknown[][];

beforeEach(async () => {
  ({ client, clock } = await openInMemory());
  calls = [];
});

afterEach(() => closeInMemory(client, clock));

/** Writes down what is called with which attempt, and with what else. */
function recorder(): WorkerHooks {
  const record =
    (name: string) =>
    ({ id, attempt }: AttemptInfo, more?: unknown) => {
      calls.push([name, id, attempt, more instanceof Error ? more.message : more]);
    };
  return {
    onStart: record('start'),
    onComplete: record('complete'),
    onFail: record('fail'),
    onDead: record('dead'),
  };
}

test('are told of the start and the result of each task', async () => {
  await client.work({ double: async (input) => (input as number) * 2, quick: () => 'done' }, { hooks: recorder() });
  const slow = await client.enqueue('double', 21);
  await slow.result();
  const quick = await client.enqueue('quick');
  await quick.result();
  expect(calls).toEqual([
    ['start', slow.id, 1, undefined],
    ['complete', slow.id, 1, 42],
    ['start', quick.id, 1, undefined],
    ['complete', quick.id, 1, 'done'],
  ]);
});

test('are told of each failed attempt, and of the last that the task is dead', async () => {
  const attempts = { maxAttempts: 2, backoff: { type: 'fixed', delayMs: 0 } } as const;
  const handler = (_input: unknown, { attempt }: { attempt: number }): never => {
    throw new Error(`no ${attempt}`);
  };
  await client.work({ fail: handler }, { hooks: recorder() });
  const task = await client.enqueue('fail', {}, attempts);
  const ended = task.result().catch(() => 'dead');
  await until(
    async () => {
      clock.advance(10);
      return calls.length;
    },
    (count) => count > 4,
  );
  expect(await ended).toBe('dead');
  expect(calls).toEqual([
    ['start', task.id, 1, undefined],
    ['fail', task.id, 1, 'no 1'],
    ['start', task.id, 2, undefined],
    ['fail', task.id, 2, 'no 2'],
    ['dead', task.id, 2, 'no 2'],
  ]);
});

test('are told that a task is dead when its handler says so, and when its payload is refused', async () => {
  const strict = defineTask('strict', { input: z.object({ n: z.number() }) });
  const fatal = (): never => {
    throw new FatalTaskError('never');
  };
  await client.work([strict.handle(() => 1), defineTask('fatal').handle(fatal)], { hooks: recorder() });
  const first = await client.enqueue('fatal');
  expect((await failure(first.result())).code).toBe('TASK_DEAD');
  const second = await client.enqueue('strict', { n: 'one' });
  expect((await failure(second.result())).code).toBe('TASK_DEAD');
  expect(calls.filter(([name]) => name === 'dead')).toEqual([
    ['dead', first.id, 1, 'never'],
    ['dead', second.id, 1, expect.stringContaining('the input of strict does not match its schema')],
  ]);
});

test('are called for each task of a batch', async () => {
  const many = defineTask('many', { maxAttempts: 1 });
  const handler = many.handleBatch((batch) => {
    if (batch.length > 1) batch.fail(1, new Error('second'));
  });
  const tasks = await client.enqueueMany('many', [1, 2, 3], { maxAttempts: 1 });
  await client.work([handler], { hooks: recorder() });
  await Promise.allSettled([0, 1, 2].map((index) => tasks.at(index).result()));
  const of = (name: string) => calls.filter(([called]) => called === name).map(([, id]) => id);
  const [a, b, c] = [0, 1, 2].map((index) => tasks.at(index).id);
  expect(of('start')).toEqual([a, b, c]);
  expect(of('complete')).toEqual([a, c]);
  expect(of('dead')).toEqual([b]);
});

describe('that throw or reject', () => {
  test('are logged, and their task goes on', async () => {
    const logger = { info: vi.fn(), warn: vi.fn(), error: vi.fn() };
    const hooks: WorkerHooks = {
      onStart: () => {
        throw new Error('start');
      },
      onComplete: async () => {
        throw new Error('complete');
      },
    };
    await client.work({ fine: () => 1 }, { hooks, logger });
    expect(await (await client.enqueue('fine')).result()).toBe(1);
    await until(
      async () => logger.error.mock.calls.length,
      (count) => count === 2,
    );
    const messages = logger.error.mock.calls.map(([{ err }, message]) => `${message}: ${err.message}`);
    expect(messages).toEqual([
      'the hook onStart threw; its task goes on as if it had not: start',
      'the hook onComplete threw; its task goes on as if it had not: complete',
    ]);
  });
});

test('that are none are refused', async () => {
  for (const hooks of [{ onStart: 1 }, { onBegin: () => {} }, 7]) {
    await expect(client.work({ a: () => 1 }, { hooks: hooks as never })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  }
});
