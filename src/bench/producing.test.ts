import { expect, test } from 'vitest';
import { Outstanding, sendBatches } from './producing.ts';

/** Takes batches, and confirms the oldest when it is told. */
class Receiver {
  readonly calls: number[] = [];
  readonly tasks: number[] = [];
  openMax = 0;
  readonly #open: (() => void)[] = [];

  readonly send = (payloads: number[], call: number): Promise<void> => {
    this.calls.push(call);
    this.tasks.push(...payloads);
    return new Promise((resolve) => {
      this.#open.push(resolve);
      this.openMax = Math.max(this.openMax, this.#open.length);
      setImmediate(() => this.#open.shift()?.());
    });
  };
}

test('each task is sent once, in batches of which only so many are not confirmed', async () => {
  const receiver = new Receiver();
  const span = await sendBatches({
    ...{ first: 5, tasks: 23, batchTasks: 5, callsInFlight: 2, build: (index: number) => index },
    send: receiver.send,
  });
  expect(receiver.tasks).toEqual(Array.from({ length: 23 }, (_, index) => 5 + index));
  expect(receiver.calls).toEqual([0, 1, 2, 3, 4]);
  expect(receiver.openMax).toBe(2);
  expect(span.tasks).toBe(23);
  expect(span.endNs).toBeGreaterThan(span.startNs);
});

test('what was begun in time is confirmed and counted, and no more is begun', async () => {
  const receiver = new Receiver();
  const span = await sendBatches({
    ...{ first: 0, tasks: Number.MAX_SAFE_INTEGER, batchTasks: 3, callsInFlight: 2, build: (index: number) => index },
    ...{ send: receiver.send, forMs: 20 },
  });
  expect(span.tasks).toBe(receiver.tasks.length);
  expect(span.tasks).toBeGreaterThan(0);
});

test('a call that failed among others is not forgotten', async () => {
  const calls = new Outstanding();
  calls.add(Promise.resolve());
  calls.add(Promise.reject(new Error('refused')));
  calls.add(Promise.resolve());
  await new Promise((resolve) => setImmediate(resolve));
  await expect(calls.settled()).rejects.toThrow('refused');
});
