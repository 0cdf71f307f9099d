import type { Command } from 'commander';
import { MillraceError } from '../errors.ts';
import type { EnqueueOptions, Task } from '../index.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { UsageError } from './failure.ts';
import { choice, flag, integer, list, text, toggle, type Values } from './flags.ts';
import { ENCRYPTION_FLAGS } from './key-ring.ts';
import { LinesAhead, readLines, type Said } from './lines.ts';
import { keepRunningWithoutReader, print, printNote } from './output.ts';
import { checkJson } from './payload.ts';
import { printableJson } from './printable.ts';
import { TASK_FLAGS, taskOptions } from './task-flags.ts';

const FLAGS = {
  ...CONNECTION_FLAGS,
  ...ENCRYPTION_FLAGS,
  ...TASK_FLAGS,
  delayMs: flag(integer(0, LIMITS.delayMsMax, 'ms'), 'start no sooner than so long after now'),
  runAt: flag(text('time'), 'start no sooner than this time: 2026-08-01T12:00:00Z'),
  dependsOn: flag(list('ids'), 'start when these tasks have ended: ids with commas between'),
  onParentFailure: flag(choice('cancel', 'run', 'wait'), 'with --depends-on: when one of them fails (default: cancel)'),
  uniqueKey: flag(text('key'), 'at most one such task of the queue that has not ended'),
  wait: toggle('wait for the end and print the result in place of the id'),
  waitTimeoutMs: flag(integer(1, LIMITS.timeoutMsMax, 'ms'), 'with --wait', DEFAULTS.resultTimeoutMs as number),
  json: toggle('print a JSON object for each task'),
};

type EnqueueValues = Values<typeof FLAGS>;

export function register(program: Command): void {
  addCommand(program, {
    usage: 'enqueue <name> [payload]',
    summary: 'enqueue one task, or one for each line of standard input',
    details:
      'The payload is JSON, null when it is left out. With - in its place each line of standard input is the payload ' +
      'of a task. Prints the id of each task once it is durable, in their order.',
    flags: FLAGS,
    examples: [
      `millrace enqueue image.resize '{"url": "https://example.org/1.png", "width": 800}' --wait`,
      'millrace enqueue mail.send - --queue mail < mails.ndjson',
      'millrace enqueue report.build --header tenant=a --header locale=de',
      'millrace enqueue album.publish --depends-on 1-2rk,1-2rl',
    ],
    run: (values, [name = '', payload]) => {
      keepRunningWithoutReader();
      const options = enqueueOptions(values);
      const say = (task: Task): Promise<Said> => describeTask(task, values);
      if (payload !== '-') checkJson(payload ?? 'null');
      return withClient(values, { name: 'millrace enqueue' }, async (client) => {
        // As bytes, so that the text goes out as it came in: numbers beyond a double's precision stay what they are.
        const add = (text: string): Promise<Task> => client.enqueue(name, Buffer.from(text), options);
        if (payload !== '-') await printOne(say(await add(payload ?? 'null')));
        else await new LinesAhead(add, say).run(readLines(process.stdin, LIMITS.payloadBytesMax));
      });
    },
  });
}

function enqueueOptions(values: EnqueueValues): EnqueueOptions {
  const { delayMs, runAt, dependsOn, onParentFailure, uniqueKey } = values;
  if (runAt !== undefined && delayMs !== undefined) {
    throw new UsageError('--delay-ms and --run-at say the same in two ways: give one of them');
  }
  const at = runAt === undefined ? undefined : new Date(runAt);
  if (at !== undefined && Number.isNaN(at.getTime())) {
    throw new UsageError(`--run-at is ${JSON.stringify(runAt)}; it must be a time such as 2026-08-01T12:00:00Z`);
  }
  if (onParentFailure !== undefined && dependsOn === undefined) {
    throw new UsageError('--on-parent-failure belongs to --depends-on: give the ids of the parents too');
  }
  const relations = dependsOn === undefined ? {} : { dependsOn, onParentFailure };
  return { ...taskOptions(values), delayMs, runAt: at, ...relations, uniqueKey };
}

/** The id, or with --wait how it ended. */
async function describeTask(task: Task, { wait, waitTimeoutMs, json }: EnqueueValues): Promise<Said> {
  const { id, isNew } = task;
  const known = isNew ? { id } : { id, isNew };
  if (!isNew && !json) printNote(`${id} was there already; this payload was not enqueued`);
  if (!wait) return { line: json ? printableJson(known) : id };
  try {
    const result = await task.result({ timeoutMs: waitTimeoutMs });
    return {
      line: json ? printableJson({ ...known, state: 'completed', result }) : printableJson(result),
    };
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    return { line: json ? printableJson({ ...known, error: error.toJSON() }) : undefined, failure: error };
  }
}

async function printOne(said: Promise<Said>): Promise<void> {
  const { line, failure } = await said;
  if (line !== undefined) print(line);
  if (failure !== undefined) throw failure;
}
