import { beforeEach, expect, test } from 'vitest';
import type { Consumption, DeliveryRun } from '../broker/contract.ts';
import { SystemClock } from '../io/clock.ts';
import { defineTask } from '../task/definition.ts';
import type { Batch } from '../task/handler.ts';
import { indexHandlers } from './options.ts';
import { Runner } from './runner.ts';

const SPEC = { name: 'n', queue: 'q', maxAttempts: 1, timeoutMs: 60_000 };
const RUN = {
  ...{ length: 2, spec: SPEC, attempt: 1, enqueuedAtMs: 0, suspect: false },
  ...{ id: (index: number) => `1-${index}`, text: () => '1', headers: () => undefined },
} as unknown as DeliveryRun;

let batch: Batch<unknown>;
let runner: Runner;

/** Of one batch, which does not end. */
beforeEach(() => {
  const handler = defineTask('n').handleBatch((given) => {
    batch = given;
    return new Promise(() => {});
  });
  const nothing = { logger: undefined, hooks: undefined, tracing: undefined, sealing: undefined };
  runner = new Runner({
    ...nothing,
    clock: new SystemClock(),
    consumption: { begun: () => {} } as Partial<Consumption> as Consumption,
    parents: async () => [],
    concurrency: 2,
    handlers: indexHandlers([handler]),
  });
  runner.deliver(RUN);
});

test('a batch goes on for as long as one of its tasks is wanted, though another is revoked twice', () => {
  const { signal } = batch;
  expect(runner.revoke(RUN, 0, 'cancelled')).toBe(true);
  expect(runner.revoke(RUN, 0, 'lease-lost')).toBe(true);
  expect(signal.aborted).toBe(false);
  expect(runner.revoke(RUN, 1, 'cancelled')).toBe(true);
  expect(signal.reason).toMatchObject({ code: 'TASK_CANCELLED' });
  expect(runner.running).toBe(2);
  runner.revoke(RUN, 1, 'lease-lost');
  expect(runner.running).toBe(0);
});

test('of what is not here it says so', () => {
  expect(runner.revoke({ ...RUN }, 0, 'lease-lost')).toBe(false);
});
