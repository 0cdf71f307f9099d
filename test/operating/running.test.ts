import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Client, TaskInfo } from '../../src/index.ts';
import { Deferred, until } from '../conformance/events.ts';
import type { RunningCommand } from '../support/command.ts';
import { Kitchen } from './kitchen.ts';
import { Load } from './load.ts';
import { recipe, recipeTitles } from './recipe.ts';

// Each test starts several processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const HOUR_MS = 3_600_000;

let kitchen: Kitchen;
let server: RunningCommand;
let client: Client;

beforeAll(async () => {
  kitchen = new Kitchen({
    environment: { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'programs/clock.mjs')}` },
  });
  server = await kitchen.server();
  client = await kitchen.connect();
});

afterAll(async () => {
  await kitchen.clear();
});

async function allOf(queue: string): Promise<TaskInfo[]> {
  const tasks: TaskInfo[] = [];
  for (let after: string | undefined; ; ) {
    const page = await client.tasks.list({ queue, after, limit: 1000 });
    tasks.push(...page.tasks);
    if (page.next === undefined) return tasks;
    after = page.next;
  }
}

async function inOrder(command: RunningCommand, signal: NodeJS.Signals): Promise<void> {
  command.signal(signal);
  expect(await command.exited).toMatchObject({ code: 0, stderr: '' });
}

test('every recipe of docs/operating.md has a test', () => {
  const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts'));
  const code = files.map((name) => readFileSync(join(import.meta.dirname, name), 'utf8')).join('\n');
  const cooked = [...code.matchAll(/^recipe\(\s*'([^']*)'/gm)].map(([, title]) => title);
  expect(cooked.toSorted()).toEqual(recipeTitles.toSorted());
});

recipe(
  'Restart the server and its workers under load',
  () => kitchen,
  async (page) => {
    const before = await Promise.all(['a', 'b'].map((name) => kitchen.worker(workerOf(name))));
    // One attempt each: a task that is charged for a restart would end dead.
    const load = new Load(client, 'send', { queue: 'mail', maxAttempts: 1 });
    await load.more(100);

    page.take('kill -TERM $SERVER');
    await inOrder(server, 'SIGTERM');
    server = await page.server('millrace server');
    await load.more(100);

    const start = page.take('millrace worker');
    page.take('kill -TERM $WORKER');
    for (const old of before) {
      await kitchen.worker(start);
      await inOrder(old, 'SIGTERM');
      await load.more(50);
    }
    await load.stop();

    const { totals } = await until(
      () => client.queue('mail').status(),
      (queue) => queue.totals.completed + queue.totals.dead === load.count,
      'the end of everything that was acknowledged',
    );
    expect(totals).toMatchObject({ enqueued: load.count, completed: load.count, failed: 0, dead: 0 });
    const tasks = await allOf('mail');
    expect(tasks.map(({ id }) => id).toSorted()).toEqual(load.acknowledged.all.map(({ id }) => id).toSorted());
    expect(tasks.filter(({ attempt, failures }) => attempt !== 1 || failures.length > 0)).toEqual([]);
    const keys = load.acknowledged.all.map(({ key }) => key).toSorted();
    for (const what of ['begun', 'ended'] as const) {
      expect(keysOf(what), what).toEqual(keys);
    }
  },
);

function workerOf(name: string): string {
  return `millrace worker --handlers ./handlers.js --queues mail --name ${name} --log-file off`;
}

function keysOf(what: 'begun' | 'ended'): string[] {
  const runs = kitchen.runs().filter((run) => run.what === what && run.key.startsWith('k'));
  return runs.map(({ key }) => key).toSorted();
}

recipe(
  'Drain a queue before maintenance',
  () => kitchen,
  async (page) => {
    const begun = new Deferred();
    const go = new Deferred();
    const worker = await client.work(
      {
        index: async () => {
          begun.resolve();
          await go.promise;
        },
      },
      { queues: ['search'], concurrency: 1 },
    );
    await client.enqueue('index', 1, { queue: 'search' });
    await begun.promise;
    await page.run('millrace queue pause');
    const waiting = await client.enqueue('index', 2, { queue: 'search' });
    await page.run('millrace queue list');
    go.resolve();
    await until(
      () => client.queue('search').status(),
      ({ active, ready }) => active === 0 && ready === 1,
      'the end of what ran',
    );
    await page.run('millrace queue resume');
    await waiting.result();
    await worker.stop();
  },
);

recipe(
  'A worker hangs',
  () => kitchen,
  async (page) => {
    const hanging = await kitchen.worker(
      'millrace worker --handlers ./handlers.js --queues thumbs --name w7 --log-file off',
    );
    const task = await client.enqueue('hang', { key: 'hung' }, { queue: 'thumbs', backoff: { delayMs: 0 } });
    await until(
      async () => kitchen.runs(),
      (runs) => runs.some(({ key }) => key === 'hung'),
      'the first attempt',
    );
    const worker = await client.work({ hang: (_, { attempt }) => attempt }, { queues: ['thumbs'] });
    const { stdout } = await page.run('millrace task list');
    expect(stdout).toContain(task.id);
    page.take('kill -KILL $WORKER');
    await hanging.kill();
    expect(await task.result()).toBe(2);
    const { failures } = await task.info();
    expect(failures.map(({ error }) => error.code)).toEqual(['WORKER_LOST']);
    await worker.stop();
  },
);

/** Sets the clock of the machine that the servers run on. */
function setClock(wrongByMs: number): void {
  writeFileSync(join(kitchen.directory, 'clock'), String(wrongByMs));
  server.signal('SIGUSR2');
}

recipe(
  'The clock is wrong',
  () => kitchen,
  async (page) => {
    const inQueue = { queue: 'clock' };
    const later = await client.enqueue('later', null, { ...inQueue, delayMs: HOUR_MS });
    const dated = await client.enqueue('dated', null, { ...inQueue, runAt: Date.now() + HOUR_MS });
    await client.schedule('nightly', { everyMs: HOUR_MS, task: 'tick', ...inQueue });
    const nightly = () => client.schedules.get('nightly');

    // Ahead by a day while the server runs: what goes by the clock is due, once; a delay is what it was.
    setClock(24 * HOUR_MS);
    await until(nightly, ({ firedCount }) => firedCount === 1, 'one firing for all that were missed');
    await until(
      () => dated.info(),
      ({ state }) => state === 'ready',
      'the task that was due at a time',
    );
    expect(await later.info()).toMatchObject({ state: 'scheduled' });

    // Right again: no time of a schedule comes twice, unless it is told to begin from now.
    setClock(0);
    expect((await nightly()).nextAtMs).toBeGreaterThan(Date.now() + 24 * HOUR_MS);
    await page.run('millrace schedule pause');
    await page.run('millrace schedule resume');
    expect(await nightly()).toMatchObject({ firedCount: 1 });
    expect((await nightly()).nextAtMs).toBeLessThan(Date.now() + 2 * HOUR_MS);

    // A server that begins while the clock is behind: what is left of a delay is longer by as much.
    page.take('kill -TERM $SERVER');
    await inOrder(server, 'SIGTERM');
    writeFileSync(join(kitchen.directory, 'clock'), String(-24 * HOUR_MS));
    server = await page.server('millrace server');
    setClock(0);
    expect(await later.info()).toMatchObject({ state: 'scheduled' });
    await page.run('millrace task retry', { names: { '1-2rk': later.id } });
    expect(await later.info()).toMatchObject({ state: 'ready' });
  },
);
