import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { closeInMemory, openInMemory } from '../../test/support/embedded.ts';
import { settle, watch } from '../../test/support/scripted-server.ts';
import type { ManualClock } from '../../test/twins/manual-clock.ts';
import { defineTask } from '../task/definition.ts';
import type { Client } from './client.ts';
import type { Task } from './task.ts';

let client: Client;
let clock: ManualClock;

beforeEach(async () => {
  ({ client, clock } = await openInMemory());
});

afterEach(() => closeInMemory(client, clock));

describe('enqueue', () => {
  test('resolves with a task that tells about itself', async () => {
    const task = await client.enqueue('greet', { who: 'you' }, { queue: 'mail', priority: 7, delayMs: 60_000 });
    expect(await task.info()).toMatchObject({
      id: task.id,
      name: 'greet',
      queue: 'mail',
      priority: 7,
      state: 'scheduled',
      payload: { encoding: 'utf8', data: '{"who":"you"}' },
    });
  });

  test('takes the options of a definition, and changes them for one call', async () => {
    const resize = defineTask('resize', { queue: 'images', maxAttempts: 9 });
    const [usual, other] = [await client.enqueue(resize, 1), await client.enqueue(resize, 1, { maxAttempts: 2 })];
    expect(await usual.info()).toMatchObject({ queue: 'images', maxAttempts: 9 });
    expect(await other.info()).toMatchObject({ queue: 'images', maxAttempts: 2 });
  });

  test('refuses what the schema does, and leaves nothing', async () => {
    const resize = defineTask('resize', { input: z.object({ width: z.number() }) });
    await expect(client.enqueue(resize, { width: 'x' } as never)).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: expect.stringContaining('the input of resize does not match its schema: width'),
    });
    await expect(client.enqueueMany(resize, [{ width: 1 }, {} as never])).rejects.toThrow(/input 1 of resize/);
    expect((await client.tasks.list()).tasks).toEqual([]);
  });

  test('takes bytes for a definition that says so, and for none that does not', async () => {
    await expect(client.enqueue(defineTask('b', { payload: 'bytes' }), 'x' as never)).rejects.toThrow(
      /takes a Uint8Array/,
    );
    await expect(client.enqueue(defineTask('j'), new Uint8Array(1))).rejects.toThrow(/define it with payload: 'bytes'/);
  });

  test('of none is a batch of none', async () => {
    const batch = await client.enqueueMany('n', []);
    expect([batch.length, [...batch], await batch.results()]).toEqual([0, [], []]);
  });

  test('knows its types', () => {
    const resize = defineTask<{ width: number }, string>('resize');
    expectTypeOf(client.enqueue(resize, { width: 1 })).toEqualTypeOf<Promise<Task<string>>>();
    expectTypeOf(client.enqueue<number>('n')).toEqualTypeOf<Promise<Task<number>>>();
    // @ts-expect-error: width is a number
    const wrong = (): unknown => client.enqueue(resize, { width: 'x' });
    expect(wrong).toBeDefined();
  });
});

describe('a result', () => {
  test('of a dead task is its last error', async () => {
    await client.work({
      fail: () => {
        throw new TypeError('broken');
      },
    });
    const task = await client.enqueue('fail', null, { maxAttempts: 1 });
    const error = (await task.result().catch((reason: unknown) => reason)) as Error;
    expect(error).toMatchObject({ code: 'TASK_DEAD', message: expect.stringContaining('TypeError: broken') });
    expect(error.cause).toBeInstanceOf(Error);
    expect(error.cause).toMatchObject({ name: 'TypeError', message: 'broken', code: 'HANDLER_FAILED' });
  });

  test('of a cancelled task says so', async () => {
    const task = await client.enqueue('n');
    expect(await task.cancel()).toBe('cancelled');
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
    await expect(task.cancel()).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('that does not come in time leaves the task alone', async () => {
    const task = await client.enqueue('n');
    const result = watch(task.result({ timeoutMs: 1000 }));
    await settle();
    clock.advance(1000);
    expect(await result()).toBe('TIMEOUT');
    expect((await task.info()).state).toBe('ready');
  });

  test('of an unknown task is NOT_FOUND', async () => {
    await expect(client.task('1-zzz').result()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(client.task('1-zzz').info()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each([
    [{ timeoutMs: 0 }, /timeoutMs is 0; allowed are whole numbers from 1/],
    [{ timeout: 5 }, /did you mean "timeoutMs"/],
  ])('with %j is refused', async (options, message) => {
    await expect(client.task('1-0').result(options as object)).rejects.toThrow(message);
  });

  test('is read as the definition says, also by id', async () => {
    const squares = defineTask('square', { output: z.number().transform((value) => ({ value })) });
    await client.work([squares.handle((input) => (input as number) ** 2)]);
    const { id } = await client.enqueue(squares, 3);
    expect(await client.task(id, squares).result()).toEqual({ value: 9 });
    expect(await client.task(id).result()).toBe(9);
  });
});

describe('a queue', () => {
  test('pauses, resumes, and says how it stands', async () => {
    const queue = client.queue('mail');
    await expect(queue.status()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await queue.pause();
    await client.work({ n: () => 'done' }, { queues: ['mail'] });
    const task = await client.enqueue('n', null, { queue: 'mail' });
    expect(await queue.status()).toMatchObject({ paused: true, ready: 1 });
    await queue.resume();
    expect(await task.result()).toBe('done');
  });

  test('purges what waits and redrives what is dead', async () => {
    const queue = client.queue('mail');
    await client.enqueueMany('n', [1, 2, 3], { queue: 'mail' });
    expect(await queue.purge()).toBe(3);
    let broken = true;
    await client.work(
      {
        n: () => {
          if (broken) throw new Error('broken');
          return 'mended';
        },
      },
      { queues: ['mail'] },
    );
    const task = await client.enqueue('n', null, { queue: 'mail', maxAttempts: 1 });
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_DEAD' });
    broken = false;
    expect(await queue.redrive()).toBe(1);
    expect(await task.result()).toBe('mended');
  });

  test('keeps what ended for as long as it is told', async () => {
    const queue = client.queue('mail');
    expect(await queue.retention({ completedCountMax: 5 })).toMatchObject({
      completedCountMax: 5,
      deadCountMax: 100_000,
    });
  });

  test('with an impossible name is refused', () => {
    expect(() => client.queue('')).toThrow(/queue "" has 0 bytes/);
  });
});

describe('close', () => {
  test('stops the workers and refuses everything later', async () => {
    const worker = await client.work({ n: () => 1 });
    await client.close();
    expect(await worker.ended).toBeUndefined();
    await expect(client.enqueue('n')).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(client.work({ n: () => 1 })).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(client.status()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('leaves no timer, and holds the process until then', async () => {
    await client.work({ n: () => 1 });
    await (await client.enqueue('n')).result();
    expect(clock.timerCount).toBeGreaterThan(0);
    await client.close();
    expect(clock.timerCount).toBe(0);
  });

  test('ends open waits with CLOSED', async () => {
    const task = await client.enqueue('n');
    const result = watch(task.result());
    await settle();
    await client.close();
    expect(await result()).toBe('CLOSED');
  });
});
