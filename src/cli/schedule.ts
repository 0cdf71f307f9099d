import type { Command } from 'commander';
import { MillraceError } from '../errors.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { addCommand, addGroup } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { UsageError } from './failure.ts';
import { choice, flag, integer, text, toggle } from './flags.ts';
import { KEY_RING_FLAGS } from './key-ring.ts';
import { print, printJson, screenColumns } from './output.ts';
import { checkJson } from './payload.ts';
import { printable } from './printable.ts';
import { scheduleDetails, scheduleTable } from './schedule-view.ts';
import { forEachOf } from './several.ts';
import { TASK_FLAGS, taskOptions } from './task-flags.ts';
import { formatTime } from './units.ts';

const json = toggle('print JSON');
const NAME = 'millrace schedule';
const SCHEDULES = { noun: 'schedule', key: 'name' };

export function register(program: Command): void {
  const group = addGroup(program, 'schedule', 'tasks that come again and again, by cron or interval', [
    'millrace schedule list',
    `millrace schedule set nightly report.build --cron '30 2 * * *' --time-zone Europe/Berlin`,
  ]);
  addCommand(group, {
    usage: 'list',
    summary: 'list the schedules with their next and last times',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace schedule list'],
    run: (values) =>
      withClient(values, { name: NAME }, async (client) => {
        const schedules = await client.schedules.list();
        if (values.json) printJson(schedules);
        else if (schedules.length === 0) print('There are no schedules yet.');
        else print(scheduleTable(schedules, screenColumns()).join('\n'));
      }),
  });
  addCommand(group, {
    usage: 'get <name>',
    summary: 'show all that is known of a schedule',
    flags: { ...CONNECTION_FLAGS, ...KEY_RING_FLAGS, json },
    examples: ['millrace schedule get nightly'],
    run: (values, [name = '']) =>
      withClient(values, { name: NAME }, async (client) => {
        const schedule = await client.schedules.get(name);
        if (values.json) printJson(schedule);
        else print(scheduleDetails(schedule).join('\n'));
      }),
  });
  registerSet(group);
  registerSteering(group);
}

const SET_FLAGS = {
  ...CONNECTION_FLAGS,
  ...KEY_RING_FLAGS,
  cron: flag(text('expression'), `minute hour day month weekday, such as '30 2 * * *'; six fields begin with seconds`),
  timeZone: flag(
    text('zone'),
    `with --cron: whose clock it means, such as Europe/Berlin (default ${DEFAULTS.timeZone})`,
  ),
  everyMs: flag(integer(LIMITS.scheduleEveryMsMin, LIMITS.delayMsMax, 'ms'), 'in place of --cron: again and again'),
  misfire: flag(choice('skip', 'once', 'all'), 'times that were missed: none, one, or each fires', DEFAULTS.misfire),
  ...TASK_FLAGS,
  json,
};

function registerSet(group: Command): void {
  addCommand(group, {
    usage: 'set <name> <task> [payload]',
    summary: 'make a schedule, or replace it',
    details:
      'The payload of its tasks is JSON, null when it is left out. A schedule that is replaced goes on, with its pause, ' +
      'and begins anew only when its times change.',
    flags: SET_FLAGS,
    examples: [
      `millrace schedule set nightly report.build '{"of": "yesterday"}' --cron '30 2 * * *' --time-zone Europe/Berlin`,
      'millrace schedule set poll feed.poll --every-ms 60_000 --misfire skip',
    ],
    run: async (values, args) => {
      const { cron, timeZone, everyMs, misfire } = values;
      const [name = '', task = '', payload = 'null'] = args;
      if ((cron === undefined) === (everyMs === undefined)) {
        throw new UsageError(`a schedule needs --cron or --every-ms, one of them: --cron '30 2 * * *', say`);
      }
      checkJson(payload);
      await withClient(values, { name: NAME }, async (client) => {
        const schedule = await client.schedule(name, {
          ...taskOptions(values),
          ...{ cron, timeZone, everyMs, misfire, task },
          // As bytes, so that numbers beyond a double's precision stay what they are.
          payload: Buffer.from(payload),
        });
        if (values.json) printJson(schedule);
        else print(`${printable(name)}: set, ${whenNext(schedule)}`);
      });
    },
  });
}

function whenNext({ paused, nextAtMs }: { paused: boolean; nextAtMs?: number }): string {
  if (paused) return 'and paused as it was';
  return nextAtMs === undefined ? 'never due' : `next at ${formatTime(nextAtMs)}`;
}

function registerSteering(group: Command): void {
  addCommand(group, {
    usage: 'pause <name...>',
    summary: 'fire no more until it is resumed',
    details: 'A pause outlives a restart of the server. What is due meanwhile is let go.',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace schedule pause nightly'],
    run: (values, names) =>
      forEachOf(SCHEDULES, values, names, async (client, name) => {
        await client.schedules.pause(name);
        return { said: 'paused', result: { paused: true } };
      }),
  });
  addCommand(group, {
    usage: 'resume <name...>',
    summary: 'end a pause: go on with the next time from now on',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace schedule resume nightly'],
    run: (values, names) =>
      forEachOf(SCHEDULES, values, names, async (client, name) => {
        await client.schedules.resume(name);
        const schedule = await client.schedules.get(name);
        return { said: `resumed, ${whenNext(schedule)}`, result: { paused: false, nextAtMs: schedule.nextAtMs } };
      }),
  });
  addCommand(group, {
    usage: 'run <name...>',
    summary: 'enqueue its task now, whatever its times and its pause',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace schedule run nightly'],
    run: (values, names) =>
      forEachOf(SCHEDULES, values, names, async (client, name) => {
        const { id } = await client.schedules.runNow(name);
        return { said: `task ${id}`, result: { id } };
      }),
  });
  addCommand(group, {
    usage: 'delete <name...>',
    summary: 'remove a schedule; tasks that it has enqueued stay',
    flags: { ...CONNECTION_FLAGS, json },
    examples: ['millrace schedule delete nightly'],
    run: (values, names) =>
      forEachOf(SCHEDULES, values, names, async (client, name) => {
        if (await client.schedules.remove(name)) return { said: 'removed', result: { removed: true } };
        throw new MillraceError(
          'NOT_FOUND',
          `there is no schedule ${JSON.stringify(name)}: see millrace schedule list`,
        );
      }),
  });
}
