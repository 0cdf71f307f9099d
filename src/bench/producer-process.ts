import { invariant } from '../errors.ts';
import type { Client, EnqueueOptions } from '../index.ts';
import { connect } from '../index.ts';
import { answerParent } from './methods.ts';
import { nowNs, percentile, sharedNs } from './numbers.ts';
import { buildPayload, buildTimedPayload } from './payload.ts';
import { ENCRYPTION, TASK_NAME } from './workload.ts';

/** Batches sent and not confirmed: enough to keep the server busy while its disk syncs. */
const BATCHES_IN_FLIGHT = 16;

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

/** When the first call was made, and when the last was confirmed; common to all processes. */
export interface Span {
  startNs: number;
  endNs: number;
}

const methods = {
  async connect({ url, store, queue, encrypted }: ConnectOptions): Promise<void> {
    options = queue === undefined ? {} : { queue };
    client = await connect(url, { store, encryption: encrypted === true ? ENCRYPTION : undefined });
  },

  async enqueueBatches({ first, tasks, batchTasks }: Numbers & { batchTasks: number }): Promise<Span> {
    const startNs = sharedNs();
    const inFlight: Promise<unknown>[] = [];
    const end = first + tasks;
    for (let from = first; from < end; from += batchTasks) {
      if (inFlight.length === BATCHES_IN_FLIGHT) await inFlight.shift();
      const count = Math.min(batchTasks, end - from);
      const payloads = new Array(count);
      for (let index = 0; index < count; index++) payloads[index] = buildPayload(from + index);
      inFlight.push(connected().enqueueMany(TASK_NAME, payloads, options));
    }
    await Promise.all(inFlight);
    return { startNs, endNs: sharedNs() };
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

  /** One call every `1000 / perSecond` ms, whatever became of those before. */
  async enqueuePaced({ tasks, perSecond }: { tasks: number; perSecond: number }): Promise<void> {
    const inFlight = new Set<Promise<unknown>>();
    const startNs = nowNs();
    for (let index = 0; index < tasks; index++) {
      const dueNs = startNs + (index * 1e9) / perSecond;
      // A timer ends up to a millisecond late; what is left of that shows as two calls in a row, not as a lower rate.
      while (nowNs() < dueNs) await new Promise((resolve) => setTimeout(resolve, Math.max(1, (dueNs - nowNs()) / 1e6)));
      const call = connected().enqueue(TASK_NAME, buildTimedPayload(index, sharedNs()));
      inFlight.add(call);
      call.then(
        () => inFlight.delete(call),
        // Stays in the set, and so fails the run at the end.
        () => {},
      );
    }
    await Promise.all(inFlight);
  },
};

export type ProducerMethods = typeof methods;

answerParent(methods, async () => {
  await client?.close();
});
