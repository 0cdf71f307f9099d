import { expect, test } from 'vitest';
import { NO_LIMITS } from '../limits.ts';
import { describeLimits, parseRate } from './queue-limit.ts';

test('a rate is a count and a time', () => {
  expect(parseRate('100/1s')).toEqual({ count: 100, periodMs: 1000 });
  expect(parseRate('5000/h')).toEqual({ count: 5000, periodMs: 3_600_000 });
  expect(parseRate('3/250ms')).toEqual({ count: 3, periodMs: 250 });
});

test('limits are described in words', () => {
  expect(describeLimits(NO_LIMITS)).toEqual(['at one time    no limit', 'rate           no limit']);
  const rate = { count: 100, periodMs: 1000, burst: 20 };
  const lines = describeLimits({ concurrency: 10, rate, concurrencyPerKey: 2, length: 100_000 });
  expect(lines[0]).toBe('at one time    10');
  expect(lines[1]).toBe('of one key     2');
  expect(lines[2]).toMatch(/^rate +100 in 1\S* ?s, up to 20 at once$/);
  expect(lines[3]).toBe('length         100,000 unfinished tasks');
});
