import { describe, expect, test } from 'vitest';
import { ago, bytes, duration, plural, rate, utc } from './format.ts';

describe('durations are said in the units that matter', () => {
  test.each([
    [0, '0 ms'],
    [0.174, '0.17 ms'],
    [12.4, '12 ms'],
    [4000, '4 s'],
    [4230, '4.2 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [200_000, '3 min 20 s'],
    [3_600_000 + 61_000, '1 h 1 min'],
    [187_200_000, '2 d 4 h'],
    [-5, '0 ms'],
  ])('%d ms is %s', (ms, text) => {
    expect(duration(ms)).toBe(text);
  });
});

test.each([
  [0, '0 bytes'],
  [1, '1 byte'],
  [1536, '1.5 KiB'],
  [20 * 1024 * 1024, '20 MiB'],
])('%d bytes are %s', (value, text) => {
  expect(bytes(value)).toBe(text);
});

test('a rate has a fraction only where that says something', () => {
  expect([rate(0), rate(0.2), rate(9.96), rate(1234.5)]).toEqual(['0', '0.2', '10.0', '1,235']);
});

test('one is one, and others are many', () => {
  expect([plural(1, 'task'), plural(0, 'task'), plural(12_000, 'task')]).toEqual(['1 task', '0 tasks', '12,000 tasks']);
});

test('a time is before, now, or to come', () => {
  const now = 1_000_000;
  expect([ago(now - 61_500, now), ago(now - 400, now), ago(now + 5200, now)]).toEqual([
    '1 min 1 s ago',
    'now',
    'in 5 s',
  ]);
});

test('the time on hover is in UTC', () => {
  expect(utc(Date.UTC(2026, 10, 28, 20, 51, 41, 123))).toBe('2026-11-28 20:51:41.123 UTC');
});
