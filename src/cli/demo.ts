import type { Command } from 'commander';
import { redact } from '../errors.ts';
import { DEFAULTS } from '../limits.ts';
import { addCommand } from './command.ts';
import { DemoCast } from './demo-cast.ts';
import { deleteDemoQueue } from './demo-cleaning.ts';
import { DEMO_TASK } from './demo-ledger.ts';
import { formatDemo } from './demo-report.ts';
import { type DemoReport, runDemo } from './demo-run.ts';
import { openDemoScreen } from './demo-screen.ts';
import { CommandFailed, describeFailure, UsageError } from './failure.ts';
import { flag, integer, SHARE, text, toggle, type Values } from './flags.ts';
import { print, printJson, printNote } from './output.ts';
import { catchStopSignals } from './signals.ts';
import { plural } from './units.ts';

const FLAGS = {
  clients: flag(integer(1, 100), 'producers, in one process', 4),
  tasks: flag(integer(1, 1_000_000), 'tasks of each producer', 25_000),
  workers: flag(integer(1, 16), 'worker processes', 2),
  concurrency: flag(integer(1, 1000), 'tasks at the same time in each worker', 100),
  taskTimeMs: flag(integer(0, 60_000, 'ms'), 'how long each task takes', 10),
  payloadBytes: flag(integer(64, 65_536), 'size of each JSON payload', 100),
  failShare: flag(SHARE, 'share of the tasks that fail at first', 0.05),
  deadShare: flag(SHARE, 'share of the tasks that fail at every attempt', 0.001),
  port: flag(integer(0, 65_535), 'of the server that is started; a free one when it is taken', DEFAULTS.port as number),
  url: flag(text('url'), 'use this running server, or RabbitMQ (amqp://HOST), instead of starting one'),
  store: flag(text('url'), 'with amqp://: the PostgreSQL that remembers its tasks, postgres://HOST/DATABASE'),
  keep: toggle('leave everything running afterwards, until Ctrl-C'),
  json: toggle('print the report as JSON'),
};

export type DemoValues = Values<typeof FLAGS>;

export function register(program: Command): void {
  addCommand(program, {
    usage: 'demo',
    summary: 'server, workers and clients at work, with a report',
    details:
      'Starts a server with a throwaway data directory, workers and clients, in a process each; some tasks fail and are ' +
      'tried again, a few end dead. Fails unless a ledger shows that none was lost and none was processed twice.',
    flags: FLAGS,
    examples: ['millrace demo', 'millrace demo --tasks 5000 --workers 4 --fail-share 0.2', 'millrace demo --keep'],
    run: demo,
  });
}

async function demo(values: DemoValues): Promise<void> {
  if (values.failShare + values.deadShare > 1) {
    throw new UsageError('--fail-share and --dead-share together are more than 1, all tasks');
  }
  if (values.store !== undefined && values.url === undefined) {
    throw new UsageError(
      '--store goes with --url amqp://HOST: a server that is started here remembers its tasks itself',
    );
  }
  const screen = openDemoScreen(values);
  // A queue of its own on a server that others use.
  const cast = new DemoCast(values.url === undefined ? 'demo' : `demo-${Date.now().toString(36)}`);
  const stop = catchStopSignals(() => {
    cast.kill();
    screen.close();
  });
  // Nothing may outlive the demo, however it ends.
  process.once('exit', () => cast.kill());
  try {
    const report = await Promise.race([runDemo(values, cast, screen), stop.received.then(interrupted)]);
    screen.close();
    show(values, report);
    if (!values.keep) return;
    if (!values.json) print(describeKept(report, values, cast.directory));
    await Promise.race([stop.received, cast.failed()]);
  } finally {
    screen.close();
    await cast.end();
    if (values.url !== undefined) await clean(values.url, cast);
    stop.release();
  }
}

function show({ json }: DemoValues, report: DemoReport): void {
  if (json) printJson(report);
  else print(formatDemo(report));
  const { lost, duplicated } = report;
  if (lost === 0 && duplicated === 0) return;
  throw new CommandFailed('LEDGER', `${plural(lost, 'task')} lost, ${duplicated} processed twice`);
}

/** What cannot be cleaned does not make a demo fail that did not. */
async function clean(url: string, { queue }: DemoCast): Promise<void> {
  await deleteDemoQueue(url, queue).catch((error: unknown) => {
    printNote(`millrace: the queue ${queue} stays on the broker: ${describeFailure(error).line}`);
  });
}

function interrupted(signal: NodeJS.Signals): never {
  throw new CommandFailed('INTERRUPTED', `${signal}: the demo was ended`);
}

function describeKept({ url, queue }: DemoReport, { store }: DemoValues, directory: string): string {
  const where = `--url ${redact(url)}${store === undefined ? '' : ` --store ${redact(store)}`}`;
  return [
    '',
    'Everything is still running. Look around:',
    `  millrace status ${where} --watch`,
    `  millrace task list ${where} --state dead`,
    `  millrace clients ${where} --queue ${queue} --name ${DEMO_TASK} --clients 4 --tasks 1000`,
    `  logs in ${directory}`,
    'Ctrl-C ends it and removes its data.',
  ].join('\n');
}
