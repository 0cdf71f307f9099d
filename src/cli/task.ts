import type { Command } from 'commander';
import { LIMITS } from '../limits.ts';
import { addCommand, addGroup } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { choice, flag, integer, text, toggle } from './flags.ts';
import { print, printJson, printNote, screenColumns } from './output.ts';
import { forEachOf } from './several.ts';
import { graphLines, readGraph } from './task-graph.ts';
import { taskDetails, taskTable } from './task-view.ts';

const json = toggle('print JSON');
const NAME = 'millrace task';
const TASKS = { noun: 'task', key: 'id' };

export function register(program: Command): void {
  const group = addGroup(program, 'task', 'look at tasks and steer them', [
    'millrace task list --state dead',
    'millrace task get 1-2rk',
  ]);
  addCommand(group, {
    usage: 'get <id>',
    summary: 'show all that is known of a task',
    flags: { ...CONNECTION_FLAGS, flow: toggle('show what it depends on, and what depends on it'), json },
    examples: ['millrace task get 1-2rk', 'millrace task get 1-2rk --flow'],
    run: (values, [id = '']) =>
      withClient(values, { name: NAME }, async (client) => {
        if (values.flow) {
          const graph = await readGraph((each) => client.tasks.get(each), id);
          if (values.json) printJson(graph);
          else print(graphLines(graph).join('\n'));
          return;
        }
        const info = await client.tasks.get(id);
        if (values.json) printJson(info);
        else print(taskDetails(info).join('\n'));
      }),
  });
  registerList(group);
  addCommand(group, {
    usage: 'cancel <id...>',
    summary: 'cancel tasks; one that runs is told to stop',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace task cancel 1-2rk'],
    run: (values, ids) =>
      forEachOf(TASKS, values, ids, async (client, id) => {
        const outcome = await client.tasks.cancel(id);
        return { said: outcome === 'requested' ? 'its worker was told to stop' : outcome, result: { outcome } };
      }),
  });
  addCommand(group, {
    usage: 'retry <id...>',
    summary: 'make dead tasks ready again, or scheduled ones ready now',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace task retry 1-2rk'],
    run: (values, ids) =>
      forEachOf(TASKS, values, ids, async (client, id) => {
        await client.tasks.retry(id);
        return { said: 'ready', result: { outcome: 'ready' } };
      }),
  });
}

const STATES = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'] as const;

function registerList(group: Command): void {
  addCommand(group, {
    usage: 'list',
    summary: 'list tasks in the order of their ids, oldest first',
    flags: {
      ...CONNECTION_FLAGS,
      queue: flag(text('queue'), 'only of this queue'),
      name: flag(text('name'), 'only with this task name'),
      state: flag(choice(...STATES), 'only in this state'),
      limit: flag(integer(1, LIMITS.listPageMax), 'how many at most', 50),
      after: flag(text('id'), 'go on after this one: what the page before ended with'),
      json,
    },
    examples: ['millrace task list --state dead', 'millrace task list --queue mail --limit 1000 --json'],
    run: ({ queue, name, state, limit, after, ...values }) =>
      withClient(values, { name: NAME }, async (client) => {
        const page = await client.tasks.list({ queue, name, state, limit, after });
        if (values.json) {
          printJson(page);
          return;
        }
        if (page.tasks.length > 0) print(taskTable(page.tasks, screenColumns()).join('\n'));
        else print(page.next === undefined ? 'There are no such tasks.' : 'No such task was found so far.');
        if (page.next !== undefined) printNote(`There may be more: add --after ${page.next}`);
      }),
  });
}
