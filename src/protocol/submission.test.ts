import { expect, test } from 'vitest';
import { parseRelations } from './submission.ts';

test.each([
  [1, 0, 'it depends on the same task twice'],
  [2, 1, 'task 1 depends on the same task twice'],
])('of %i tasks, task %i is named only where there are others', (taskCount, index, message) => {
  const relations = { tasks: [{ index, dependsOn: twice('1-2rk') }] };
  expect(() => parseRelations(relations, taskCount)).toThrow(new RegExp(`^${message}$`));
});

function twice(id: string): [string, string][] {
  return [
    [id, 'cancel'],
    [id, 'wait'],
  ];
}
