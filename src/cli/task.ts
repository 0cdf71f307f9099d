import type { Command } from 'commander';
import type { Client, TaskPick } from '../index.ts';
import { LIMITS } from '../limits.ts';
import { addCommand, addGroup } from './command.ts';
import { checkMayAsk, confirm } from './confirm.ts';
import { CONNECTION_FLAGS, type ConnectionValues, withClient } from './connection.ts';
import { UsageError } from './failure.ts';
import { flag, flagName, integer, text, toggle, type Values } from './flags.ts';
import { KEY_RING_FLAGS } from './key-ring.ts';
import { print, printJson, printNote, screenColumns } from './output.ts';
import { forEachOf } from './several.ts';
import { describeFilter, FILTER_FLAGS, taskFilter } from './task-filter.ts';
import { graphLines, readGraph } from './task-graph.ts';
import { deadTable, taskDetails, taskTable } from './task-view.ts';
import { formatCount, plural } from './units.ts';

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
    flags: {
      ...CONNECTION_FLAGS,
      ...KEY_RING_FLAGS,
      flow: toggle('show what it depends on, and what depends on it'),
      json,
    },
    examples: [
      'millrace task get 1-2rk',
      'millrace task get 1-2rk --flow',
      'millrace task get 1-2rk --key-ring /etc/millrace/keys',
    ],
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
  registerDead(group);
  registerCancel(group);
  registerRetry(group);
}

function registerCancel(group: Command): void {
  addCommand(group, {
    usage: 'cancel [id...]',
    summary: 'cancel tasks; one that runs is told to stop',
    details: MANY,
    flags: { ...CONNECTION_FLAGS, ...FILTER_FLAGS, yes: toggle('do not ask'), json },
    examples: ['millrace task cancel 1-2rk', 'millrace task cancel --queue mail --name reminder --from 2h'],
    run: async (values, ids, written) => {
      if (isFilter('cancel', ids, written)) {
        const said = (count: number): string => `${plural(count, 'task')} cancelled, or told to stop`;
        await changeMany(values, 'Cancel', (client, filter) => client.tasks.cancelMany(filter), said);
        return;
      }
      await forEachOf(TASKS, values, ids, async (client, id) => {
        const outcome = await client.tasks.cancel(id);
        return { said: outcome === 'requested' ? 'its worker was told to stop' : outcome, result: { outcome } };
      });
    },
  });
}

function registerRetry(group: Command): void {
  addCommand(group, {
    usage: 'retry [id...]',
    summary: 'make dead tasks ready again, or scheduled ones ready now',
    details: MANY,
    flags: { ...CONNECTION_FLAGS, ...FILTER_FLAGS, yes: toggle('do not ask'), json },
    examples: ['millrace task retry 1-2rk', 'millrace task retry --state dead --error ECONNREFUSED --yes'],
    run: async (values, ids, written) => {
      if (isFilter('retry', ids, written)) {
        const said = (count: number): string => `${plural(count, 'task')} made ready`;
        await changeMany(values, 'Retry', (client, filter) => client.tasks.retryMany(filter), said);
        return;
      }
      await forEachOf(TASKS, values, ids, async (client, id) => {
        await client.tasks.retry(id);
        return { said: 'ready', result: { outcome: 'ready' } };
      });
    },
  });
}

const MANY =
  'Takes ids, or flags that say which tasks are meant: all of those. Then it asks first in a terminal, and needs --yes everywhere else.';

/** Whether flags say what is meant. Throws USAGE when neither they nor ids do, or both. */
function isFilter(what: string, ids: readonly string[], written: readonly string[]): boolean {
  const names = Object.keys(FILTER_FLAGS).filter((name) => name !== 'newest' && written.includes(name));
  const [given] = names;
  if (ids.length > 0 && given !== undefined) {
    throw new UsageError(`task ${what} takes ids or ${flagName(given)} and the like, not both`);
  }
  if (ids.length === 0 && given === undefined) {
    const known = Object.keys(FILTER_FLAGS).filter((name) => name !== 'newest');
    throw new UsageError(`task ${what} needs ids, or some of ${known.map(flagName).join(', ')}`);
  }
  return ids.length === 0;
}

type FilterValues = ConnectionValues & Values<typeof FILTER_FLAGS> & { yes: boolean; json: boolean };

async function changeMany(
  values: FilterValues,
  verb: string,
  change: (client: Client, filter: TaskPick) => Promise<number>,
  said: (count: number) => string,
): Promise<void> {
  const filter = taskFilter(values, Date.now());
  if (!values.yes) {
    checkMayAsk(`${verb.toLowerCase()} changes all tasks that the flags name`);
    if (!(await confirm(`${verb} all tasks that can be, with ${describeFilter(filter)}?`))) {
      if (values.json) printJson({ count: 0 });
      else print('left as they are');
      return;
    }
  }
  await withClient(values, { name: NAME }, async (client) => {
    const count = await change(client, filter);
    if (values.json) printJson({ count });
    else print(said(count));
  });
}

function registerDead(group: Command): void {
  addCommand(group, {
    usage: 'dead',
    summary: 'show what dead tasks died of: those with the same kind of error are one line',
    details: 'The group is what --error-group of "task list" and "task retry" takes.',
    flags: { ...CONNECTION_FLAGS, queue: flag(text('queue'), 'only of this queue'), json },
    examples: ['millrace task dead', 'millrace task dead --queue mail'],
    run: ({ queue, ...values }) =>
      withClient(values, { name: NAME }, async (client) => {
        const dead = await client.tasks.deadGroups({ queue });
        if (values.json) {
          printJson(dead);
          return;
        }
        print(
          dead.groups.length === 0 ? 'There are no dead tasks.' : deadTable(dead.groups, screenColumns()).join('\n'),
        );
        if (!dead.complete) printNote(`Only ${formatCount(dead.scanned)} of the dead tasks were looked at.`);
      }),
  });
}

function registerList(group: Command): void {
  addCommand(group, {
    usage: 'list',
    summary: 'list tasks in the order in which they were enqueued',
    flags: {
      ...CONNECTION_FLAGS,
      ...KEY_RING_FLAGS,
      ...FILTER_FLAGS,
      limit: flag(integer(1, LIMITS.listPageMax), 'how many at most', 50),
      after: flag(text('id'), 'go on after this one: what the page before ended with'),
      json,
    },
    examples: [
      'millrace task list --state dead --newest',
      'millrace task list --error timeout --from 2h',
      'millrace task list --queue mail --limit 1000 --json',
    ],
    run: ({ limit, after, ...values }) =>
      withClient(values, { name: NAME }, async (client) => {
        const page = await client.tasks.list({ ...taskFilter(values, Date.now()), limit, after });
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
