import { expect, test } from 'vitest';
import { testQueue } from '../../src/testing/test-queue.ts';

test('schedules fire at each of their times while the clock is moved over them', async () => {
  const queue = await testQueue();
  const { client } = queue;
  const ran: string[] = [];
  await client.work({ tick: (input) => void ran.push(String(input)) });
  await client.schedule('often', { everyMs: 60_000, task: 'tick', payload: 'minute' });
  await client.schedule('nightly', { cron: '0 3 * * *', timeZone: 'Europe/Berlin', task: 'tick', payload: 'night' });
  await queue.advance('1h');
  expect(ran.filter((what) => what === 'minute')).toHaveLength(60);
  await client.schedules.remove('often');
  await queue.advance('48h');
  expect(ran.filter((what) => what === 'night')).toHaveLength(2);
  await queue.close();
});
