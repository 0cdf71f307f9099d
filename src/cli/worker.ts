import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import type { WorkerStatus } from '../broker/contract.ts';
import { MillraceError, redact } from '../errors.ts';
import type { Client, Handlers, HandlersModule, Worker, WorkerOptions } from '../index.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { checkHandlersFile, loadHandlers } from '../worker/handlers-module.ts';
import { ANY_NAME } from '../worker/options.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, withClient } from './connection.ts';
import { UsageError } from './failure.ts';
import { flag, integer, list, SHARE, text, toggle, type Values } from './flags.ts';
import { ENCRYPTION_FLAGS } from './key-ring.ts';
import { type Log, logFile, logLevel, openLog } from './log.ts';
import { keepRunningWithoutReader } from './output.ts';
import { catchStopSignals } from './signals.ts';
import { simulatedWork } from './simulated-work.ts';
import { checkScalingFlags, SCALING_FLAGS, supervise } from './supervise.ts';
import { formatCount, formatDuration, formatRate, formatShare, plural } from './units.ts';

const FLAGS = {
  ...CONNECTION_FLAGS,
  ...ENCRYPTION_FLAGS,
  connectTimeoutMs: { ...CONNECTION_FLAGS.connectTimeoutMs, fallback: DEFAULTS.connectTimeoutMs as number },
  queues: flag(list('a,b'), 'queues to take from; by default those of the handlers, else default'),
  handlers: flag(text('file'), 'ES module that exports handlers; without it the built-in handler runs'),
  concurrency: flag(
    integer(1, LIMITS.prefetchMax),
    `tasks at the same time (default: ${DEFAULTS.concurrency}; with --threads one each)`,
  ),
  prefetch: flag(integer(1, LIMITS.prefetchMax), 'tasks held at once (default: twice the concurrency)'),
  threads: flag(integer(1, LIMITS.threadsMax), 'run handlers in so many threads, for work that needs the processor'),
  threadHeapMb: flag(
    integer(LIMITS.threadHeapMbMin, LIMITS.threadHeapMbMax, 'MiB'),
    'heap of each thread; one that needs more crashes (default: as Node decides)',
  ),
  name: flag(text('name'), 'shown in status (default: host and process id)'),
  taskTimeMs: flag(integer(0, LIMITS.timeoutMsMax, 'ms'), 'built-in handler: how long a task takes', 0),
  taskCpuMs: flag(integer(0, LIMITS.timeoutMsMax, 'ms'), 'built-in handler: how long it uses the processor', 0),
  failRate: flag(SHARE, 'built-in handler: share of the tasks whose first attempt fails', 0),
  deadRate: flag(SHARE, 'built-in handler: share of the tasks that always fail', 0),
  logFile: logFile('worker.log'),
  logLevel,
  statsIntervalMs: flag(integer(100, 3_600_000, 'ms'), 'how often the figures are logged', 5000),
  stopTimeoutMs: flag(integer(0, 600_000, 'ms'), 'how long a stop waits for tasks', DEFAULTS.stopTimeoutMs as number),
  ...SCALING_FLAGS,
  json: toggle('log JSON lines to the console too'),
};

export type WorkerValues = Values<typeof FLAGS>;

/** Who has started this process in place of a user, beside signals. */
export interface Steering {
  readonly started: (worker: Worker) => void;
  /** Resolves, with the reason, when it is to end as after a signal, … */
  readonly stopped: Promise<string>;
  /** … and when it is to take nothing more and to end when all that runs has ended. */
  readonly retired: Promise<string>;
}

