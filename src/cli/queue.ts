import type { Command } from 'commander';
import type { QueueStatus, Retention } from '../broker/contract.ts';
import type { Client } from '../index.ts';
import { LIMITS } from '../limits.ts';
import { addCommand, addGroup } from './command.ts';
import { checkMayAsk, confirm } from './confirm.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { flag, integer, toggle } from './flags.ts';
import { print, printJson, screenColumns } from './output.ts';
import { printable } from './printable.ts';
import { registerLimit } from './queue-limit.ts';
import { type Done, forEachOf } from './several.ts';
import { queueTable } from './status-view.ts';
import { formatCount, formatDuration, plural } from './units.ts';

const json = toggle('print JSON');
const NAME = 'millrace queue';
const QUEUES = { noun: 'queue', key: 'queue' };

const RETENTION_FLAGS = {
  completedCountMax: flag(integer(0, 10_000_000), 'ended tasks that are kept'),
  completedAgeMs: flag(integer(0, LIMITS.delayMsMax, 'ms'), 'how long ended tasks are kept'),
  deadCountMax: flag(integer(0, 10_000_000), 'dead tasks that are kept'),
  deadAgeMs: flag(integer(0, LIMITS.delayMsMax, 'ms'), 'how long dead tasks are kept'),
};

export function register(program: Command): void {
  const group = addGroup(program, 'queue', 'look at queues and steer them', [
    'millrace queue list',
    'millrace queue pause mail',
  ]);
  addCommand(group, {
    usage: 'list',
    summary: 'list the queues with their sizes',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace queue list'],
    run: (values) =>
      withClient(values, { name: NAME }, async (client) => {
        const { queues } = await client.status();
        if (values.json) printJson(queues);
        else print(queues.length === 0 ? 'There are no queues yet.' : queueTable(queues, screenColumns()).join('\n'));
      }),
  });
  addCommand(group, {
    usage: 'pause <queue...>',
    summary: 'start no more tasks of a queue',
    details: 'What runs goes on, and new tasks are still taken. A pause outlives a restart of the server.',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace queue pause mail'],
    run: (values, names) =>
      forEachOf(QUEUES, values, names, async (client, queue) => {
        await client.queue(queue).pause();
        return await saidOfUse(client, queue, 'paused', { paused: true });
      }),
  });
  addCommand(group, {
    usage: 'resume <queue...>',
    summary: 'end a pause',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace queue resume mail'],
    run: (values, names) =>
      forEachOf(QUEUES, values, names, async (client, queue) => {
        await client.queue(queue).resume();
        return await saidOfUse(client, queue, 'resumed', { paused: false });
      }),
  });
  registerPurge(group);
  addCommand(group, {
    usage: 'redrive <queue...>',
    summary: 'make the dead tasks of a queue ready again, with fresh attempts',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace queue redrive mail'],
    run: (values, names) =>
      forEachOf(QUEUES, values, names, async (client, queue) => {
        const count = await client.queue(queue).redrive();
        return { said: `${plural(count, 'dead task')} made ready again`, result: { count } };
      }),
  });
  registerRetention(group);
  registerLimit(group);
}

function registerPurge(group: Command): void {
  addCommand(group, {
    usage: 'purge <queue...>',
    summary: 'remove all ready and scheduled tasks of a queue',
    details: 'Tasks that run are left alone. Asks first in a terminal, and needs --yes everywhere else.',
    flags: { ...CONNECTION_FLAGS, yes: toggle('do not ask'), json },
    examples: ['millrace queue purge mail', 'millrace queue purge mail --yes --json'],
    run: async (values, names) => {
      if (!values.yes) checkMayAsk('purge removes tasks for good');
      await forEachOf(QUEUES, values, names, async (client, queue) => {
        if (!values.yes && !(await confirmPurge(await client.queue(queue).status()))) {
          return { said: 'left as it is', result: { count: 0 } };
        }
        const count = await client.queue(queue).purge();
        return { said: `${plural(count, 'task')} removed`, result: { count } };
      });
    },
  });
}

function registerRetention(group: Command): void {
  addCommand(group, {
    usage: 'retention <queue>',
    summary: 'show or set how long ended tasks of a queue are kept',
    details: 'Completed and cancelled tasks count as ended. What is not given stays as it is.',
    flags: { ...CONNECTION_FLAGS, ...RETENTION_FLAGS, json },
    examples: ['millrace queue retention mail', 'millrace queue retention mail --completed-age-ms 600000'],
    run: (values, [name = '']) =>
      withClient(values, { name: NAME }, async (client) => {
        const { completedCountMax, completedAgeMs, deadCountMax, deadAgeMs } = values;
        const given = Object.entries({ completedCountMax, completedAgeMs, deadCountMax, deadAgeMs });
        const changes = Object.fromEntries(given.filter(([, value]) => value !== undefined)) as Partial<Retention>;
        const queue = client.queue(name);
        const retention =
          Object.keys(changes).length === 0 ? (await queue.status()).retention : await queue.retention(changes);
        if (values.json) printJson(retention);
        else print(describeRetention(retention));
      }),
  });
}

function describeRetention({ completedCountMax, completedAgeMs, deadCountMax, deadAgeMs }: Retention): string {
  return [
    `completed and cancelled  the last ${formatCount(completedCountMax)}, for ${formatDuration(completedAgeMs)}`,
    `dead                     the last ${formatCount(deadCountMax)}, for ${formatDuration(deadAgeMs)}`,
  ].join('\n');
}

/** A queue may be paused before its first task comes; or its name is mistyped. */
async function saidOfUse(client: Client, queue: string, said: string, result: object): Promise<Done> {
  const { totals } = await client.queue(queue).status();
  const isUsed = totals.enqueued > 0;
  return { said: isUsed ? said : `${said} (no task has used this queue yet)`, result: { ...result, isUsed } };
}

function confirmPurge({ name, ready, scheduled }: QueueStatus): Promise<boolean> {
  const tasks = `${plural(ready, 'ready task')} and ${formatCount(scheduled)} scheduled`;
  return confirm(`Remove ${tasks} of the queue ${printable(name)}?`);
}
