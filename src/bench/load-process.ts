import { invariant } from '../errors.ts';
import { type Client, connect, defineTask, type Worker } from '../index.ts';
import { Ledger } from './ledger.ts';
import { answerParent } from './methods.ts';
import { sharedNs } from './numbers.ts';
import { buildPayload, indexIn, PAYLOAD_BYTES } from './payload.ts';
import type { Span } from './producer-process.ts';
import { TASK_NAME } from './workload.ts';

const LOOK_MS = 100;

const clients: Client[] = [];
const workers: Worker[] = [];
let ledger = new Ledger(0);
let lastNs = 0;
let target = 0;
let onTarget = (): void => {};

interface EnqueueOptions {
  first: number;
  tasks: number;
  batchTasks: number;
  payloadBytes: number;
  queues: readonly string[];
  /** Sent and not confirmed. */
  callsInFlight: number;
}

interface WorkOptions {
  workers: number;
  queues: readonly string[];
  tasks: number;
  concurrency: number;
}

/** One side of a growth point: many producers, or many workers, each over connections of its own. */
const methods = {
  async connect({ url, connections }: { url: string; connections: number }): Promise<void> {
    // One after the other: what is measured is not a rush of new connections.
    for (let index = 0; index < connections; index++) clients.push(await connect(url));
  },

  /** One call after the other goes to the next queue and over the next connection. */
  async enqueue(options: EnqueueOptions): Promise<Span> {
    const { first, tasks, batchTasks, payloadBytes, queues, callsInFlight } = options;
    const build = payloadOf(payloadBytes);
    const startNs = sharedNs();
    const inFlight: Promise<unknown>[] = [];
    const end = first + tasks;
    for (let from = first, call = 0; from < end; from += batchTasks, call++) {
      if (inFlight.length === callsInFlight) await inFlight.shift();
      const payloads = new Array(Math.min(batchTasks, end - from));
      for (let index = 0; index < payloads.length; index++) payloads[index] = build(from + index);
      const queue = queues[call % queues.length] as string;
      inFlight.push((clients[call % clients.length] as Client).enqueueMany(TASK_NAME, payloads, { queue }));
    }
    await Promise.all(inFlight);
    return { startNs, endNs: sharedNs() };
  },

  async work({ workers: count, queues, tasks, concurrency }: WorkOptions): Promise<void> {
    ledger = new Ledger(tasks);
    const handler = defineTask(TASK_NAME).handleBatch((batch) => {
      for (let index = 0; index < batch.length; index++) ledger.mark(indexIn(batch.bytes(index)));
      lastNs = sharedNs();
      if (ledger.seen >= target) onTarget();
    });
    for (let index = 0; index < count; index++) {
      const client = clients[index % clients.length] as Client;
      workers.push(await client.work([handler], { queues, concurrency, name: `load-${index}` }));
    }
  },

  /** Resolves when so many tasks were processed, or when none has come for `quietMs`, with when the last one was. */
  async reach({ tasks, quietMs }: { tasks: number; quietMs: number }): Promise<{ lastNs: number }> {
    await new Promise<void>((resolve) => {
      let marks = ledger.marks;
      let quietSinceNs = sharedNs();
      const timer = setInterval(() => {
        if (ledger.marks !== marks) {
          marks = ledger.marks;
          quietSinceNs = sharedNs();
        } else if (sharedNs() - quietSinceNs > quietMs * 1e6) onTarget();
      }, LOOK_MS);
      target = tasks;
      onTarget = () => {
        clearInterval(timer);
        resolve();
      };
      if (ledger.seen >= target) onTarget();
    });
    return { lastNs };
  },

  async pause({ queue }: { queue: string }): Promise<void> {
    await first().queue(queue).pause();
  },

  /** Resolves with when it was asked. */
  async resume({ queue }: { queue: string }): Promise<{ startNs: number }> {
    const startNs = sharedNs();
    await first().queue(queue).resume();
    return { startNs };
  },

  /** What the ledger says once every completion was confirmed. */
  async stop(_: Record<string, never>): Promise<{ lost: number; duplicated: number }> {
    await Promise.all(workers.map((worker) => worker.stop()));
    return { lost: ledger.lost, duplicated: ledger.duplicated + ledger.foreign };
  },
};

export type LoadMethods = typeof methods;

function first(): Client {
  const [client] = clients;
  invariant(client !== undefined, 'the load was connected');
  return client;
}

/** JSON of this size, filled up with text. */
function payloadOf(bytes: number): (index: number) => object {
  const withText = { ...buildPayload(0), text: '' };
  const room = bytes - Buffer.byteLength(JSON.stringify(withText));
  if (bytes === PAYLOAD_BYTES) return buildPayload;
  const text = 'x'.repeat(room);
  return (index) => ({ ...buildPayload(index), text });
}

answerParent(methods, async () => {
  await Promise.all(workers.map((worker) => worker.stop({ timeoutMs: 1000 })));
  await Promise.all(clients.map((client) => client.close()));
});