export function register(program: Command): void {
  addCommand(program, {
    usage: 'worker',
    summary: 'run tasks',
    details:
      'The handlers file exports what defineTask(…).handle(…) returns: named, or by default an array of them, or an ' +
      'object { name: function }; with --threads each thread loads it. The built-in handler takes any task name, reads ' +
      'the JSON payload and simulates work. SIGTERM or SIGINT: running tasks may end, the others go back; a second signal ends it at once. With --max ' +
      'it supervises worker processes instead: it starts more when tasks wait for too long, retires those that are not ' +
      'needed without interrupting a task, and says why.',
    flags: FLAGS,
    examples: [
      'millrace worker --handlers ./handlers.js --concurrency 50',
      'millrace worker --handlers ./handlers.js --threads 4',
      'millrace worker --queues mail,images --task-time-ms 20 --fail-rate 0.05',
      'millrace worker --handlers ./handlers.js --min 1 --max 8',
    ],
    run: async (values) => {
      checkFlags(values);
      checkScalingFlags(values);
      const { max } = values;
      await (max === undefined ? work(values) : supervise({ ...values, max }));
    },
  });
}

/** Runs a worker until it is told to end. Rejects with what is the command's failure. */
export async function work(values: WorkerValues, steering?: Steering): Promise<void> {
  keepRunningWithoutReader();
  const { logLevel: level, logFile: file, json } = values;
  const log = openLog({ name: 'worker', level, file, console: json ? 'json' : 'text' });
  process.on('uncaughtExceptionMonitor', (err) => log.file.fatal({ err }, 'the worker ends: a defect'));
  try {
    const handlers = values.handlers === undefined ? builtIn(values) : await fromFile(values.handlers, values);
    await withClient(values, { name: values.name ?? 'millrace worker' }, (client) =>
      run(client, handlers, values, log, steering),
    );
  } catch (err) {
    log.file.fatal({ err }, 'the worker ends');
    throw err;
  }
}

function checkFlags(values: WorkerValues): void {
  const { handlers, taskTimeMs, taskCpuMs, failRate, deadRate, concurrency, prefetch, threads } = values;
  if (handlers !== undefined && (taskTimeMs > 0 || taskCpuMs > 0 || failRate > 0 || deadRate > 0)) {
    throw new UsageError(
      '--task-time-ms, --task-cpu-ms, --fail-rate and --dead-rate are for the built-in handler: leave out --handlers',
    );
  }
  if (failRate + deadRate > 1) throw new UsageError('--fail-rate and --dead-rate together are more than 1, all tasks');
  const least = concurrency ?? threads ?? DEFAULTS.concurrency;
  if (threads !== undefined && least < threads) {
    const remedy = `give --concurrency ${threads} or more, or fewer threads`;
    throw new UsageError(`--concurrency ${least} leaves some of ${threads} threads without a task: ${remedy}`);
  }
  if (values.threadHeapMb !== undefined && threads === undefined) {
    throw new UsageError('--thread-heap-mb is for worker threads: give --threads as well');
  }
  if (prefetch !== undefined && prefetch < least) {
    throw new UsageError(`--prefetch ${prefetch} is less than the concurrency of ${least}`);
  }
}

function builtIn({ threads, taskTimeMs, taskCpuMs, failRate, deadRate }: WorkerValues): Handlers | HandlersModule {
  const work = { taskTimeMs, taskCpuMs, failRate, deadRate };
  if (threads === undefined) return { [ANY_NAME]: simulatedWork(work) };
  const module = new URL('./simulated-handlers.js', import.meta.url);
  for (const [name, value] of Object.entries(work)) module.searchParams.set(name, String(value));
  return module;
}

/** What is wrong with the file is found before anything is connected. */
async function fromFile(file: string, { threads }: WorkerValues): Promise<HandlersModule> {
  const path = resolve(file);
  const url = pathToFileURL(path);
  if (threads === undefined) await loadHandlers(url);
  else await checkHandlersFile(path);
  return url;
}

