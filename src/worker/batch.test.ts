import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { closeInMemory, Gate, openInMemory } from '../../test/support/embedded.ts';
import { settle } from '../../test/support/scripted-server.ts';
import type { ManualClock } from '../../test/twins/manual-clock.ts';
import type { Client } from '../client/client.ts';
import { defineTask } from '../task/definition.ts';

let client: Client;
let clock: ManualClock;

beforeEach(async () => {
  ({ client, clock } = await openInMemory());
});

afterEach(() => closeInMemory(client, clock));

const sum = defineTask<number, unknown>('sum', { maxAttempts: 1 });

/** How each task of a batch ended: its result, or the code and message of its last error. */
async function ends(batch: Awaited<ReturnType<typeof client.enqueueMany>>): Promise<unknown[]> {
  return Promise.all(
    Array.from(batch, (task) =>
      task
        .result()
        .catch(({ code, cause }: { code: string; cause?: { code: string; message: string } }) =>
          cause === undefined ? code : `${cause.code}: ${cause.message}`,
        ),
    ),
  );
}

describe('a batch handler', () => {
  test('gets tasks together, at most batchSize of them, and completes all', async () => {
    const sizes: number[] = [];
    const seen: number[] = [];
    const handler = sum.handleBatch(
      (batch) => {
        sizes.push(batch.length);
        for (const input of batch.inputs) seen.push(input);
      },
      { batchSize: 4 },
    );
    const worker = await client.work([handler]);
    const tasks = await client.enqueueMany(sum, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await ends(tasks)).toEqual(Array.from({ length: 10 }));
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(Math.max(...sizes)).toBe(4);
    expect(worker.completed).toBe(10);
  });

  test('may return one result for each', async () => {
    await client.work([sum.handleBatch(async (batch) => batch.inputs.map((input) => input * 2))]);
    expect(await ends(await client.enqueueMany(sum, [1, 2, 3]))).toEqual([2, 4, 6]);
  });

  test('reads inputs one by one, as bytes, and by iteration', async () => {
    const read: unknown[] = [];
    await client.work([
      sum.handleBatch((batch) => {
        read.push(batch.input(1), Buffer.from(batch.bytes(0)).toString(), batch.id(1), [...batch]);
        expect(() => batch.input(2)).toThrow(/no task 2: the batch has 2/);
      }),
    ]);
    const tasks = await client.enqueueMany(sum, [7, 8]);
    await ends(tasks);
    expect(read).toEqual([8, '7', tasks.ids.at(1), [7, 8]]);
  });

  test('fails single tasks, and the others complete', async () => {
    await client.work([sum.handleBatch((batch) => batch.fail(1, new Error('not this one')))]);
    expect(await ends(await client.enqueueMany(sum, [1, 2, 3]))).toEqual([
      undefined,
      'HANDLER_FAILED: not this one',
      undefined,
    ]);
  });

  test('that throws fails all that it did not fail itself', async () => {
    await client.work([
      sum.handleBatch(async (batch) => {
        batch.fail(0, 'first');
        throw new Error('all');
      }),
    ]);
    expect(await ends(await client.enqueueMany(sum, [1, 2]))).toEqual(['HANDLER_FAILED: first', 'HANDLER_FAILED: all']);
  });

  test('that returns the wrong number of results fails all', async () => {
    await client.work([sum.handleBatch((batch) => batch.inputs.slice(1))]);
    const [first] = await ends(await client.enqueueMany(sum, [1, 2]));
    expect(first).toMatch(/returned 1 results for 2 tasks/);
  });

  test('that meets an unreadable input loses that task alone', async () => {
    const checked = defineTask('checked', { input: z.number(), maxAttempts: 1 });
    const sums: number[] = [];
    await client.work([
      checked.handleBatch((batch) => void sums.push(batch.inputs.reduce((total, input) => total + input, 0))),
    ]);
    const tasks = await client.enqueueMany('checked', [1, 'two', 3], { maxAttempts: 1 });
    expect(await ends(tasks)).toEqual([undefined, expect.stringContaining('INVALID_PAYLOAD'), undefined]);
    expect(sums.reduce((total, each) => total + each, 0)).toBe(4);
  });

  test('never runs more tasks than `concurrency`', async () => {
    const gate = new Gate();
    let running = 0;
    let most = 0;
    const handler = sum.handleBatch(
      async (batch) => {
        running += batch.length;
        most = Math.max(most, running);
        await gate.opened;
        running -= batch.length;
      },
      { batchSize: 3 },
    );
    const worker = await client.work([handler], { concurrency: 5 });
    const tasks = await client.enqueueMany(
      sum,
      Array.from({ length: 20 }, (_, index) => index),
    );
    await settle();
    expect(worker.running).toBe(most);
    gate.open();
    await ends(tasks);
    expect(most).toBeLessThanOrEqual(5);
  });

  test('that runs past its timeout fails all its tasks', async () => {
    let aborted = false;
    const handler = sum.handleBatch(async (batch) => {
      batch.signal.addEventListener('abort', () => {
        aborted = true;
      });
      await new Promise(() => {});
    });
    await client.work([handler]);
    const tasks = await client.enqueueMany(sum, [1, 2], { timeoutMs: 1000 });
    await settle();
    clock.advance(1000);
    const [first, second] = await ends(tasks);
    expect([first, second]).toEqual([expect.stringContaining('TASK_TIMEOUT'), expect.stringContaining('TASK_TIMEOUT')]);
    expect(aborted).toBe(true);
  });
});
