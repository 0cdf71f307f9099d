import { describe, expect, test } from 'vitest';
import { compare, inTurn, paceOf } from './comparison.ts';

const side = (name: string, order: string[]) => async () => {
  order.push(name);
  return name;
};

describe('a comparison', () => {
  test('begins with the one in one run and with the other in the next, and gives them in the same order', async () => {
    const order: string[] = [];
    for (let run = 0; run < 3; run++) {
      expect(await inTurn(run, side('one', order), side('other', order))).toEqual(['one', 'other']);
    }
    expect(order).toEqual(['one', 'other', 'other', 'one', 'one', 'other']);
  });

  const slow = async () => paceOf(1000, 2e9, { lost: 1, duplicated: 0 }, 3);
  const fast = async () => paceOf(1000, 5e8, { lost: 0, duplicated: 2 }, 4);

  test.each([
    ['times as many', 0.25],
    ['times as long', 4],
  ] as const)('says %s of the first, and adds up what went wrong', async (ratio, times) => {
    for (const run of [0, 1]) {
      const result = await compare(run, ratio, slow, fast);
      expect(result).toEqual({ values: [500, 2000, times], fsyncs: 7, lost: 1, duplicated: 2 });
    }
  });

  test('has no ratio where one side lost too much to have a rate, and no syncs where one side counts none', async () => {
    const lost = async () => paceOf(1000, null, { lost: 1000, duplicated: 0 }, null);
    expect(await compare(0, 'times as many', lost, fast)).toEqual({
      values: [null, 2000, null],
      fsyncs: null,
      lost: 1000,
      duplicated: 2,
    });
  });
});
