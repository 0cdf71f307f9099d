import type { Command } from 'commander';
import { connect } from '../connect.ts';
import type { Client } from '../index.ts';
import { LatencyWindow } from '../io/histogram.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { type ClientsReport, describeReport } from './clients-report.ts';
import { addCommand } from './command.ts';
import { CONNECTION_FLAGS, clientOptions } from './connection.ts';
import { CommandFailed, describeFailure } from './failure.ts';
import { flag, integer, SHARE, text, toggle, type Values } from './flags.ts';
import { encryptionOf, KEY_RING_FLAGS } from './key-ring.ts';
import { type Log, logFile, logLevel, openLog } from './log.ts';
import { keepRunningWithoutReader, print, printJson } from './output.ts';
import { catchStopSignals } from './signals.ts';
import { FAIL_ONCE } from './simulated-work.ts';
import { formatCount, plural } from './units.ts';

const PAYLOAD_BYTES_MIN = 64;
const CLOSE_TIMEOUT_MS = 2000;

const FLAGS = {
  ...CONNECTION_FLAGS,
  ...KEY_RING_FLAGS,
  connectTimeoutMs: { ...CONNECTION_FLAGS.connectTimeoutMs, fallback: DEFAULTS.connectTimeoutMs as number },
  clients: flag(integer(1, 1000), 'producers, each with a connection of its own', 10),
  tasks: flag(integer(1, 100_000_000), 'tasks of each producer', 1000),
  batch: flag(integer(1, LIMITS.batchTasksMax), 'tasks in one call; the next follows its confirmation', 100),
  payloadBytes: flag(integer(PAYLOAD_BYTES_MIN, LIMITS.payloadBytesMax), 'size of each JSON payload', 100),
  queue: flag(text('queue'), 'queue that the tasks go to', DEFAULTS.queue as string),
  name: flag(text('name'), 'task name', 'simulated'),
  failShare: flag(SHARE, 'share of the tasks that ask the built-in handler to fail their first attempt', 0),
  logFile: logFile('multi_client.log'),
  logLevel,
  statsIntervalMs: flag(integer(100, 3_600_000, 'ms'), 'how often the progress is logged', 5000),
  json: toggle('print the report as JSON'),
};

type ClientsValues = Values<typeof FLAGS>;

export function register(program: Command): void {
  addCommand(program, {
    usage: 'clients',
    summary: 'enqueue from many producers at the same time, and report',
    details:
      'A producer ends at the first call that fails; the command fails unless every task was acknowledged. The log ' +
      'goes to standard error, the report to standard output.',
    flags: FLAGS,
    examples: ['millrace clients --clients 20 --tasks 5000 --payload-bytes 200', 'millrace clients --batch 1 --json'],
    run: produce,
  });
}

/** What all producers count together. */
interface Tally {
  acknowledged: number;
  errors: Map<string, number>;
  confirm: LatencyWindow;
  stopped: boolean;
}

async function produce(values: ClientsValues): Promise<void> {
  keepRunningWithoutReader();
  const { logLevel: level, logFile: file } = values;
  const log = openLog({ name: 'clients', level, file, console: 'text', stream: 'stderr' });
  const tally: Tally = { acknowledged: 0, errors: new Map(), confirm: new LatencyWindow(), stopped: false };
  const total = values.clients * values.tasks;
  const stopSignal = catchStopSignals(() => {});
  void stopSignal.received.then((signal) => {
    log.all.warn(`${signal}: no more calls`);
    tally.stopped = true;
  });
  const progress = setInterval(() => {
    const { acknowledged } = tally;
    log.all.info({ acknowledged }, `${formatCount(acknowledged)} of ${plural(total, 'task')} acknowledged`);
  }, values.statsIntervalMs);
  let clients: Client[] = [];
  try {
    clients = await connectAll(values, log);
    const startMs = performance.now();
    await Promise.all(clients.map((client, index) => produceOne(client, index, values, tally, log)));
    report(values, tally, performance.now() - startMs, log);
  } catch (err) {
    log.file.fatal({ err }, 'the clients end');
    throw err;
  } finally {
    clearInterval(progress);
    stopSignal.release();
    await Promise.all(clients.map((client) => client.close({ timeoutMs: CLOSE_TIMEOUT_MS })));
  }
  if (tally.acknowledged < total) {
    const message = `${formatCount(total - tally.acknowledged)} of ${plural(total, 'task')} were not acknowledged`;
    throw new CommandFailed('NOT_ACKNOWLEDGED', message);
  }
}

async function connectAll(values: ClientsValues, log: Log): Promise<Client[]> {
  const { url, clients } = values;
  const options = { ...(await clientOptions(values)), encryption: encryptionOf(values) };
  const connecting = Array.from({ length: clients }, (_, index) =>
    connect(url, { ...options, name: `producer ${index + 1}` }),
  );
  const outcomes = await Promise.allSettled(connecting);
  const connected = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure === undefined) {
    log.all.info(`${plural(clients, 'producer')} connected`);
    return connected;
  }
  await Promise.all(connected.map((client) => client.close({ timeoutMs: 0 })));
  throw failure.reason;
}

/** Ends at the first call that fails: the client has tried again for as long as that made sense. */
async function produceOne(client: Client, index: number, values: ClientsValues, tally: Tally, log: Log): Promise<void> {
  const { tasks, batch, queue, name } = values;
  for (let from = 0; from < tasks && !tally.stopped; from += batch) {
    const count = Math.min(batch, tasks - from);
    const payloads = Array.from({ length: count }, (_, each) => payload(values, index, from + each));
    const startMs = performance.now();
    try {
      const { length } = await client.enqueueMany(name, payloads, { queue });
      tally.acknowledged += length;
      tally.confirm.record(performance.now() - startMs);
    } catch (err) {
      const { line } = describeFailure(err);
      const [code = ''] = line.split(':');
      const before = tally.errors.get(code) ?? 0;
      tally.errors.set(code, before + 1);
      // A thousand producers that meet the same full disk need not all say so.
      if (before === 0) log.all.error({ err, producer: index + 1 }, `producer ${index + 1} ends`);
      return;
    }
  }
}

/** JSON of exactly `payloadBytes`; the share that is to fail is spread evenly. */
function payload({ payloadBytes, failShare }: ClientsValues, client: number, task: number): Buffer {
  const fails = Math.floor((task + 1) * failShare) > Math.floor(task * failShare);
  const body = { client, task, ...(fails ? { fail: FAIL_ONCE } : {}), pad: '' };
  const bytes = Buffer.byteLength(JSON.stringify(body));
  return Buffer.from(JSON.stringify({ ...body, pad: 'x'.repeat(Math.max(0, payloadBytes - bytes)) }));
}

function report(values: ClientsValues, tally: Tally, elapsedMs: number, log: Log): void {
  const { clients, tasks, batch, payloadBytes, queue } = values;
  const { acknowledged } = tally;
  const { p50, p95, p99, count } = tally.confirm.percentiles();
  const finished: ClientsReport = {
    clients,
    tasks,
    batch,
    payloadBytes,
    queue,
    acknowledged,
    notAcknowledged: clients * tasks - acknowledged,
    elapsedMs,
    perSecond: acknowledged / (elapsedMs / 1000),
    confirmMs: { p50, p95, p99, count },
    errors: Object.fromEntries(tally.errors),
  };
  log.file.info(finished, 'report');
  if (values.json) printJson(finished);
  else print(describeReport(finished).join('\n'));
}
