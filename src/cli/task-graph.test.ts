import { expect, test } from 'vitest';
import type { TaskInfo } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { graphLines, readGraph } from './task-graph.ts';

const GRAPH: Record<string, { state: TaskInfo['state']; parents: string[]; children: string[] }> = {
  top: { state: 'completed', parents: [], children: ['left', 'right'] },
  left: { state: 'active', parents: ['top'], children: ['bottom'] },
  right: { state: 'blocked', parents: ['top', 'gone'], children: ['bottom'] },
  bottom: { state: 'blocked', parents: ['left', 'right'], children: [] },
};

async function get(id: string): Promise<TaskInfo> {
  const known = GRAPH[id];
  if (known === undefined) throw new MillraceError('NOT_FOUND', 'gone');
  const { state, parents, children } = known;
  return {
    ...({ id, name: `n-${id}`, state } as TaskInfo),
    ...(parents.length === 0
      ? {}
      : {
          dependencies: {
            ...{ total: parents.length, open: 0, completed: 0, dead: 0, cancelled: 0 },
            parents: parents.map((parent) => ({ id: parent, state: 'ready' as const, onFailure: 'cancel' as const })),
          },
        }),
    children: { total: children.length, ids: children },
  };
}

test('a flow is printed from any of its tasks, those first that others wait for', async () => {
  expect(graphLines(await readGraph(get, 'left'))).toEqual([
    '  top  n-top  completed',
    '  gone    unknown',
    '*   left  n-left  active  after top',
    '    right  n-right  blocked  after top, gone',
    '      bottom  n-bottom  blocked  after left, right',
  ]);
  await expect(readGraph(get, 'nothing')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
