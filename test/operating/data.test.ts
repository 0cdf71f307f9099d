import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, vi } from 'vitest';
import { until } from '../conformance/events.ts';
import { GOLDEN, GOLDEN_MS, type GoldenState, lookAt } from '../support/golden-tasks.ts';
import { Kitchen } from './kitchen.ts';
import { Load } from './load.ts';
import { type Recipe, recipe } from './recipe.ts';

// Each test starts several processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let kitchen: Kitchen | undefined;

afterEach(async () => {
  await kitchen?.clear();
  kitchen = undefined;
});

function fresh(world?: ConstructorParameters<typeof Kitchen>[0]): () => Kitchen {
  return () => {
    kitchen = new Kitchen(world);
    return kitchen;
  };
}

recipe('Back up, restore, move to another machine', fresh(), async (page) => {
  const { kitchen } = page;
  const server = await kitchen.server();
  const client = await kitchen.connect();
  const worker = await client.work({ send: () => 'sent' });
  const load = new Load(client, 'send');
  await load.more(200);
  const unattended = await client.enqueueMany('unattended', [1, 2, 3], { queue: 'nobody' });
  const done = await client.enqueue('send', { key: 'done' });
  await done.result();
  const before = load.acknowledged.all.map(({ id }) => id);

  await page.run('millrace journal backup');
  await load.more(50);
  await load.stop();
  await worker.stop();
  // Its machine burns down.
  await server.kill();
  await client.close({ timeoutMs: 0 });

  await page.run('cp -a');
  await page.server('millrace server');
  const again = await kitchen.connect();
  expect((await again.tasks.get(done.id)).state).toBe('completed');
  for (const id of [...before, ...[...unattended].map((task) => task.id)]) {
    expect(['ready', 'completed']).toContain((await again.tasks.get(id)).state);
  }
  const { totals } = await again.queue('default').status();
  expect(totals.enqueued).toBeGreaterThanOrEqual(before.length);
  await again.work({ send: () => 'sent again' });
  await until(
    () => again.queue('default').status(),
    ({ ready, active }) => ready + active === 0,
    'the end of what was in the backup',
  );
});

/**
 * A file system of 40 MiB, on which something else takes 16 until there is a file `room`, seen by the command alone. As an
 * ordinary user where the kernel lets users have file systems of their own.
 */
const SMALL_DISK = [
  'mount -t tmpfs -o size=40m tmpfs data || exit 3',
  'head -c 16777216 /dev/zero > data/other',
  '(until [ -e room ] || ! kill -0 $$; do sleep 0.05; done; rm data/other) >/dev/null 2>&1 &',
  'exec "$@"',
].join('\n');

const OWN_DISKS = ['unshare', '-rm'] as const;

/** Users of some machines may not, and in some containers root may not either. */
function obstacle(): string | undefined {
  const [program, ...args] = [...OWN_DISKS, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()] as const;
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  return status === 0 ? undefined : `no file system of its own can be mounted: ${stderr ?? 'there is no unshare'}`;
}

const disk = { under: [...OWN_DISKS, 'sh', '-c', SMALL_DISK, 'sh'] };

async function fillAndGoOn(page: Recipe): Promise<void> {
  const { kitchen } = page;
  mkdirSync(kitchen.data);
  const server = await kitchen.server();
  const client = await kitchen.connect();
  const payload = 'x'.repeat(900_000);
  const ids: string[] = [];
  const enqueue = (): Promise<string | undefined> =>
    client.enqueue('send', payload, { queue: 'mail' }).then(
      ({ id }) => id,
      (error: { code: string }) => {
        expect(error.code).toBe('DISK_FULL');
        return undefined;
      },
    );
  for (let id = await enqueue(); id !== undefined; id = await enqueue()) ids.push(id);
  await server.said(/the disk is full/);
  const [spared, ...others] = ids;
  expect(others.length).toBeGreaterThan(2);

  // What is there goes on to its end.
  const worker = await client.work({ send: () => 'sent' }, { queues: ['mail'] });
  await Promise.all(ids.map((id) => client.task(id).result()));
  await worker.stop();
  expect(await enqueue()).toBeUndefined();
  await page.run('millrace queue retention');
  await page.run('millrace queue purge');
  expect((await client.tasks.get(spared as string)).state).toBe('completed');

  writeFileSync(join(kitchen.directory, 'room'), '');
  await server.said(/there is room on the disk again/);
  expect(await enqueue()).toBeDefined();
}

recipe('The disk is full', fresh(disk), fillAndGoOn, obstacle());

recipe('The journal is damaged', fresh(), async (page) => {
  const { kitchen } = page;
  const server = await kitchen.server();
  const client = await kitchen.connect();
  const tasks = [];
  for (const to of ['ada', 'bob', 'cyd']) tasks.push(await client.enqueue('send', { to }));
  await client.close();
  server.signal('SIGTERM');
  await server.exited;
  const segment = join(kitchen.data, '0000000001.segment');
  const bytes = readFileSync(segment);
  bytes[bytes.indexOf('"bob"')] ^= 1;
  writeFileSync(segment, bytes);

  await page.run('millrace server', { code: 1 });
  await page.run('millrace journal verify', { code: 1 });
  await page.run('millrace journal repair');
  await page.server('millrace server');
  const again = await kitchen.connect();
  const states = await Promise.all(
    tasks.map(({ id }) =>
      again.tasks.get(id).then(
        ({ state }) => state,
        (error: { code: string }) => error.code,
      ),
    ),
  );
  expect(states).toEqual(['ready', 'NOT_FOUND', 'ready']);
  const worker = await again.work({ send: (input) => input });
  expect(await again.task(tasks[2]?.id as string).result()).toEqual({ to: 'cyd' });
  await worker.stop();
});

const CLOCK = { environment: { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'programs/clock.mjs')}` } };

recipe('Upgrade', fresh(CLOCK), async (page) => {
  const { kitchen } = page;
  cpSync(GOLDEN, kitchen.data, { recursive: true });
  // What it retains is as old as it was on the day on which it was made.
  writeFileSync(join(kitchen.directory, 'clock'), String(GOLDEN_MS - Date.now()));
  await page.run('millrace journal backup');
  page.take('kill -TERM $SERVER');
  await page.server('millrace server');
  const client = await kitchen.connect();
  const expected = JSON.parse(readFileSync(join(GOLDEN, 'expected.json'), 'utf8')) as GoldenState;
  expect(await lookAt(client)).toMatchObject(expected);
  expect(readdirSync(join(kitchen.directory, 'backup', 'before-upgrade')).length).toBeGreaterThan(0);
});
