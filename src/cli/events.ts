import type { Command } from 'commander';
import type { TaskEvent } from '../broker/contract.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { flag, text, toggle } from './flags.ts';
import { KEY_RING_FLAGS } from './key-ring.ts';
import { print, printSlowly } from './output.ts';
import { printable, printableJson } from './printable.ts';
import { formatCount } from './units.ts';

const FLAGS = {
  ...CONNECTION_FLAGS,
  ...KEY_RING_FLAGS,
  queue: flag(text('name'), 'only of this queue'),
  task: flag(text('id'), 'only of this task'),
  json: toggle('print JSON, a line for each event'),
};

export function register(program: Command): void {
  addCommand(program, {
    usage: 'events',
    summary: 'print what becomes of tasks, as it happens, until Ctrl-C',
    details:
      'Only what happens from now on; goes on over restarts of the server. Where events are missing, because they came faster than they were printed or the connection was lost, it says so.',
    flags: FLAGS,
    examples: ['millrace events --queue mail', 'millrace events --task 1-2rk', 'millrace events --json | jq .id'],
    run: (values) =>
      withClient(values, { name: 'millrace events' }, async (client) => {
        const { queue, task, json } = values;
        const events = await client.events({ queue, task });
        if (!json) print('watching; Ctrl-C ends this');
        for await (const event of events) await printSlowly(json ? printableJson(event) : describeEvent(event));
      }),
  });
}

export function describeEvent(event: TaskEvent): string {
  if (event.type === 'dropped') {
    return event.count === null
      ? '… the connection was lost: events may be missing here'
      : `… ${formatCount(event.count)} events are missing here`;
  }
  const { type, id, queue, name, atMs } = event;
  const parts = [new Date(atMs).toISOString(), type.padEnd(9), id, printable(queue), printable(name)];
  if ('attempt' in event && event.attempt > 1) parts.push(`attempt ${event.attempt}`);
  if (event.type === 'progress') parts.push(printable(JSON.stringify(event.progress ?? null)));
  if (event.type === 'failed') parts.push(printable(`${event.error.name}: ${event.error.message}`));
  return parts.join('  ');
}
