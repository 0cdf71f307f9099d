import { invariant } from '../errors.ts';
import type { Client, EnqueueOptions } from '../index.ts';
import { connect } from '../index.ts';
import { answerParent } from './methods.ts';
import { nowNs, percentile, sharedNs } from './numbers.ts';
import { buildPayload, buildTimedPayload } from './payload.ts';
import { Outstanding, type Span, sendBatches, sleepUntil } from './producing.ts';
import { ENCRYPTION, TASK_NAME } from './workload.ts';

const CALLS_IN_FLIGHT = 16;

let client: Client | undefined;
let options: EnqueueOptions = {};

function connected(): Client {
  invariant(client !== undefined, 'the producer was connected');
  return client;
}

interface ConnectOptions {
  url: string;
  store?: string | undefined;
  queue?: string;
  encrypted?: boolean;
}

/** Which of the run's tasks. */
interface Numbers {
  first: number;
  tasks: number;
}

const methods = {
  async connect({ url, store, queue, encrypted }: ConnectOptions): Promise<void> {
    options = queue === undefined ? {} : { queue };
    client = await connect(url, { store, encryption: encrypted === true ? ENCRYPTION : undefined });
  },

  async enqueueBatches({ first, tasks, batchTasks }: Numbers & { batchTasks: number }): Promise<Span> {
    return await sendBatches({
      ...{ first, tasks, batchTasks, callsInFlight: CALLS_IN_FLIGHT, build: buildPayload },
      send: (payloads) => connected().enqueueMany(TASK_NAME, payloads, options),
    });
  },

  async enqueueAwaited({ first, tasks, callers }: Numbers & { callers: number }): Promise<Span> {
    let next = first;
    const end = first + tasks;
    const caller = async (): Promise<void> => {
      while (next < end) await connected().enqueue(TASK_NAME, buildPayload(next++));
    };
    const startNs = sharedNs();
    await Promise.all(Array.from({ length: callers }, caller));
    return { startNs, endNs: sharedNs() };
  },

  /** The first `warmUp` of them count for the ledger and not for the median. */
  async enqueueOneByOne({ tasks, warmUp }: { tasks: number; warmUp: number }): Promise<{ p50Us: number }> {
    const tookNs = new Float64Array(tasks - warmUp);
    for (let index = 0; index < tasks; index++) {
      const payload = buildPayload(index);
      const startNs = nowNs();
      await connected().enqueue(TASK_NAME, payload);
      if (index >= warmUp) tookNs[index - warmUp] = nowNs() - startNs;
    }
    return { p50Us: percentile(tookNs, 0.5) / 1000 };
  },

  async enqueuePaced({ tasks, perSecond }: { tasks: number; perSecond: number }): Promise<void> {
    await paced(tasks, perSecond, (index) => connected().enqueue(TASK_NAME, buildTimedPayload(index, sharedNs())));
  },

  /** From before the call of each enqueue to its result. */
  async enqueueForResults(options: Numbers & { perSecond: number }): Promise<{ p50Ms: number; p99Ms: number }> {
    const { first, tasks, perSecond } = options;
    const tookNs = new Float64Array(tasks);
    await paced(tasks, perSecond, async (index) => {
      const startNs = nowNs();
      const task = await connected().enqueue(TASK_NAME, buildPayload(first + index));
      await task.result();
      tookNs[index] = nowNs() - startNs;
    });
    return { p50Ms: percentile(tookNs, 0.5) / 1e6, p99Ms: percentile(tookNs, 0.99) / 1e6 };
  },
};

/** One call every `1000 / perSecond` ms, whatever became of those before. */
async function paced(tasks: number, perSecond: number, make: (index: number) => Promise<unknown>): Promise<void> {
  const calls = new Outstanding();
  const startNs = sharedNs();
  for (let index = 0; index < tasks; index++) {
    const dueNs = startNs + (index * 1e9) / perSecond;
    // What a timer was late shows as two calls in a row, not as a lower rate.
    if (sharedNs() < dueNs) await sleepUntil(dueNs);
    calls.add(make(index));
  }
  await calls.settled();
}

export type ProducerMethods = typeof methods;

answerParent(methods, async () => {
  await client?.close();
});
