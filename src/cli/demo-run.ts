import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../connect.ts';
import type { Status } from '../index.ts';
import type { ClientsReport } from './clients-report.ts';
import type { DemoValues } from './demo.ts';
import { type DemoBackend, type DemoCast, isPortFree } from './demo-cast.ts';
import { type LedgerCount, LedgerReader } from './demo-ledger.ts';
import type { DemoScreen } from './demo-screen.ts';
import { type DemoEyes, ledgerEyes, statusEyes, tellsCounts } from './demo-view.ts';
import { type DemoSample, DemoWatch, type WorkerLoad } from './demo-watch.ts';
import { CommandFailed } from './failure.ts';
import { plural } from './units.ts';

/** What `demo --json` prints. */
export interface DemoReport {
  url: string;
  queue: string;
  clients: number;
  tasksPerClient: number;
  /** Tasks that the clients were told are durable. */
  enqueued: number;
  completed: number;
  /** Tasks that were tried more than once. */
  retried: number;
  failedAttempts: number;
  dead: number;
  /** From the workers' ledgers: tasks of the clients that did not end, and that ended more than once. */
  lost: number;
  duplicated: number;
  /** Absent, as the latencies, where the backend does not tell: RabbitMQ without a store. */
  durability?: string;
  seconds: number;
  throughput: { inPerSecond: number; inSeconds: number; outPerSecond: number; outSeconds: number };
  latencyMs?: Status['latencyMs'];
  confirmMs: ClientsReport['confirmMs'];
  workers: WorkerLoad[];
  queueSizes: { atMs: number; queued: number }[];
}

const LOOK_MS = 100;
/** So long nothing moves before the demo gives up; longer than any pause between two attempts. */
const STUCK_MS = 30_000;
const LEDGER_WAIT_MS = 2000;

export async function runDemo(values: DemoValues, cast: DemoCast, screen: DemoScreen): Promise<DemoReport> {
  const url = values.url ?? (await cast.startServer(await choosePort(values.port, screen)));
  const backend = { url, store: values.store };
  const { queue } = cast;
  const { taskTimeMs, failShare, deadShare, concurrency } = values;
  const client = await connect(url, { name: 'millrace demo', store: values.store });
  try {
    for (let count = 0; count < values.workers; count++) {
      cast.startWorker(backend, concurrency, { taskTimeMs, failRate: failShare, deadRate: deadShare });
    }
    const ledger = new LedgerReader(cast.workers.map((worker) => worker.ledger));
    const processes = { workers: cast.workers, concurrency, clientsLog: cast.clientsLog };
    const told = tellsCounts(backend);
    const eyes = told ? statusEyes(client, queue) : ledgerEyes(ledger, processes);
    if (told) await Promise.race([allWorkersThere(eyes, values.workers), cast.failed()]);
    return await play(values, cast, screen, { backend, queue, ledger, eyes });
  } finally {
    await client.close({ timeoutMs: 0 });
  }
}

async function choosePort(port: number, screen: DemoScreen): Promise<number> {
  if (port === 0 || (await isPortFree(port))) return port;
  screen.note(
    `port ${port} is taken (perhaps by a server: millrace demo --url tcp://127.0.0.1:${port}); using a free one`,
  );
  return 0;
}

async function allWorkersThere(eyes: DemoEyes, count: number): Promise<void> {
  while ((await eyes()).workers.length < count) await sleep(LOOK_MS);
}

interface Scene {
  backend: DemoBackend;
  queue: string;
  ledger: LedgerReader;
  eyes: DemoEyes;
}

async function play(values: DemoValues, cast: DemoCast, screen: DemoScreen, scene: Scene): Promise<DemoReport> {
  const { clients, tasks } = values;
  const watch = new DemoWatch();
  watch.add(await scene.eyes());
  const producers = cast.startClients(scene.backend, values);
  await watchUntilDone(watch, screen, scene, clients * tasks, cast);
  const produced = await producers.ended;
  if (produced !== 0) await producers.failed();
  const { acknowledged, confirmMs } = JSON.parse(producers.stdout.trim().split('\n').at(-1) ?? '') as ClientsReport;
  const ledger = await settledLedger(scene.ledger, clients, tasks);
  return toReport(values, scene, watch, { acknowledged, confirmMs, ledger });
}

/** Until every task has ended; throws when nothing moves any more, and when a process fails. */
async function watchUntilDone(
  watch: DemoWatch,
  screen: DemoScreen,
  { eyes }: Scene,
  total: number,
  cast: DemoCast,
): Promise<void> {
  const failed = cast.failed();
  let last: DemoSample | undefined;
  let movedAtMs = 0;
  for (;;) {
    const sample = watch.add(await Promise.race([eyes(), failed]));
    screen.show(watch, total);
    const { completed, dead, failed: failures, enqueued, atMs, queued } = sample;
    if (completed + dead >= total && queued === 0) return;
    if (completed !== last?.completed || failures !== last.failed || enqueued !== last.enqueued) movedAtMs = atMs;
    if (atMs - movedAtMs > STUCK_MS) {
      const missing = plural(total - completed - dead, 'task');
      throw new CommandFailed('DEMO_STUCK', `nothing has moved for ${STUCK_MS / 1000} s, and ${missing} did not end`);
    }
    last = sample;
    await Promise.race([sleep(LOOK_MS), failed]);
  }
}

/** The workers write their ledgers a moment after the server knows. */
async function settledLedger(ledger: LedgerReader, clients: number, tasks: number): Promise<LedgerCount> {
  const deadlineMs = performance.now() + LEDGER_WAIT_MS;
  for (;;) {
    ledger.read();
    const count = ledger.count(clients, tasks);
    if (count.lost === 0 || performance.now() > deadlineMs) return count;
    await sleep(LOOK_MS);
  }
}

function toReport(
  values: DemoValues,
  { backend: { url }, queue }: Scene,
  watch: DemoWatch,
  counted: { acknowledged: number; confirmMs: ClientsReport['confirmMs']; ledger: LedgerCount },
): DemoReport {
  const { done, dead, lost, duplicated, retried, failedAttempts } = counted.ledger;
  const [inRate, outRate] = [watch.rate('enqueued'), watch.rate('completed')];
  const { status } = watch;
  return {
    url,
    queue,
    clients: values.clients,
    tasksPerClient: values.tasks,
    enqueued: counted.acknowledged,
    completed: done,
    retried,
    failedAttempts,
    dead,
    lost,
    duplicated,
    ...(status === undefined ? {} : { durability: status.server.durability }),
    seconds: round((watch.samples.at(-1)?.atMs ?? 0) / 1000),
    throughput: {
      inPerSecond: round(inRate.perSecond),
      inSeconds: round(inRate.seconds),
      outPerSecond: round(outRate.perSecond),
      outSeconds: round(outRate.seconds),
    },
    ...(status === undefined ? {} : { latencyMs: status.latencyMs }),
    confirmMs: counted.confirmMs,
    workers: watch.loads,
    queueSizes: watch.samples.map(({ atMs, queued }) => ({ atMs: Math.round(atMs), queued })),
  };
}

/** To thousandths. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
