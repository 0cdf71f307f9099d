import { expect, test } from 'vitest';
import { drawCharts, yTicks } from './chart.ts';

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
