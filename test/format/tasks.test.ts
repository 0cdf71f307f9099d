import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RECORD } from '../../src/engine/records.ts';
import { dump } from '../../src/journal/dump.ts';
import { closeInMemory } from '../support/embedded.ts';
import {
  GOLDEN,
  GOLDEN_MS,
  type GoldenState,
  goldenDisk,
  lookAt,
  openGolden,
  writeGolden,
} from '../support/golden-tasks.ts';
import { settle } from '../support/scripted-server.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { memoryDirectory } from '../twins/memory-disk.ts';

const DAY_MS = 86_400_000;
const SECONDS_MAX = 60;
const ENDED = ['completed', 'dead', 'cancelled'];
/** Of each file: what an earlier version wrote stays as it is. */
const SHA256: Readonly<Record<string, string>> = { '0000000003.segment': '00493377e5f2a6f2' };

if (process.env.MILLRACE_WRITE_GOLDEN === '1' && !existsSync(GOLDEN)) await writeGolden();

const expected = JSON.parse(readFileSync(join(GOLDEN, 'expected.json'), 'utf8')) as GoldenState;

test('the tasks of format 1 are what they were, and have every type of record', async () => {
  const segments = readdirSync(GOLDEN).filter((name) => name.endsWith('.segment'));
  const hashes = segments.map((name) => [
    name,
    createHash('sha256')
      .update(readFileSync(join(GOLDEN, name)))
      .digest('hex')
      .slice(0, 16),
  ]);
  expect(Object.fromEntries(hashes)).toEqual(SHA256);
  const types = new Set<number>();
  await dump(memoryDirectory(), goldenDisk(), {
    record: ({ type }) => types.add(type),
    damage: ({ file, offset }) => expect.unreachable(`${file} is damaged at ${offset}`),
    pause: async () => {},
  });
  expect(Object.entries(RECORD).filter(([, type]) => !types.has(type))).toEqual([]);
});

test('a data directory of format 1 has all that was in it', async () => {
  const { client } = await openGolden(goldenDisk(), new ManualClock(GOLDEN_MS));
  expect(await lookAt(client)).toMatchObject(expected);
  await client.close();
});

test('a data directory of format 1 goes on', async () => {
  // When all that waits for a time is due.
  const clock = new ManualClock(GOLDEN_MS + 31 * DAY_MS);
  const { client } = await openGolden(goldenDisk(), clock);
  const ran: string[] = [];
  await client.work({ '*': (_, { id }) => void ran.push(id) }, { queues: ['held', 'images', 'mail'] });
  await client.queue('held').resume();
  const written = await client.enqueue('today', null, { queue: 'held' });
  await written.result();
  const waiting = expected.tasks.filter(({ state }) => !ENDED.includes(state as string)).map(({ id }) => id as string);
  expect(waiting.length).toBeGreaterThan(10);
  const unended = async () => {
    const tasks = await Promise.all(waiting.map((id) => client.tasks.get(id)));
    return tasks.filter(({ state }) => !ENDED.includes(state)).map(({ id, name, state }) => `${id} ${name} ${state}`);
  };
  // Limits and backoffs take their time.
  for (let second = 0; second < SECONDS_MAX && (await unended()).length > 0; second++) {
    clock.advance(1000);
    await settle();
  }
  expect(await unended()).toEqual([]);
  const bytes = expected.tasks.filter(({ name }) => name === 'bytes').map(({ id }) => id);
  // Those are no JSON, which this handler takes.
  expect(ran.filter((id) => waiting.includes(id)).toSorted()).toEqual(
    waiting.filter((id) => !bytes.includes(id)).toSorted(),
  );
  await closeInMemory(client, clock);
});
