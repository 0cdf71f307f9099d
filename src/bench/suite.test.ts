import { expect, test } from 'vitest';
import { ledgerOf, toRows } from './suite.ts';
import type { RunResult } from './workload.ts';

const SCENARIO = {
  title: 'enqueue to handler start',
  figures: [
    { row: 5, name: 'p50', title: 'p50', unit: 'ms', goal: { value: 0.15, better: 'lower' } },
    { row: 5, name: 'p99', title: 'p99', unit: 'ms' },
  ],
} as const;
const GOOD: RunResult = { values: [0.1, 2], fsyncs: 10, lost: 0, duplicated: 0 };

test('a row has the median of its runs, and says whether it reached its goal', () => {
  const [p50, p99] = toRows(SCENARIO, [
    GOOD,
    { ...GOOD, values: [0.2, 4], fsyncs: 30 },
    { ...GOOD, values: [0.16, 3] },
  ]);
  expect(p50).toMatchObject({ median: 0.16, min: 0.1, max: 0.2, runs: 3, fsyncs: 10, reached: false });
  expect(p99).toMatchObject({ median: 3, min: 2, max: 4 });
  expect(p99).not.toHaveProperty('reached');
});

test('runs that lost everything give no row, and their ledger tells it all the same', () => {
  const lost: RunResult = { values: [null, null], fsyncs: 3, lost: 500, duplicated: 0 };
  expect(toRows(SCENARIO, [lost])).toEqual([]);
  expect(ledgerOf(SCENARIO, [lost, { ...GOOD, duplicated: 2 }])).toEqual({
    name: 'enqueue to handler start',
    lost: 500,
    duplicated: 2,
  });
});
