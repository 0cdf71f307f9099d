import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Broker } from '../broker/contract.ts';
import { open } from '../connect.ts';
import { MillraceError, redact } from '../errors.ts';
import { SystemClock } from '../io/clock.ts';
import { SystemRandom } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { DEFAULT_POLICY, type Policy } from '../scaling/decision.ts';
import { Supervisor, WorkersFailed } from '../scaling/supervisor.ts';
import { WorkerProcess } from '../scaling/worker-process.ts';
import { type ConnectionValues, clientOptions } from './connection.ts';
import { CommandFailed, UsageError } from './failure.ts';
import { flag, flagName, integer, type Values } from './flags.ts';
import { type Level, type Log, openLog } from './log.ts';
import { keepRunningWithoutReader, print, printNote } from './output.ts';
import { printable } from './printable.ts';
import { catchStopSignals } from './signals.ts';

const MODULE = fileURLToPath(new URL('./worker-process.js', import.meta.url));
const LOOK_MS = 1000;
const DAY_MS = 86_400_000;
const processes = integer(1, LIMITS.workerProcessesMax);
const length = integer(1, DAY_MS, 'ms');
const { min, backlogAgeMs, upPauseMs, downAfterMs } = DEFAULT_POLICY;

/** Only with --max; so none has a default of its own. */
export const SCALING_FLAGS = {
  min: flag(processes, `with --max: worker processes that there are at least (default: ${min})`),
  max: flag(processes, 'worker processes that there are at most: they come and go as tasks wait for them'),
  backlogAgeMs: flag(
    length,
    `with --max: tasks may wait so long before processes are started (default: ${backlogAgeMs})`,
  ),
  scaleUpPauseMs: flag(length, `with --max: between two starts, for the first to show (default: ${upPauseMs})`),
  scaleDownAfterMs: flag(
    length,
    `with --max: fewer must have been enough for so long before one retires (default: ${downAfterMs})`,
  ),
  scaleIntervalMs: flag(integer(50, 60_000, 'ms'), `with --max: how often that is decided (default: ${LOOK_MS})`),
};

type ScalingValues = Values<typeof SCALING_FLAGS>;

/** Of the worker's flags, those that its supervisor has a use for; the others are for its processes. */
interface SupervisedValues extends ScalingValues, ConnectionValues {
  readonly max: number;
  readonly name: string | undefined;
  readonly concurrency: number | undefined;
  readonly prefetch: number | undefined;
  readonly stopTimeoutMs: number;
  readonly logFile: string;
  readonly logLevel: Level;
  readonly json: boolean;
}

/** Throws a UsageError, and UNSUPPORTED for a backend that does not say what waits. */
export function checkScalingFlags(values: ScalingValues & ConnectionValues): void {
  const { max, url, store } = values;
  if (max === undefined) {
    for (const key of Object.keys(SCALING_FLAGS) as (keyof ScalingValues)[]) {
      if (values[key] === undefined) continue;
      throw new UsageError(
        `${flagName(key)} is for a supervisor of worker processes: add --max, how many there may be`,
      );
    }
    return;
  }
  const least = values.min ?? DEFAULT_POLICY.min;
  if (least > max) throw new UsageError(`--min ${least} is more than --max ${max}`);
  if (/^(memory|file):/i.test(url)) {
    throw new UsageError(
      `${redact(url)} belongs to one process: --max needs a server (tcp://HOST:PORT), which several may use`,
    );
  }
  if (/^amqps?:/i.test(url) && store === undefined) {
    const message =
      'RabbitMQ alone does not say how long tasks wait, which --max decides by: add --store, or start as many workers as you need';
    throw new MillraceError('UNSUPPORTED', message);
  }
}

/** Runs worker processes until it is told to end. */
export async function supervise(values: SupervisedValues): Promise<void> {
  keepRunningWithoutReader();
  const log = openLog({
    name: 'supervisor',
    level: values.logLevel,
    file: values.logFile,
    console: values.json ? 'json' : 'text',
  });
  let supervisor: Supervisor | undefined;
  const stopSignal = catchStopSignals((signal) => {
    log.all.warn(`${signal} again: ending at once`);
    supervisor?.killAll();
  });
  try {
    const name = values.name ?? `${hostname()}:${process.pid}`.slice(-100);
    const limits = { callTimeoutMs: ANSWER_MS, reconnect: { maxDelayMs: RECONNECT_MS } };
    const { client, broker } = await open(values.url, { ...(await clientOptions(values)), name, ...limits });
    supervisor = createSupervisor(values, name, broker, log);
    try {
      await supervisor.run(stopSignal.received);
      log.all.info('stopped');
    } finally {
      await client.close({ timeoutMs: CLOSE_MS });
    }
  } catch (thrown) {
    const error = thrown instanceof WorkersFailed ? commandFailed(thrown) : thrown;
    log.file.fatal({ err: error }, 'the supervisor ends');
    throw error;
  } finally {
    stopSignal.release();
  }
}

function createSupervisor(values: SupervisedValues, name: string, broker: Broker, log: Log): Supervisor {
  const { json, connectTimeoutMs, stopTimeoutMs, scaleIntervalMs: intervalMs = LOOK_MS } = values;
  const policy = policyOf(values);
  const url = redact(broker.url);
  log.all.info(
    { url, ...policy },
    `supervisor ${name} at ${url} keeps ${policy.min} to ${policy.max} worker processes`,
  );
  const clock = new SystemClock();
  return new Supervisor(
    {
      ...{ policy, intervalMs, stopTimeoutMs, name },
      startTimeoutMs: connectTimeoutMs + LIMITS.workerStartMs,
      ...{ id: new SystemRandom().hex(8), host: hostname(), pid: process.pid },
    },
    {
      clock,
      logger: log.all,
      status: () => broker.status(),
      report: (report) => broker.reportScaling(report),
      start: (worker) =>
        new WorkerProcess({
          clock,
          module: MODULE,
          name: worker,
          values: workerValues(values, worker),
          onLine: showOf(worker, json),
        }),
    },
  );
}

/** A server that has not answered for so long is away. */
const ANSWER_MS = 5000;
const RECONNECT_MS = 1000;
const CLOSE_MS = 1000;

function policyOf(values: SupervisedValues): Policy {
  return {
    min: values.min ?? DEFAULT_POLICY.min,
    max: values.max,
    backlogAgeMs: values.backlogAgeMs ?? DEFAULT_POLICY.backlogAgeMs,
    upPauseMs: values.scaleUpPauseMs ?? DEFAULT_POLICY.upPauseMs,
    downAfterMs: values.scaleDownAfterMs ?? DEFAULT_POLICY.downAfterMs,
  };
}

/**
 * What the worker is to be: all that the supervisor was told, under its own name. What one process holds does not go to the
 * next that is started, so few handlers do not hold more tasks ahead than as many as they are.
 */
function workerValues(values: SupervisedValues, name: string): object {
  const {
    concurrency,
    prefetch = concurrency === undefined ? undefined : Math.min(concurrency * 2, LIMITS.prefetchMax),
  } = values;
  return { ...values, name, prefetch };
}

/** Lines of JSON name their worker themselves. */
function showOf(name: string, json: boolean): (stream: 'stdout' | 'stderr', line: string) => void {
  const head = json ? '' : `[${printable(name)}] `;
  return (stream, line) => (stream === 'stdout' ? print : printNote)(`${head}${line}`);
}

function commandFailed({ message, ending }: WorkersFailed): CommandFailed {
  const { failure } = ending;
  if (failure === undefined) return new CommandFailed('WORKER_CRASHED', message);
  return new CommandFailed(failure.code, failure.message);
}