async function run(
  client: Client,
  handlers: Handlers | HandlersModule,
  values: WorkerValues,
  log: Log,
  steering?: Steering,
): Promise<void> {
  const { queues, concurrency, prefetch, threads, threadHeapMb, name } = values;
  const options: WorkerOptions = { queues, concurrency, prefetch, threads, threadHeapMb, name, logger: log.all };
  const stopSignal = catchStopSignals((signal) => log.all.warn(`${signal} again: ending at once`));
  const worker = await client.work(handlers, options);
  const what = values.handlers === undefined ? 'any task (built-in handler)' : worker.handlers.join(', ');
  const where = threads === undefined ? '' : ` in ${plural(threads, 'thread')}`;
  log.all.info(
    {
      url: redact(client.url),
      queues: worker.queues,
      handlers: worker.handlers,
      concurrency: worker.concurrency,
      threads,
    },
    `worker ${worker.name} at ${redact(client.url)} takes ${what} from ${worker.queues.join(', ')}, ` +
      `${worker.concurrency} at a time${where}`,
  );
  steering?.started(worker);
  const stats = logStats(client, worker, values.statsIntervalMs, log);
  try {
    const { reason, timeoutMs } = await Promise.race([
      ...leavingReasons(stopSignal.received, values.stopTimeoutMs, steering),
      worker.ended.then(endedBy),
    ]);
    const { running } = worker;
    const patience = running === 0 ? '' : `; up to ${formatDuration(timeoutMs)} for what runs (${running})`;
    log.all.info(`${reason}: stopping${patience}`);
    // One that retires without haste may be told to make haste.
    void Promise.race([stopSignal.received, ...(steering === undefined ? [] : [steering.stopped])]).then(() =>
      worker.stop({ timeoutMs: values.stopTimeoutMs }),
    );
    const { abandoned } = await worker.stop({ timeoutMs });
    const { completed, failed } = worker;
    const back = abandoned === 0 ? '' : `; ${plural(abandoned, 'running task')} handed back`;
    log.all.info({ completed, failed, abandoned }, `stopped: ${describeCounts(worker)}${back}`);
  } finally {
    clearInterval(stats);
    stopSignal.release();
  }
}

interface Leaving {
  readonly reason: string;
  /** For what runs. */
  readonly timeoutMs: number;
}

function leavingReasons(signal: Promise<string>, stopTimeoutMs: number, steering?: Steering): Promise<Leaving>[] {
  const hasty = (reason: string): Leaving => ({ reason, timeoutMs: stopTimeoutMs });
  if (steering === undefined) return [signal.then(hasty)];
  // No task may run for longer, so none is interrupted.
  const patient = (reason: string): Leaving => ({ reason, timeoutMs: LIMITS.timeoutMsMax });
  return [signal.then(hasty), steering.stopped.then(hasty), steering.retired.then(patient)];
}

function endedBy(error: MillraceError | undefined): never {
  throw error ?? new MillraceError('CLOSED', 'the worker was stopped');
}

function describeCounts({ completed, failed }: { completed: number; failed: number }): string {
  return `${formatCount(completed)} done, ${formatCount(failed)} failed`;
}

function logStats(client: Client, worker: Worker, intervalMs: number, log: Log): NodeJS.Timeout {
  let last = { completed: 0, failed: 0, running: -1, atMs: performance.now() };
  let asking = false;
  const tell = async (): Promise<void> => {
    const { completed, failed, running } = worker;
    const atMs = performance.now();
    if (completed === last.completed && failed === last.failed && running === last.running) return;
    const doneRate = ((completed - last.completed) * 1000) / (atMs - last.atMs);
    last = { completed, failed, running, atMs };
    // The server sees how long tasks are held, also when handlers leave our own event loop no time to look.
    const own = await findOwn(client, worker);
    const utilisation = own?.utilisation ?? worker.busy;
    log.all.info(
      { completed, failed, running, utilisation, doneRate },
      `${describeCounts(worker)} (${formatRate(doneRate)}), ${running}/${worker.concurrency} running, busy ${formatShare(utilisation)}`,
    );
  };
  return setInterval(() => {
    if (asking) return;
    asking = true;
    void tell().finally(() => {
      asking = false;
    });
  }, intervalMs);
}

/** Undefined when the server does not answer soon, or with an error: the figures are then what the worker itself knows. */
async function findOwn(client: Client, worker: Worker): Promise<WorkerStatus | undefined> {
  const answer = client.status().catch(() => undefined);
  const status = await Promise.race([
    answer,
    new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 500)),
  ]);
  return status?.workers.find(({ name, pid }) => name === worker.name && pid === process.pid);
}
