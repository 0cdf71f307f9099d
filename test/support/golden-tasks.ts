import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { QueueStatus, ScheduleInfo, TaskInfo } from '../../src/broker/contract.ts';
import type { Client } from '../../src/client/client.ts';
import { HEADER_BYTES, recordBytes } from '../../src/journal/format.ts';
import { LIMITS } from '../../src/limits.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { MemoryDisk, memoryDirectory } from '../twins/memory-disk.ts';
import { openOnDisk } from './embedded.ts';
import { settle } from './scripted-server.ts';

/** A data directory written by the first release of format 1 and never since: tasks in every state, and all that a queue keeps. */
export const GOLDEN = join(import.meta.dirname, '../format/journal-v1-tasks');
/** When it was made: a later server would have forgotten what had ended. */
export const GOLDEN_MS = Date.UTC(2026, 0, 15, 12);

const HOUR_MS = 3_600_000;
/** Not due when the directory was made, nor soon after. */
const OFTEN_MS = 50 * 60_000;
const segmentBytes = LIMITS.segmentBytesMin;
const DIRECTORY = memoryDirectory();

/** What a client sees of everything that is there, but for what depends on when it looks. */
export interface GoldenState {
  readonly tasks: readonly Partial<TaskInfo>[];
  readonly queues: readonly Partial<QueueStatus>[];
  readonly schedules: readonly Partial<ScheduleInfo>[];
}

export async function lookAt(client: Client): Promise<GoldenState> {
  const { tasks } = await client.tasks.list({ limit: LIMITS.listPageMax });
  const { queues } = await client.status();
  const schedules = await client.schedules.list();
  return {
    tasks: await Promise.all(tasks.map(({ id }) => client.tasks.get(id))),
    queues: queues.map(({ oldestReadyMs: _, heldUpBy: __, ...queue }) => queue),
    schedules: await Promise.all(schedules.map(({ name }) => client.schedules.get(name))),
  };
}

export function goldenDisk(): MemoryDisk {
  const disk = new MemoryDisk();
  for (const name of readdirSync(GOLDEN)) {
    if (name.endsWith('.segment')) disk.put(`${DIRECTORY}/${name}`, readFileSync(join(GOLDEN, name)));
  }
  return disk;
}

export function openGolden(disk: MemoryDisk, clock: ManualClock): Promise<{ client: Client }> {
  return openOnDisk(disk, { segmentBytes }, clock);
}

/** How the directory came to be. Its last server was killed. */
export async function writeGolden(): Promise<void> {
  if (existsSync(GOLDEN)) throw new Error(`${GOLDEN} is there: what earlier versions wrote is never written anew`);
  const clock = new ManualClock(GOLDEN_MS - 2 * HOUR_MS);
  const disk = new MemoryDisk();
  const { client } = await openOnDisk(disk, { segmentBytes }, clock);
  await fillFirst(client, clock);
  await giveUpFirstSegment(client, clock, disk);
  await fillSecond(client, clock);
  const names = disk.names(DIRECTORY).filter((name) => name.endsWith('.segment'));
  const files = names.map((name) => ({ name, bytes: Buffer.from(disk.bytes(`${DIRECTORY}/${name}`)) }));
  mkdirSync(GOLDEN, { recursive: true });
  for (const { name, bytes } of files) {
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
    if (end > 0) writeFileSync(join(GOLDEN, name), bytes.subarray(0, recordBytes(end - HEADER_BYTES)));
  }
  const { client: later } = await openGolden(goldenDisk(), new ManualClock(GOLDEN_MS));
  const seen = await lookAt(later);
  writeFileSync(join(GOLDEN, 'expected.json'), `${JSON.stringify(seen, undefined, 2)}\n`);
}

const KEEP = { completedAgeMs: LIMITS.delayMsMax, deadAgeMs: LIMITS.delayMsMax };
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

/** Tasks that outlive the segment in which they were enqueued. */
async function fillFirst(client: Client, clock: ManualClock): Promise<void> {
  for (const queue of ['mail', 'images', 'held']) await client.queue(queue).retention(KEEP);
  await client.queue('images').limit({
    concurrency: 5,
    rate: { count: 100, periodMs: 1000, burst: 20 },
    concurrencyPerKey: 2,
  });
  await client.queue('held').pause();
  const inMail = { queue: 'mail', backoff: AT_ONCE };
  const worker = await client.work(
    {
      good: (input) => input,
      nothing: () => undefined,
      bad: () => {
        throw thrown(new TypeError('this is not the kind of thing that I eat'));
      },
    },
    { queues: ['mail'] },
  );
  await client.enqueueMany('good', ['first', { second: 2 }, null, 'ü😀'], inMail).then(endOf);
  await client.enqueue('nothing', undefined, inMail).then((task) => task.result());
  await deathOf(await client.enqueue('bad', 1, { ...inMail, maxAttempts: 2 }), clock);
  await deathOf(await client.enqueue('bad', 2, { ...inMail, maxAttempts: 1, priority: 0 }), clock);
  await worker.stop();

  const held = { queue: 'held' };
  await client.enqueue('plain', { text: 'waits' }, held);
  await client.enqueue('bytes', new Uint8Array([0, 255, 128, 7]), held);
  await client.enqueue('full', 'of options', {
    ...held,
    priority: 9,
    maxAttempts: 7,
    timeoutMs: 12_345,
    backoff: { type: 'exponential', delayMs: 250, maxDelayMs: 9000, jitter: true },
    concurrencyKey: 'tenant-a',
    headers: { tenant: 'a', locale: 'de' },
  });
  await client.enqueue('delayed', 'by a day', { ...held, delayMs: 24 * HOUR_MS });
  await client.enqueue('dated', 'on a date', { ...held, runAt: clock.wallMs() + 30 * 24 * HOUR_MS });
  await client.enqueue('unique', 1, { ...held, uniqueKey: 'only-one' });
  await client.enqueue('unique', 2, {
    ...held,
    uniqueKey: { key: 'for-a-week', scope: { forMs: 7 * 24 * HOUR_MS } },
  });
  await client.flow((flow) => {
    const first = flow.add('parent', 'one', held);
    const second = flow.add('parent', 'two', held);
    flow.add('child', 'of both', { ...held, dependsOn: [first, second] });
    flow.add('child', 'of the second, whatever becomes of it', {
      ...held,
      dependsOn: { task: second, onFailure: 'run' },
    });
  });
  const taken = await client.enqueue('taken-back', null, held);
  await taken.cancel();
}

