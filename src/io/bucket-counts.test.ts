import { expect, test } from 'vitest';
import { BucketCounts } from './bucket-counts.ts';

const { boundsMs } = BucketCounts;

test('a duration is counted in the first bucket whose bound it does not exceed', () => {
  for (const [index, boundMs] of boundsMs.entries()) {
    const counts = new BucketCounts();
    counts.record(boundMs);
    counts.record(boundMs * 1.001);
    expect(counts.counts[index]).toBe(1);
    expect(counts.counts[index + 1]).toBe(1);
  }
});

test('nothing, and what is longer than any bound, is counted too', () => {
  const counts = new BucketCounts();
  counts.record(0);
  counts.record(10 * 86_400_000);
  expect(counts.counts[0]).toBe(1);
  expect(counts.counts[boundsMs.length]).toBe(1);
  expect(counts.sumMs).toBe(10 * 86_400_000);
});

test('a sample stands for as many as it was taken from', () => {
  const counts = new BucketCounts();
  counts.record(3, 40);
  counts.record(4, 2);
  expect(counts.counts[boundsMs.indexOf(5)]).toBe(42);
  expect(counts.sumMs).toBe(128);
});

test('bounds are in order and reach from a tenth of a millisecond to a day', () => {
  expect(boundsMs).toEqual([...new Set(boundsMs)].sort((a, b) => a - b));
  expect([boundsMs[0], boundsMs.at(-1)]).toEqual([0.1, 86_400_000]);
});
