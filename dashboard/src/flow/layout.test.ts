import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type FlowEdge, layOut } from './layout.ts';

const edge = (from: string, to: string): FlowEdge => ({ from, to });

test('a diamond has three layers', () => {
  const { nodes, layers, rows } = layOut(
    ['a', 'b', 'c', 'd'],
    [edge('a', 'b'), edge('a', 'c'), edge('b', 'd'), edge('c', 'd')],
  );
  expect(Object.fromEntries(nodes.map(({ id, layer }) => [id, layer]))).toEqual({ a: 0, b: 1, c: 1, d: 2 });
  expect([layers, rows]).toEqual([3, 2]);
});

test('lines between neighbours do not cross where they need not', () => {
  const { nodes } = layOut(['a', 'b', 'y', 'x'], [edge('a', 'x'), edge('b', 'y')]);
  const row = (id: string): number => nodes.find((node) => node.id === id)?.row ?? Number.NaN;
  expect(Math.sign(row('a') - row('b'))).toBe(Math.sign(row('x') - row('y')));
});

test('a line across a layer passes it in a row of its own', () => {
  const { nodes, waypoints } = layOut(['a', 'b', 'c'], [edge('a', 'b'), edge('b', 'c'), edge('a', 'c')]);
  const [passage] = waypoints.get('a c') ?? [];
  const between = nodes.find(({ id }) => id === 'b');
  expect(passage?.layer).toBe(between?.layer);
  expect(passage?.row).not.toBe(between?.row);
});

/** Edges lead from lower to higher numbers: no circles. */
const graphs = fc.integer({ min: 2, max: 40 }).chain((size) =>
  fc.record({
    ids: fc.constant(Array.from({ length: size }, (_, index) => `t${index}`)),
    edges: fc.uniqueArray(
      fc
        .tuple(fc.nat(size - 1), fc.nat(size - 1))
        .filter(([one, other]) => one !== other)
        .map(([one, other]) => edge(`t${Math.min(one, other)}`, `t${Math.max(one, other)}`)),
      { maxLength: 80, selector: ({ from, to }) => `${from} ${to}` },
    ),
  }),
);

test('every task has a place of its own, to the right of all that it depends on', () => {
  fc.assert(
    fc.property(graphs, ({ ids, edges }) => {
      const { nodes, waypoints } = layOut(ids, edges);
      expect(nodes.map(({ id }) => id)).toEqual(ids);
      const layerOf = new Map(nodes.map(({ id, layer }) => [id, layer]));
      for (const { from, to } of edges) expect(layerOf.get(from)).toBeLessThan(layerOf.get(to) as number);
      const taken = [...nodes, ...[...waypoints.values()].flat()].map(({ layer, row }) => `${layer} ${row}`);
      expect(new Set(taken).size).toBe(taken.length);
    }),
  );
});

test('edges to tasks that are not shown, and circles, do no harm', () => {
  const { nodes } = layOut(['a', 'b', 'c'], [edge('a', 'gone'), edge('b', 'c'), edge('c', 'b')]);
  expect(nodes.map(({ id }) => id)).toEqual(['a', 'b', 'c']);
});