/** Fills segments with tasks that end, until those of the first one are few enough to be copied forward. */
async function giveUpFirstSegment(client: Client, clock: ManualClock, disk: MemoryDisk): Promise<void> {
  const bulk = { queue: 'bulk' };
  await client.queue('bulk').retention({ completedCountMax: 0, completedAgeMs: 0 });
  const worker = await client.work({ filler: () => undefined }, { queues: ['bulk'] });
  const fillers = Array.from({ length: 40 }, () => 'x'.repeat(2000));
  let enqueued = 0;
  while (((await client.status()).journal?.segments ?? 0) < 3) {
    enqueued += (await client.enqueueMany('filler', fillers, bulk)).length;
    while ((await client.queue('bulk').status()).totals.completed < enqueued) await settle();
  }
  await worker.stop();
  while (disk.names(DIRECTORY).includes('0000000001.segment')) {
    clock.advance(1000);
    await settle();
  }
}

/** Records of every type behind that. */
async function fillSecond(client: Client, clock: ManualClock): Promise<void> {
  const held = { queue: 'held' };
  await client.enqueueMany('plain', ['a', 'b', 'c'], { ...held, headers: { batch: 'yes' } });
  await client.schedule('nightly', {
    cron: '30 2 * * *',
    timeZone: 'Europe/Berlin',
    misfire: 'all',
    task: 'report',
    payload: { of: 'the night' },
    queue: 'held',
    priority: 2,
  });
  await client.schedule('often', { everyMs: OFTEN_MS, misfire: 'once', task: 'tick', queue: 'held' });
  await client.schedule('paused', { everyMs: HOUR_MS, misfire: 'skip', task: 'tick', queue: 'held' });
  await client.schedules.pause('paused');
  await client.schedules.runNow('nightly');
  await client.schedule('removed', { everyMs: HOUR_MS, task: 'tick', queue: 'held' });
  await client.schedules.remove('removed');

  // Waits for its second attempt.
  const inImages = { queue: 'images', backoff: { ...AT_ONCE, delayMs: 24 * HOUR_MS } };
  const failing = await client.work(
    {
      resize: () => {
        throw thrown(new RangeError('the picture has no width'));
      },
    },
    { queues: ['images'], name: 'w1' },
  );
  const task = await client.enqueue('resize', { width: 0 }, { ...inImages, concurrencyKey: 'tenant-b' });
  while ((await task.info()).failures.length === 0) await settle();
  const dying = await client.enqueue('resize', { width: -1 }, { ...inImages, maxAttempts: 1 });
  await deathOf(dying, clock);
  const parent = await client.enqueue('resize', { width: -2 }, { ...inImages, maxAttempts: 1 });
  const cancelled = await client.enqueue('child', 'of one that died', { ...held, dependsOn: parent.id });
  while ((await cancelled.info()).state !== 'cancelled') await settle();
  await failing.stop();
  await dying.retry();

  await client.enqueueMany('mistake', [1, 2, 3], held);
  await client.tasks.cancelMany({ name: 'mistake' });
  await client.enqueueMany('purged', [1, 2], { queue: 'bulk' });
  await client.queue('bulk').purge();
  // Schedules fire.
  clock.advance(GOLDEN_MS - clock.wallMs());
  for (let turn = 0; turn < 20; turn++) await settle();
}

/** With a stack that does not say where this was run. */
function thrown(error: Error): Error {
  error.stack = `${error.name}: ${error.message}\n    at resize (handlers.js:12:9)\n    at run (handlers.js:3:5)`;
  return error;
}

async function endOf(batch: Iterable<{ result(): Promise<unknown> }>): Promise<void> {
  for (const task of batch) await task.result();
}

/** Lets the time pass that its backoffs take. */
async function deathOf(task: { info(): Promise<TaskInfo> }, clock: ManualClock): Promise<void> {
  while ((await task.info()).state !== 'dead') {
    clock.advance(1);
    await settle();
  }
}
