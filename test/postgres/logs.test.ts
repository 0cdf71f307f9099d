import { describe, expect, test } from 'vitest';
import type { TaskLog } from '../../src/broker/contract.ts';
import { LIMITS } from '../../src/limits.ts';
import { type Scene, shared, tasks, within } from './scene.ts';

describe.skipIf(shared === undefined)('the log of a task', () => {
  test(
    'has the lines of all its attempts, wherever they ran',
    within(async (scene) => {
      const { id, one, other, log } = await running(scene);
      one.log('w1', id, () => logged(1, ['a', 'b']));
      await expect.poll(log).toEqual(['1 a', '1 b']);
      other.log('w2', id, () => logged(2, ['c']));
      await expect.poll(log).toEqual(['1 a', '1 b', '2 c']);
      one.log('w3', id, () => logged(3, ['d']));
      // What a worker had to say last may come after the next attempt has begun, and takes the place of what it said before.
      one.log('w1', id, () => logged(1, ['a', 'b', 'late']));
      await expect.poll(log).toEqual(['1 a', '1 b', '1 late', '2 c', '3 d']);
    }),
  );

  test(
    'has what two workers said of the same attempt, which was lost by the first',
    within(async (scene) => {
      const { id, one, other, log } = await running(scene);
      one.log('w1', id, () => logged(1, ['begun']));
      await expect.poll(log).toEqual(['1 begun']);
      other.log('w2', id, () => logged(1, ['begun again']));
      await expect.poll(log).toEqual(['1 begun', '1 begun again']);
    }),
  );

  test(
    'keeps the last lines and counts the others once, however often they are written',
    within(async (scene) => {
      const { id, one, other, store } = await running(scene);
      const most = Array.from({ length: LIMITS.taskLogLinesMax }, (_, n) => `line ${n}`);
      const dropped = async () => (await store.getTask(id)).log?.dropped;
      one.log('w1', id, () => logged(1, most, 7));
      await expect.poll(dropped).toBe(7);
      for (const count of [1, 2, 3]) {
        other.log('w2', id, () => logged(2, most.slice(0, count)));
        await expect.poll(dropped).toBe(7 + count);
      }
      const { lines } = (await store.getTask(id)).log as TaskLog;
      expect(lines).toHaveLength(LIMITS.taskLogLinesMax);
      expect(lines[0]).toEqual({ atMs: 1003, attempt: 1, text: 'line 3' });
      expect(lines.at(-1)).toEqual({ atMs: 2002, attempt: 2, text: 'line 2' });
    }),
  );

  test(
    'takes lines that PostgreSQL cannot write as JSON',
    within(async (scene) => {
      const { id, one, log } = await running(scene);
      one.log('w1', id, () => logged(1, ['a\0b', '\ud800', '\ud83d\ude00']));
      one.log('w2', id, () => logged(2, ['c']));
      await expect.poll(log).toEqual(['1 a\ufffdb', '1 \ufffd', '1 \ud83d\ude00', '2 c']);
      one.log('w1', id, () => logged(1, ['plain']));
      await expect.poll(log).toEqual(['1 plain', '2 c']);
    }),
  );
});

function logged(attempt: number, texts: readonly string[], dropped = 0): TaskLog {
  return { lines: texts.map((text, n) => ({ atMs: attempt * 1000 + n, attempt, text })), dropped };
}

async function running(scene: Scene) {
  const [one, other] = [await scene.store(), await scene.store()];
  const [id] = scene.ids(1) as [string];
  await one.insert([tasks([id])]);
  const log = async () => (await one.getTask(id)).log?.lines.map(({ attempt, text }) => `${attempt} ${text}`);
  return { id, one, other, store: one, log };
}
