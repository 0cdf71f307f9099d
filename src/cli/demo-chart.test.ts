import { expect, test } from 'vitest';
import { formatChart } from './demo-chart.ts';

test('draws a rise and a fall under its peak, with both axes', () => {
  const points = [0, 500, 1000, 500, 0].map((value, index) => ({ atMs: index * 1000, value }));
  expect(formatChart(points, 10, 2)).toEqual([
    '1,000 ┤     ██',
    '      │  ████████',
    '    0 └──────────',
    '       0 s  4.0 s',
  ]);
});

test('a little is never drawn as nothing', () => {
  const chart = formatChart(
    [
      { atMs: 0, value: 1 },
      { atMs: 1, value: 100_000 },
      { atMs: 2, value: 1 },
    ],
    2,
    4,
  );
  expect(chart[3]).toContain('▁');
});

test('an empty queue gives an empty chart', () => {
  expect(formatChart([], 10, 2)[0]).toBe('0 ┤');
});
