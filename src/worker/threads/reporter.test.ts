import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import type { DeliveryRun, TaskSpec } from '../../broker/contract.ts';
import { LIMITS } from '../../limits.ts';
import { defineTask } from '../../task/definition.ts';
import type { TaskHandler } from '../../task/handler.ts';
import { indexHandlers } from '../options.ts';
import { Runner } from '../runner.ts';
import { GroupBuilder, type GroupRun, readGroup } from './group.ts';
import { Marks } from './marks.ts';
import type { Report } from './messages.ts';
import { Reporter } from './reporter.ts';

let ports: { port1: MessagePort; port2: MessagePort };
let reporter: Reporter;
let clock: ManualClock;

beforeEach(() => {
  clock = new ManualClock();
  ports = new MessageChannel();
  reporter = new Reporter(ports.port2, new Marks(), clock, 1);
});

afterEach(() => {
  ports.port1.close();
});

/** Of one task, in the thread's runner. */
function deliver(handler: TaskHandler): { runner: Runner; task: GroupRun } {
  const spec = { queue: 'q', name: 'n', timeoutMs: 60_000, maxAttempts: 1 } as TaskSpec;
  const of = {
    spec,
    attempt: 1,
    enqueuedAtMs: 0,
    suspect: false,
    length: 1,
    id: () => '1-1',
    headers: () => undefined,
  };
  const group = new GroupBuilder();
  group.add({ ...of, bytes: () => Buffer.from('1') } as unknown as DeliveryRun, 0, 1, 1);
  const [task] = readGroup(group.build()) as [GroupRun];
  const runner = new Runner({
    ...{ clock, consumption: reporter, parents: async () => [], concurrency: 1, gate: reporter },
    ...{ handlers: indexHandlers([handler]) },
    ...{ logger: undefined, hooks: undefined, tracing: undefined, sealing: undefined },
  });
  runner.deliver(task);
  return { runner, task };
}

/** All that is told up to the next turn but one. */
async function reports(): Promise<Report[]> {
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const told: Report[] = [];
  for (let next = receiveMessageOnPort(ports.port1); next !== undefined; next = receiveMessageOnPort(ports.port1)) {
    told.push(next.message as Report);
  }
  return told;
}

test('a handler that ends because its lease is lost is told of, also before it was told that it runs', async () => {
  const untilAborted = (signal: AbortSignal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const { runner, task } = deliver(defineTask('n').handle((_, { signal }) => untilAborted(signal)));
  runner.revoke(task, 0, 'lease-lost');
  reporter.lost(task, 0);
  const told = await reports();
  expect(told.flatMap(({ entered }) => entered)).toEqual([]);
  expect(told.flatMap(({ dropped, ended }) => [...dropped, ...ended])).toEqual([1]);
});

test('of a result that is a part of more memory only that part crosses', async () => {
  const memory = new Uint8Array(1024).fill(7);
  deliver(defineTask('n', { result: 'bytes' }).handle(() => memory.subarray(10, 12)));
  const [{ number, bytes } = { number: 0, bytes: memory }] = (await reports()).flatMap(
    ({ byteResults }) => byteResults,
  );
  expect({ number, bytes: [...bytes], memory: bytes.buffer.byteLength }).toEqual({
    number: 1,
    bytes: [7, 7],
    memory: 2,
  });
});

test('results that are large together are told before the turn is over', () => {
  const half = 'x'.repeat(LIMITS.threadGroupBytesMax / 2);
  deliver(defineTask('n').handle(() => half));
  expect(receiveMessageOnPort(ports.port1)).toBeUndefined();
  deliver(defineTask('n').handle(() => half));
  const { message } = receiveMessageOnPort(ports.port1) as { message: Report };
  expect(message.results?.text).toHaveLength(LIMITS.threadGroupBytesMax + 4);
});
