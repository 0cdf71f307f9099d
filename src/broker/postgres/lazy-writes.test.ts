import { expect, test } from 'vitest';
import type { Database } from './database.ts';
import { LazyWrites } from './lazy-writes.ts';

test('what is gathered is written in the order of its keys, with the last value of each', async () => {
  const database = { closed: false, pause: async () => {} } as unknown as Database;
  const written: [string, number][][] = [];
  const writes = new LazyWrites<number>(database, async (items) => void written.push([...items]));
  for (const [value, key] of ['c', 'a', 'b', 'a'].entries()) writes.add(key, value);
  await writes.flushed();
  expect(written).toEqual([
    [
      ['a', 3],
      ['b', 2],
      ['c', 0],
    ],
  ]);
});
