import { expect, test } from 'vitest';
import { connect, LIMITS } from '../../src/index.ts';

test('results may begin a new segment while nobody enqueues', async () => {
  const client = await connect('memory:', { embedded: { segmentBytes: LIMITS.segmentBytesMin } });
  const tasks = await client.enqueueMany('report', Array.from({ length: 40 }));
  const page = 'x'.repeat(100_000);
  await client.work({ report: () => page }, { concurrency: 1 });
  await client.task(tasks.ids.at(39)).result();
  const { queues } = await client.status();
  expect(queues[0]?.totals.completed).toBe(40);
  await client.close();
});
