import { expect, test } from 'vitest';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { Turns } from './turns.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** How many of a hundred pieces of so many milliseconds have been done by the end of each turn. */
async function progress(pieceMs: number): Promise<number[]> {
  const clock = new ManualClock();
  const turns = new Turns(clock);
  const done: number[] = [];
  let count = 0;
  for (let index = 0; index < 100; index++) {
    turns.add(() => {
      clock.advance(pieceMs);
      count++;
    });
  }
  while (count < 100) {
    await turn();
    done.push(count);
  }
  return done;
}

test('a turn does some of what is asked for, and the rest is for the next ones', async () => {
  const done = await progress(0);
  expect(done.at(-1)).toBe(100);
  for (const [index, count] of done.entries()) expect(count - (done[index - 1] ?? 0)).toBeLessThanOrEqual(32);
});

test('a turn does no more than it has time for, one piece at least', async () => {
  expect((await progress(5)).slice(0, 3)).toEqual([1, 2, 3]);
  expect((await progress(1)).slice(0, 3)).toEqual([2, 4, 6]);
});

test('what goes on because of a piece is counted with it, and all have their turn in the order in which they came', async () => {
  const clock = new ManualClock();
  const turns = new Turns(clock);
  const order: string[] = [];
  const work = async (name: string): Promise<void> => {
    for (let step = 1; step <= 3; step++) {
      await turns.next();
      clock.advance(2);
      order.push(`${name}${step}`);
    }
  };
  const all = Promise.all([work('a'), work('b')]);
  await turn();
  expect(order.length).toBeLessThanOrEqual(2);
  await all;
  expect(order).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'b3']);
});
