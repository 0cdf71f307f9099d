import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../src/index.ts';
import { type Portion, sharedPostgres, sharedRabbit } from '../support/services.ts';

const main = resolve(import.meta.dirname, '../../dist/cli/main.js');
const examples = resolve(import.meta.dirname, '../../examples');
const TIMEOUT_MS = 180_000;

const rabbit = await sharedRabbit();
const database = await sharedPostgres();
const python = ['python3', '/usr/bin/python3'].find((program) => works(program, ['-c', 'import pika']));
const hasShellTools = works('amqp-publish', ['--help']) && works('amqp-get', ['--help']);
const hasCpp = works('g++', ['--version']) && works('sh', ['-c', 'test -e /usr/include/amqp.h']);

describe.skipIf(rabbit === undefined)('programs over RabbitMQ', () => {
  let place: Portion;
  beforeEach(async () => {
    place = await (rabbit as NonNullable<typeof rabbit>).vhost();
  });
  afterEach(() => place.drop());

  const run = async (program: string, args: readonly string[]): Promise<string> => {
    const options = { env: { ...process.env, AMQP_URL: place.url, CI: '' }, timeout: TIMEOUT_MS };
    return (await promisify(execFile)(program, args, options)).stdout;
  };

  /** A worker of the queue that the examples use, which gathers the payloads. */
  const collect = async (count: number): Promise<{ client: Client; all: Promise<unknown[]> }> => {
    const client = await connect(place.url);
    const payloads: unknown[] = [];
    const all = new Promise<unknown[]>((done) => {
      void client.work(
        {
          'report.build': (payload: unknown) => {
            payloads.push(payload);
            if (payloads.length === count) done(payloads);
          },
        },
        { queues: ['reports'], concurrency: 50 },
      );
    });
    // The queue is there when a task of ours is.
    await client.enqueue('report.build', { first: true }, { queue: 'reports' });
    return { client, all };
  };

  test(
    'a demo ends with nothing lost, and takes its queue away',
    async () => {
      const flags = ['--tasks', '200', '--dead-share', '0.01', '--task-time-ms', '1', '--json'];
      const report = JSON.parse(await run(process.execPath, [main, 'demo', '--url', place.url, ...flags]));
      expect(report).toMatchObject({ enqueued: 800, lost: 0, duplicated: 0 });
      expect(report.completed + report.dead).toBe(800);
    },
    TIMEOUT_MS,
  );

  test.skipIf(database === undefined)(
    'a demo with a store ends with nothing lost, and its latencies are known',
    async () => {
      const store = await (database as NonNullable<typeof database>).database();
      const flags = ['--tasks', '200', '--dead-share', '0.01', '--task-time-ms', '1', '--json'];
      const all = [main, 'demo', '--url', place.url, '--store', store.url, ...flags];
      const report = JSON.parse(await run(process.execPath, all));
      expect(report).toMatchObject({ enqueued: 800, lost: 0, duplicated: 0 });
      expect(report.latencyMs.start.count).toBeGreaterThan(0);
      await store.drop();
    },
    TIMEOUT_MS,
  );

  test.skipIf(python === undefined)(
    'ten thousand tasks of a Python program are run by our worker, and it runs ours',
    async () => {
      const { client, all } = await collect(10_001);
      await run(python as string, [join(examples, 'python/producer.py'), '10000']);
      const numbers = new Set((await all).map((payload) => (payload as { number?: number }).number));
      expect(numbers.size).toBe(10_001);
      await client.close();
      const producer = await connect(place.url);
      await producer.enqueueMany('report.build', [{ month: '2026-11' }, { month: '2026-12' }], { queue: 'reports' });
      await producer.close();
      const said = await run(python as string, [join(examples, 'python/consumer.py'), '2']);
      expect(said.trim().split('\n').sort()).toEqual(['report of 2026-11', 'report of 2026-12']);
    },
    TIMEOUT_MS,
  );

  test.skipIf(!hasShellTools)(
    'amqp-publish and amqp-get put a task in and take one out',
    async () => {
      const { client, all } = await collect(2);
      await run('sh', [join(examples, 'shell/publish.sh'), '{"month": "2026-11"}']);
      expect(await all).toContainEqual({ month: '2026-11' });
      await client.close();
      const producer = await connect(place.url);
      await producer.enqueue('report.build', { month: '2026-12' }, { queue: 'reports' });
      await producer.close();
      const said = JSON.parse(await run('sh', [join(examples, 'shell/get.sh')]));
      expect(said).toMatchObject({ task: 'report.build', payload: { month: '2026-12' } });
    },
    TIMEOUT_MS,
  );

  test.skipIf(!hasCpp)(
    'a C++ program puts tasks in and takes tasks out',
    async () => {
      const directory = await mkdtemp(join(tmpdir(), 'millrace-example-'));
      const tasks = join(directory, 'tasks');
      await run('g++', ['-std=c++17', '-O2', '-o', tasks, join(examples, 'cpp/tasks.cpp'), '-lrabbitmq']);
      const { client, all } = await collect(101);
      await run(tasks, ['send', '100']);
      expect(new Set((await all).map((payload) => (payload as { number?: number }).number)).size).toBe(101);
      await client.close();
      const producer = await connect(place.url);
      await producer.enqueue('report.build', { month: '2026-12' }, { queue: 'reports' });
      await producer.close();
      expect(JSON.parse(await run(tasks, ['work', '1']))).toMatchObject({ payload: { month: '2026-12' } });
      await rm(directory, { recursive: true });
    },
    TIMEOUT_MS,
  );
});

/** Whether a program is here and does what it says it does. */
function works(program: string, args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
