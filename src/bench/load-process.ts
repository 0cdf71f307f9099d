import { invariant } from '../errors.ts';
import { type Client, connect, defineTask, type Worker } from '../index.ts';
import { Ledger } from './ledger.ts';
import { answerParent } from './methods.ts';
import { sharedNs } from './numbers.ts';
import { buildPayload, indexIn, PAYLOAD_BYTES } from './payload.ts';
import { type Batches, type Span, sendBatches } from './producing.ts';
import { TASK_NAME } from './workload.ts';

const clients: Client[] = [];
const workers: Worker[] = [];
let ledger = new Ledger(0);
let lastNs = 0;

interface EnqueueOptions extends Pick<Batches<object>, 'first' | 'tasks' | 'batchTasks' | 'callsInFlight'> {
  payloadBytes: number;
  queues: readonly string[];
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
  async enqueue({ payloadBytes, queues, ...numbers }: EnqueueOptions): Promise<Span> {
    return await sendBatches({
      ...numbers,
      build: payloadOf(payloadBytes),
      send: (payloads, call) =>
        clients[call % clients.length].enqueueMany(TASK_NAME, payloads, { queue: queues[call % queues.length] }),
    });
  },

  async work({ workers: count, queues, tasks, concurrency }: WorkOptions): Promise<void> {
    ledger = new Ledger(tasks);
    const handler = defineTask(TASK_NAME).handleBatch((batch) => {
      for (let index = 0; index < batch.length; index++) ledger.mark(indexIn(batch.bytes(index)));
      lastNs = sharedNs();
    });
    for (let index = 0; index < count; index++) {
      const client = clients[index % clients.length];
      workers.push(await client.work([handler], { queues, concurrency, name: `load-${index}` }));
    }
  },

  /** Resolves when so many tasks were processed, or when none has come for `quietMs`, with when the last one was. */
  async reach({ tasks, quietMs }: { tasks: number; quietMs: number }): Promise<{ lastNs: number }> {
    await ledger.reach(tasks, { quietMs });
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
