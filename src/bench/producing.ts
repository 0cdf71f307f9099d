import { sharedNs } from './numbers.ts';

/** When the first call was made, and when the last was confirmed; common to all processes. */
export interface Span {
  startNs: number;
  endNs: number;
}

export interface Batches<Payload> {
  /** Which of the run's tasks. */
  first: number;
  tasks: number;
  /** Of one call. */
  batchTasks: number;
  /** Sent and not confirmed: enough to keep the server busy while its disk syncs. */
  callsInFlight: number;
  build: (index: number) => Payload;
  /** Calls count from 0. Resolves when it is confirmed. */
  send: (payloads: Payload[], call: number) => Promise<unknown>;
  /** Nothing more is sent afterwards. Default: never. */
  forMs?: number;
}

/** Payloads are built one by one as they are sent. Resolves when all are confirmed, with how many there were. */
export async function sendBatches<Payload>(options: Batches<Payload>): Promise<Span & { tasks: number }> {
  const { first, tasks, batchTasks, callsInFlight, build, send, forMs = Number.POSITIVE_INFINITY } = options;
  const startNs = sharedNs();
  const inFlight: Promise<unknown>[] = [];
  const end = first + tasks;
  let from = first;
  for (let call = 0; from < end && sharedNs() - startNs < forMs * 1e6; call++) {
    if (inFlight.length === callsInFlight) await inFlight.shift();
    const count = Math.min(batchTasks, end - from);
    const payloads = new Array<Payload>(count);
    for (let index = 0; index < count; index++) payloads[index] = build(from + index);
    inFlight.push(send(payloads, call));
    from += count;
  }
  await Promise.all(inFlight);
  return { tasks: from - first, startNs, endNs: sharedNs() };
}

/** Resolves at this time of the shared clock. */
export async function sleepUntil(dueNs: number): Promise<void> {
  // A timer ends up to a millisecond late.
  while (sharedNs() < dueNs) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(1, (dueNs - sharedNs()) / 1e6)));
  }
}

/** Calls that go on beside each other, and that are not to be forgotten. */
export class Outstanding {
  readonly #calls = new Set<Promise<unknown>>();

  add(call: Promise<unknown>): void {
    this.#calls.add(call);
    call.then(
      () => this.#calls.delete(call),
      // It stays, and so `settled` rejects.
      () => {},
    );
  }

  /** Rejects when one of them did. */
  async settled(): Promise<void> {
    await Promise.all(this.#calls);
  }
}
