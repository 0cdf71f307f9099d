import { expect, test } from 'vitest';
import { printable } from './printable.ts';
import { formatTable } from './table.ts';
import { formatBar, formatBytes, formatCount, formatDuration, formatPercentiles, formatRate, plural } from './units.ts';

test.each([
  [0, '0 ms'],
  [0.213, '0.21 ms'],
  [42.25, '42.3 ms'],
  [340, '340 ms'],
  [4200, '4.2 s'],
  [59_960, '1 min'],
  [200_000, '3 min 20 s'],
  [3_600_000, '1 h'],
  [7_500_000, '2 h 5 min'],
  [14 * 86_400_000, '14 d'],
])('%d ms read as %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.5 KiB'],
  [1024 * 1024 - 1, '1.0 MiB'],
  [130 * 1024 * 1024, '130 MiB'],
])('%d bytes read as %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, '0/s'],
  [0.4, '0.4/s'],
  [1234, '1,234/s'],
  [56_123, '56.1 k/s'],
  [1_234_567, '1.23 M/s'],
])('%d a second read as %s', (rate, text) => {
  expect(formatRate(rate)).toBe(text);
});

test('counts are grouped and named', () => {
  expect(formatCount(1_234_567)).toBe('1,234,567');
  expect(plural(1, 'task')).toBe('1 task');
  expect(plural(2000, 'task')).toBe('2,000 tasks');
});

test('percentiles share one unit', () => {
  expect(formatPercentiles({ p50: 0.214, p95: 12.34, p99: 345.6 })).toBe('p50 0.21, p95 12.3, p99 346 ms');
  expect(formatPercentiles({ p50: 214, p95: 1234, p99: 12_345 })).toBe('p50 0.21, p95 1.23, p99 12.3 s');
});

test('a bar is full at one and empty at nothing', () => {
  expect(formatBar(0, 4)).toBe('░░░░');
  expect(formatBar(0.5, 4)).toBe('██░░');
  expect(formatBar(1.2, 4)).toBe('████');
});

const SHAPE = [
  { title: 'NAME', elastic: true, text: ({ name }: { name: string; size: number }) => name },
  { title: 'SIZE', align: 'right' as const, text: ({ size }: { name: string; size: number }) => String(size) },
];

test('a table is aligned, and cut only where it may be', () => {
  const rows = [
    { name: 'a-rather-long-name', size: 5 },
    { name: 'b', size: 12_345 },
  ];
  expect(formatTable(SHAPE, rows, undefined)).toEqual([
    'NAME                 SIZE',
    'a-rather-long-name      5',
    'b                   12345',
  ]);
  expect(formatTable(SHAPE, rows, 17)).toEqual(['NAME         SIZE', 'a-rather-…      5', 'b           12345']);
});

test('what others wrote cannot steer the terminal', () => {
  expect(printable('a\u001b[2Jb\n')).toBe('a\\u001b[2Jb\\n');
});
