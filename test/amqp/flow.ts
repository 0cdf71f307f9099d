import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, type ClientOptions, connect, type Worker } from '../../src/index.ts';

const TASK = 'flow.step';
const BATCH_TASKS = 40;
const BATCH_EVERY_MS = 20;
const CONCURRENCY = 50;
/** How long before an outage a task may have ended without the broker having been told in time. */
const UNTOLD_MS = 2000;
/** An election takes a second; on a machine that has much else to do, many. */
const STUCK_MS = 60_000;

interface Run {
  startMs: number;
  endMs: number;
}

export interface FlowReport {
  acknowledged: number;
  /** Enqueues that were refused in the end: they may have happened or not. */
  unknown: number;
  lost: number;
  /** Tasks that nobody enqueued. */
  unexpected: number;
  duplicated: number;
  /** Duplicates without an outage between their two runs. */
  unexplained: number;
  /** The longest time in which no task ended. */
  longestPauseMs: number;
}

/** A producer and a worker that go on while things break, and a ledger of what became of each task. */
export class Flow {
  readonly #producer: Client;
  readonly #workerClient: Client;
  readonly #acknowledged = new Set<number>();
  readonly #unknown = new Set<number>();
  readonly #runs = new Map<number, Run[]>();
  readonly #outagesMs: number[] = [];
  readonly #waiting: { count: number; resolve: () => void }[] = [];
  #worker: Worker | undefined;
  #next = 0;
  #ended = 0;
  #lastEndMs = performance.now();
  #longestPauseMs = 0;
  #producing: Promise<void> | undefined;
  #isOver = false;

  static async start(url: string, options: ClientOptions = {}): Promise<Flow> {
    const patient = { ...options, connectTimeoutMs: 30_000, enqueueTimeoutMs: 120_000 };
    const flow = new Flow(await connect(url, patient), await connect(url, patient));
    flow.#worker = await flow.#workerClient.work(
      { [TASK]: (input: unknown) => flow.#handle((input as { number: number }).number) },
      { concurrency: CONCURRENCY },
    );
    flow.#producing = flow.#produce();
    return flow;
  }

  private constructor(producer: Client, workerClient: Client) {
    this.#producer = producer;
    this.#workerClient = workerClient;
  }

  /** Something is broken now: what happens twice from here on has a reason. */
  outage(): void {
    this.#outagesMs.push(performance.now());
  }

  /** Resolves when so many more tasks have ended. */
  async flows(tasks: number): Promise<void> {
    const count = this.#ended + tasks;
    await this.#within(`${tasks} more tasks`, new Promise<void>((resolve) => this.#waiting.push({ count, resolve })));
  }

  /** Ends the producer, waits for what it has enqueued, and says what became of it. */
  async end(): Promise<FlowReport> {
    this.#isOver = true;
    await this.#within('the producer', this.#producing as Promise<void>);
    const deadlineMs = performance.now() + STUCK_MS;
    while (this.#missing() > 0 && performance.now() < deadlineMs) await sleep(50);
    await this.close();
    return this.#report();
  }

  /** Always resolves. */
  async close(): Promise<void> {
    this.#isOver = true;
    await this.#worker?.stop({ timeoutMs: 5000 });
    await Promise.all([this.#producer.close({ timeoutMs: 1000 }), this.#workerClient.close({ timeoutMs: 1000 })]);
  }

  async #produce(): Promise<void> {
    while (!this.#isOver) {
      const numbers = Array.from({ length: BATCH_TASKS }, () => this.#next++);
      const payloads = numbers.map((number) => ({ number }));
      try {
        await this.#producer.enqueueMany(TASK, payloads);
        for (const number of numbers) this.#acknowledged.add(number);
      } catch {
        // Not known whether it happened: such tasks may run and need not.
        for (const number of numbers) this.#unknown.add(number);
      }
      await sleep(BATCH_EVERY_MS);
    }
  }

  async #handle(number: number): Promise<void> {
    const startMs = performance.now();
    await sleep(1);
    const endMs = performance.now();
    const runs = this.#runs.get(number);
    if (runs === undefined) this.#runs.set(number, [{ startMs, endMs }]);
    else runs.push({ startMs, endMs });
    this.#ended += 1;
    this.#longestPauseMs = Math.max(this.#longestPauseMs, endMs - this.#lastEndMs);
    this.#lastEndMs = endMs;
    while (this.#waiting[0] !== undefined && this.#ended >= this.#waiting[0].count) this.#waiting.shift()?.resolve();
  }

  #missing(): number {
    let missing = 0;
    for (const number of this.#acknowledged) if (!this.#runs.has(number)) missing += 1;
    return missing;
  }

  #report(): FlowReport {
    let [duplicated, unexplained, unexpected] = [0, 0, 0];
    for (const [number, runs] of this.#runs) {
      if (!this.#acknowledged.has(number) && !this.#unknown.has(number)) unexpected += 1;
      duplicated += runs.length - 1;
      for (let index = 1; index < runs.length; index += 1) {
        const [before, again] = [runs[index - 1] as Run, runs[index] as Run];
        const isExplained = this.#outagesMs.some((atMs) => atMs > before.endMs - UNTOLD_MS && atMs < again.endMs);
        if (!isExplained) unexplained += 1;
      }
    }
    return {
      acknowledged: this.#acknowledged.size,
      unknown: this.#unknown.size,
      lost: this.#missing(),
      unexpected,
      duplicated,
      unexplained,
      longestPauseMs: Math.round(this.#longestPauseMs),
    };
  }

  async #within<T>(what: string, promise: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const stuck = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const { ended, acknowledged, missing } = {
          ended: this.#ended,
          acknowledged: this.#acknowledged.size,
          missing: this.#missing(),
        };
        const counts = `${acknowledged} acknowledged, ${ended} ended, ${missing} missing`;
        reject(new Error(`${what}: nothing for ${STUCK_MS} ms; ${counts}`));
      }, STUCK_MS);
    });
    return await Promise.race([promise, stuck]).finally(() => clearTimeout(timer));
  }
}
