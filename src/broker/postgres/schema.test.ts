import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { MIGRATIONS } from './schema.ts';

/** A server of each kind that the steps tell apart. */
const SERVERS = [120_000, 130_000];

test('the steps that make the tables are what they were when they were released', () => {
  const hashes = MIGRATIONS.map(({ name, statements }) => {
    const text = SERVERS.map((version) => statements(version).join(';\n')).join('\n\n');
    return [name, createHash('sha256').update(text).digest('hex').slice(0, 16)];
  });
  // Never corrected here: tables that are there already were made by the step as it was. Whoever changes a constant that
  // one of these texts contains adds a step that replaces what was made with it.
  expect(hashes).toEqual([
    ['tasks, queues, workers, outbox', 'd87585903267dbf0'],
    ['schedules', 'af235f128a0468ea'],
    ['logs of tasks', '2486a6cde86eec76'],
    ['dependencies, unique keys', '48cdf08e1c312dda'],
    ['event streams', 'bb2b6b3b8f47ae56'],
    ['headers of tasks', '4aff6ae4069c401c'],
    ['supervisors of workers', '70a35c226bc36763'],
    ['every cancelled task is remembered', 'f09f7f92185aa3e3'],
  ]);
});
