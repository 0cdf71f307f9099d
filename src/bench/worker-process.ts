import { invariant } from '../errors.ts';
import { type Client, connect, defineTask, type Worker } from '../index.ts';
import { Ledger } from './ledger.ts';
import { answerParent } from './methods.ts';
import { percentile, sharedNs } from './numbers.ts';
import { type BenchPayload, indexIn, indexOf, type TimedPayload } from './payload.ts';
import { SharedLedger, setThreadScene } from './shared-ledger.ts';
import { CONCURRENCY, ENCRYPTION, type Handling, TASK_NAME, type Threaded } from './workload.ts';

export interface WorkerReport {
  lost: number;
  /** Also tasks that nobody enqueued. */
  duplicated: number;
  /** When the first handler began (0: never), and when the last completion was confirmed; common to all processes. */
  firstNs: number;
  confirmedNs: number;
  /** From the task from which on it is measured to the last one; only in threads. */
  spanNs: number | null;
  /** Enqueue call to handler start; only when `timed`. */
  startLatencyMs: { p50: number; p99: number } | null;
}

interface WorkOptions {
  url: string;
  store?: string | undefined;
  queue?: string;
  tasks: number;
  handling: Handling;
  encrypted?: boolean;
}

let client: Client | undefined;
let worker: Worker | undefined;
let ledger: Ledger | SharedLedger = new Ledger(0);
let firstNs = 0;
let latenciesNs = new Float64Array(0);

function mark(index: number): void {
  if (firstNs === 0) firstNs = sharedNs();
  ledger.mark(index);
}

const handlers = {
  batch: defineTask(TASK_NAME).handleBatch(async (batch) => {
    for (let index = 0; index < batch.length; index++) mark(indexIn(batch.bytes(index)));
  }),
  each: defineTask<BenchPayload>(TASK_NAME).handle(async (input) => {
    mark(indexOf(input));
    return { sent: input.number };
  }),
  plain: defineTask<BenchPayload>(TASK_NAME).handle(async (input) => mark(indexOf(input))),
  timed: defineTask<TimedPayload>(TASK_NAME).handle(async (input) => {
    latenciesNs[ledger.marks] = sharedNs() - input.calledAtNs;
    mark(indexOf(input));
  }),
};

const methods = {
  async work({ url, store, queue, tasks, handling, encrypted }: WorkOptions): Promise<void> {
    ledger = new Ledger(tasks);
    if (handling === 'timed') latenciesNs = new Float64Array(tasks);
    client = await connect(url, { store, encryption: encrypted === true ? ENCRYPTION : undefined });
    const options = { concurrency: CONCURRENCY[handling], ...(queue === undefined ? {} : { queues: [queue] }) };
    worker = await client.work([handlers[handling]], options);
  },

  async workInThreads({ url, tasks, threaded }: { url: string; tasks: number; threaded: Threaded }): Promise<void> {
    const { threads, concurrency, rounds, from } = threaded;
    const shared = new SharedLedger(tasks, from);
    ledger = shared;
    setThreadScene({ ledger: { buffer: shared.buffer, expected: tasks, from }, rounds });
    client = await connect(url);
    worker = await client.work(new URL('./thread-handlers.js', import.meta.url), { threads, concurrency });
  },

  /** Resolves when so many tasks were processed, or when none has come for `quietMs`. */
  async reach({ tasks, quietMs }: { tasks: number; quietMs: number }): Promise<void> {
    await ledger.reach(tasks, { quietMs });
  },

  /** Resolves when every task was processed and confirmed, or when none has come for `quietMs`. `warmUp`: the first are not timed. */
  async finish({ warmUp, quietMs }: { warmUp: number; quietMs: number }): Promise<WorkerReport> {
    invariant(worker !== undefined && client !== undefined, 'the worker works');
    await ledger.reach(ledger.expected, { quietMs });
    // Resolves when what it completed is confirmed.
    await worker.stop();
    const confirmedNs = sharedNs();
    await client.close();
    const { lost, duplicated, foreign } = ledger;
    const spanNs = ledger instanceof SharedLedger ? ledger.spanNs : null;
    return { lost, duplicated: duplicated + foreign, firstNs, confirmedNs, spanNs, startLatencyMs: latency(warmUp) };
  },
};

export type WorkerMethods = typeof methods;

function latency(warmUp: number): WorkerReport['startLatencyMs'] {
  const measured = latenciesNs.subarray(warmUp, ledger.marks);
  if (measured.length === 0) return null;
  return { p50: percentile(measured, 0.5) / 1e6, p99: percentile(measured, 0.99) / 1e6 };
}

answerParent(methods, async () => {
  await worker?.stop({ timeoutMs: 1000 });
  await client?.close();
});
