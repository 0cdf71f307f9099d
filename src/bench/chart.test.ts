import { expect, test } from 'vitest';
import { drawCharts, linearTicks, yTicks } from './chart.ts';

test.each([
  [
    [1.5, 1.7],
    [0.2, 0.5, 1, 2],
  ],
  [[2], [0.2, 0.5, 1, 2]],
  [
    [0.9, 300],
    [0.1, 1, 10, 100, 1000],
  ],
])('ticks around %j enclose them, and make little differences look little', (values, expected) => {
  expect(yTicks(values)).toEqual(expected);
});

test('a point twice as far in decades lies twice as far on the axis, and texts are escaped', () => {
  const svg = drawCharts(
    [
      {
        title: 'a < b & c',
        xTitle: 'x',
        lines: [
          {
            name: 'one',
            points: [
              [1, 10],
              [10, 100],
              [100, 1000],
            ],
          },
        ],
      },
    ],
    1,
  );
  const [, points = ''] = /points="([^"]+)"/.exec(svg) ?? [];
  const [left, middle, right] = points.split(' ').map((pair) => pair.split(',').map(Number) as [number, number]);
  expect((middle?.[0] ?? 0) - (left?.[0] ?? 0)).toBeCloseTo((right?.[0] ?? 0) - (middle?.[0] ?? 0));
  expect((left?.[1] ?? 0) - (middle?.[1] ?? 0)).toBeCloseTo((middle?.[1] ?? 0) - (right?.[1] ?? 0));
  expect(svg).toContain('a &lt; b &amp; c');
});

test.each([
  [60, 6, [0, 10, 20, 30, 40, 50, 60]],
  [60.02, 6, [0, 10, 20, 30, 40, 50, 60]],
  [213, 4, [0, 100, 200, 300]],
  [0.6, 3, [0, 0.2, 0.4, 0.6]],
  [0, 4, [0, 1]],
])('linear ticks reach %d in at most %d steps from 0', (max, count, expected) => {
  expect(linearTicks(max, count)).toEqual(expected);
});

test('what goes on over a time is drawn from 0 and without marks', () => {
  const points = [
    [0, 50],
    [30, 100],
    [60, 100],
  ] as const;
  const svg = drawCharts(
    [{ title: 'memory', xTitle: 'minutes', scale: 'linear', lines: [{ name: 'rss', points }] }],
    1,
  );
  expect(svg).not.toContain('<circle');
  const [, drawn = ''] = /points="([^"]+)"/.exec(svg) ?? [];
  const [first = 0, second = 0, third = 0] = drawn.split(' ').map((pair) => Number(pair.split(',')[1]));
  expect(second).toBe(third);
  const [, zero = ''] = /y="(\d+)" text-anchor="end">0</.exec(svg) ?? [];
  // The text of a tick stands 4 below its line.
  expect(first - second).toBeCloseTo(Number(zero) - 4 - first);
});
