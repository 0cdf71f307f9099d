import { expect, test } from 'vitest';
import { closeInMemory, Gate, openInMemory } from '../../../test/support/embedded.ts';
import { LIMITS } from '../../limits.ts';

test('lines beyond what may be gathered in a turn are counted, not kept', async () => {
  const { client, clock } = await openInMemory();
  const logged = new Gate();
  const line = 'x'.repeat(LIMITS.taskLogLineBytesMax);
  const tasks = Math.ceil(LIMITS.unsentLogBytesMax / LIMITS.taskLogLineBytesMax / LIMITS.taskLogLinesMax) + 10;
  let running = 0;
  await client.work(
    {
      chatty: async (_input, ctx) => {
        if (++running === tasks) logged.open();
        await logged.opened;
        for (let count = 0; count < LIMITS.taskLogLinesMax; count++) ctx.log(line);
      },
    },
    { concurrency: tasks },
  );
  const batch = await client.enqueueMany('chatty', Array(tasks).fill(0));
  await batch.results();
  const logs = [];
  for (const { id } of batch) logs.push((await client.tasks.get(id)).log);
  const kept = logs.reduce((sum, log) => sum + (log?.lines.length ?? 0), 0);
  const dropped = logs.reduce((sum, log) => sum + (log?.dropped ?? 0), 0);
  expect(kept).toBe(LIMITS.unsentLogBytesMax / LIMITS.taskLogLineBytesMax);
  expect(kept + dropped).toBe(tasks * LIMITS.taskLogLinesMax);
  await closeInMemory(client, clock);
});
