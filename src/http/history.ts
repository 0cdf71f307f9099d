import type { Broker, QueueStatus, Status } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock, Timer } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';

export interface HistorySample {
  atMs: number;
  throughput: Status['throughput'];
  latencyMs: Status['latencyMs'];
  /** All queues together. */
  queues: Record<'ready' | 'active' | 'scheduled' | 'blocked' | 'dead', number>;
  oldestReadyMs: number;
  workers: number;
  /** Of all workers' handlers, the share that was busy, 0 to 1. */
  utilisation: number;
}

/** Of a queue, per second. */
export type QueueRates = Record<'enqueued' | 'completed' | 'failed', number>;

type Totals = Pick<QueueStatus['totals'], keyof QueueRates>;

const STATES = ['ready', 'active', 'scheduled', 'blocked', 'dead'] as const;

/** What a broker's status was over the last minutes, sampled in the background. */
export class History {
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #samples: HistorySample[] = [];
  #timer: Timer | undefined;
  #stopped = false;
  #totals = new Map<string, Totals>();
  #totalsAtMs = 0;
  #rates = new Map<string, QueueRates>();

  constructor(broker: Broker, clock: Clock) {
    this.#broker = broker;
    this.#clock = clock;
  }

  /** Oldest first; at most LIMITS.historySamplesMax. While the broker does not answer there are none. */
  get samples(): readonly HistorySample[] {
    return this.#samples;
  }

  /** Over the last interval; zeros for a queue that is new. */
  ratesOf(queue: string): QueueRates {
    return this.#rates.get(queue) ?? { enqueued: 0, completed: 0, failed: 0 };
  }

  start(): void {
    this.#timer = this.#clock.setTimer(LIMITS.historyIntervalMs, () => void this.#sample());
    this.#timer.unref();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #sample(): Promise<void> {
    try {
      this.#add(await this.#broker.status());
    } catch (error) {
      // A gap in the curves says it; whoever asks for the status now is told why.
      if (!(error instanceof MillraceError)) throw error;
    }
    if (!this.#stopped) this.start();
  }

  #add({ queues, workers, throughput, latencyMs }: Status): void {
    const sums = { ready: 0, active: 0, scheduled: 0, blocked: 0, dead: 0 };
    let oldestReadyMs = 0;
    for (const queue of queues) {
      for (const state of STATES) sums[state] += queue[state];
      oldestReadyMs = Math.max(oldestReadyMs, queue.oldestReadyMs);
    }
    const concurrency = workers.reduce((sum, worker) => sum + worker.concurrency, 0);
    const busy = workers.reduce((sum, worker) => sum + worker.utilisation * worker.concurrency, 0);
    this.#samples.push({
      atMs: Math.round(this.#clock.wallMs()),
      throughput,
      latencyMs,
      queues: sums,
      oldestReadyMs,
      workers: workers.length,
      utilisation: concurrency === 0 ? 0 : busy / concurrency,
    });
    if (this.#samples.length > LIMITS.historySamplesMax) this.#samples.shift();
    this.#countRates(queues);
  }

  #countRates(queues: readonly QueueStatus[]): void {
    const nowMs = this.#clock.steadyMs();
    const seconds = (nowMs - this.#totalsAtMs) / 1000;
    const totals = new Map<string, Totals>();
    const rates = new Map<string, QueueRates>();
    for (const { name, totals: now } of queues) {
      const before = this.#totals.get(name);
      totals.set(name, { enqueued: now.enqueued, completed: now.completed, failed: now.failed });
      if (before === undefined) continue;
      // A backend that was replaced begins to count anew.
      const rate = (what: keyof QueueRates): number => Math.max(0, now[what] - before[what]) / seconds;
      rates.set(name, { enqueued: rate('enqueued'), completed: rate('completed'), failed: rate('failed') });
    }
    this.#totals = totals;
    this.#totalsAtMs = nowMs;
    this.#rates = rates;
  }
}
