import { afterEach, beforeEach, expect, test } from 'vitest';
import { defineTask, type TaskContext } from '../../src/index.ts';
import { type TestQueue, testQueue } from '../../src/testing/test-queue.ts';

// What is tested: a reminder a day after the sign-up, and a mail server that is not always there.
const remind = defineTask<{ to: string }, string>('remind', {
  maxAttempts: 3,
  backoff: { type: 'fixed', delayMs: 60_000, jitter: false },
});
const sent: string[] = [];
let mailServerIsUp = true;

async function sendReminder({ to }: { to: string }, ctx: TaskContext): Promise<string> {
  if (!mailServerIsUp) throw new Error('connect ECONNREFUSED');
  sent.push(to);
  return `in attempt ${ctx.attempt}`;
}

let queue: TestQueue;

beforeEach(async () => {
  sent.length = 0;
  mailServerIsUp = true;
  queue = await testQueue();
  await queue.client.work([remind.handle(sendReminder)]);
});

afterEach(() => queue.close());

test('a reminder is sent after a day, and not before', async () => {
  await queue.client.enqueue(remind, { to: 'ada' }, { delayMs: 86_400_000 });
  await queue.advance('23h');
  expect(sent).toEqual([]);
  await queue.advance('1h');
  expect(sent).toEqual(['ada']);
});

test('a mail server that is down is tried again a minute later', async () => {
  mailServerIsUp = false;
  const task = await queue.client.enqueue(remind, { to: 'ada' });
  expect(await queue.drain({ allowFailures: true })).toMatchObject({ completed: 0, failed: 1, dead: 0 });
  mailServerIsUp = true;
  expect(await queue.advance('1m')).toMatchObject({ completed: 1, failed: 0 });
  expect(await task.result()).toBe('in attempt 2');
});

test('everything that is due runs without a failure', async () => {
  await queue.client.enqueueMany(remind, [{ to: 'ada' }, { to: 'grace' }]);
  expect(await queue.drain()).toMatchObject({ completed: 2, ready: 0 });
});
