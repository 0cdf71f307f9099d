import { connectEmbedded } from '../broker/embedded/embedded.ts';
import { Client } from '../client/client.ts';
import { MillraceError, shown } from '../errors.ts';
import { eventLoop } from '../io/event-loop.ts';
import { checkInteger, DEFAULTS, LIMITS } from '../limits.ts';
import type { TaskContext } from '../task/handler.ts';
import { checkKeys } from '../task/options.ts';
import { VERSION } from '../version.ts';
import type { RunningAttempt } from '../worker/worker.ts';
import { type Duration, durationMs } from './duration.ts';
import { Ends, failuresError, type Report } from './failures.ts';
import { SeededRandom } from './seeded-random.ts';
import { TestClock } from './test-clock.ts';

export type { Duration } from './duration.ts';
export type { FailedAttempt, Report } from './failures.ts';

/**
 * A queue for tests: client, worker, session and core are those of production; the journal is memory, and the clock stands
 * still until the test moves it. Handlers are ordinary functions whose own waits the clock knows nothing of, so the clock
 * moves on only when all of them have ended, or wait for it in `sleep`.
 */
export interface TestQueueOptions {
  /** What the clock says at first. Default: the beginning of 2026, UTC, in every run. */
  startAt?: Date | number | undefined;
  /** How long, in real time, `advance` and `drain` wait for handlers that run. Default 3000. */
  waitMs?: number | undefined;
}

export interface DrainOptions {
  /** Resolve although attempts have failed: the report has them. */
  allowFailures?: boolean | undefined;
}

export interface DrainReport extends Report {
  /**
   * Tasks that are ready still: no worker takes their queue, or its limits hold them up. Those of paused queues are not
   * counted.
   */
  readonly ready: number;
}

const START_MS = Date.UTC(2026, 0, 1);
const WAIT_MS = 3000;
/** So many times `waitMs` without a moment in which only handlers are waited for. */
const ENDLESS_WAITS = 10;
/** Turns of the event loop after which handlers are waited for with less haste. */
const EAGER_TURNS = 100;
/** After so many timers that started nothing others get their turn. */
const QUICK_TIMERS_MAX = 1000;
const SHOWN_MAX = 10;

/** Rejects with INVALID_ARGUMENT. */
export async function testQueue(options: TestQueueOptions = {}): Promise<TestQueue> {
  checkKeys('testQueue', options, ['startAt', 'waitMs']);
  const { startAt = START_MS, waitMs = WAIT_MS } = options;
  const startMs: unknown = startAt instanceof Date ? startAt.getTime() : startAt;
  checkInteger('startAt', startMs, 0, MS_MAX);
  checkInteger('waitMs', waitMs, 1, LIMITS.timeoutMsMax);
  const clock = new TestClock(startMs);
  const random = new SeededRandom();
  const { reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs } = DEFAULTS;
  const identity = { client: 'test', host: 'test', pid: process.pid, version: VERSION, producer: random.hex(16) };
  const times = { reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs };
  const broker = await connectEmbedded({ memory: '' }, { url: 'memory:', clock, random, identity, ...times }, {});
  const ends = new Ends();
  const client = new Client(broker, { clock, workerName: 'test', hooks: ends.hooks });
  return new TestQueue(client, clock, ends, waitMs);
}

/** The last moment that a Date can hold. */
const MS_MAX = 8.64e15;

export class TestQueue {
  /** The ordinary client. What it enqueues may run before the test asks for anything: workers do not wait for `drain`. */
  readonly client: Client;
  readonly #clock: TestClock;
  readonly #ends: Ends;
  readonly #waitMs: number;
  /** Ids of tasks whose handlers wait for the clock, with how often. */
  readonly #sleeping = new Map<string, number>();
  /** Attempts that were waited for in vain, and that time out in the stretch of time that passes. */
  readonly #hung = new Set<string>();
  #busy = false;
  #closing: Promise<void> | undefined;

  /** Made by `testQueue`. */
  constructor(client: Client, clock: TestClock, ends: Ends, waitMs: number) {
    this.client = client;
    this.#clock = clock;
    this.#ends = ends;
    this.#waitMs = waitMs;
  }

  /** What the clock says: for `runAt`, and for what handlers compare. */
  now(): Date {
    return new Date(this.#clock.wallMs());
  }

  /**
   * Lets time pass: delays, retries, timeouts and whatever else is due come in their order, and everything that each starts
   * has ended before the next comes. Resolves with what ended since the last `advance` or `drain`; failed attempts are in it.
   *
   * Rejects with INVALID_ARGUMENT, and with TIMEOUT, naming the tasks, when handlers still run after `waitMs` of real time
   * and nothing in this stretch of time ends them; then time has passed as far as `now()` says.
   */
  async advance(duration: Duration): Promise<Report> {
    const ms = durationMs(duration);
    return this.#alone('advance', async () => {
      const endMs = this.#clock.steadyMs() + ms;
      await this.#settle(endMs);
      let quick = 0;
      while (this.#clock.nextDueMs <= endMs) {
        const { activity } = this.#clock;
        this.#clock.fireNext();
        await eventLoop.reactions();
        // Upkeep that only sets its timer again starts nothing that would have to be waited for.
        const idle = this.#clock.deferred === 0 && this.#clock.activity <= activity + 1;
        if (idle && ++quick < QUICK_TIMERS_MAX && this.#awake().length === 0) continue;
        quick = 0;
        await this.#settle(endMs);
      }
      this.#clock.moveTo(endMs);
      await this.#settle(endMs);
      return this.#ends.take();
    });
  }

  /**
   * Runs everything that is due, without any time passing. Rejects with HANDLER_FAILED when an attempt has failed since the
   * last `advance` or `drain`, also one that will be tried again: `cause` is what the handler threw. With `allowFailures` it
   * resolves all the same. Rejects with TIMEOUT, naming the tasks, when handlers still run after `waitMs` of real time.
   */
  async drain(options: DrainOptions = {}): Promise<DrainReport> {
    checkKeys('drain', options, ['allowFailures']);
    return this.#alone('drain', async () => {
      await this.#settle(Number.NEGATIVE_INFINITY);
      const { queues } = await this.client.status();
      const report = this.#ends.take();
      if (report.failures.length > 0 && options.allowFailures !== true) throw failuresError(report.failures);
      return { ...report, ready: queues.reduce((sum, { paused, ready }) => (paused ? sum : sum + ready), 0) };
    });
  }

  /**
   * For handlers whose work takes time: resolves when so much of it has passed on the clock, rejects when the attempt's
   * signal is aborted. A handler that waits here is not waited for.
   */
  sleep(duration: Duration, context: Pick<TaskContext, 'id' | 'signal'>): Promise<void> {
    const ms = durationMs(duration);
    const { id, signal } = context;
    return new Promise((resolve, reject) => {
      if (signal.aborted) throw signal.reason;
      const wake = (): void => {
        const count = this.#sleeping.get(id) ?? 1;
        if (count > 1) this.#sleeping.set(id, count - 1);
        else this.#sleeping.delete(id);
        timer.cancel();
        signal.removeEventListener('abort', aborted);
      };
      const aborted = (): void => {
        wake();
        reject(signal.reason);
      };
      const timer = this.#clock.setTimer(ms, () => {
        wake();
        resolve();
      });
      this.#sleeping.set(id, (this.#sleeping.get(id) ?? 0) + 1);
      signal.addEventListener('abort', aborted);
    });
  }

  /** Ends it, with handlers that still run: their signals are aborted. Always resolves. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    let closed = false;
    const closing = this.client.close({ timeoutMs: 0 }).then(() => {
      closed = true;
    });
    while (!closed) {
      const { activity } = this.#clock;
      await eventLoop.turn();
      // Whatever it still waits for is given up after some time.
      if (!closed && activity === this.#clock.activity && this.#clock.deferred === 0) this.#clock.fireNext();
    }
    await closing;
  }

  /** Two who move the clock at the same time would wait for each other's handlers. */
  async #alone<T>(what: string, run: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new MillraceError('CLOSED', `the test queue was closed before ${what}`);
    if (this.#busy) {
      const message = `${what} was called while an advance or drain was under way, perhaps in a handler: await one after the other`;
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    this.#busy = true;
    try {
      return await run();
    } finally {
      this.#busy = false;
      this.#hung.clear();
    }
  }

  /** Resolves when nothing goes on that needs no time to pass; or handlers run on, and all of them time out until `endMs`. */
  async #settle(endMs: number): Promise<void> {
    let waits = 0;
    let cancel: (() => void) | undefined;
    const wait = (): void => {
      cancel = eventLoop.after(this.#waitMs, () => {
        waits++;
        wait();
      });
    };
    try {
      for (let turns = 0; ; turns++) {
        const { activity } = this.#clock;
        await eventLoop.turn();
        const still = this.#clock.activity === activity && this.#clock.deferred === 0;
        const awake = this.#awake();
        if (still && awake.length === 0) return;
        if (waits >= ENDLESS_WAITS) throw this.#stuck(awake);
        if (waits > 0 && still) {
          if (awake.some(({ timesOutAt }) => timesOutAt.getTime() > endMs)) throw this.#stuck(awake);
          for (const attempt of awake) this.#hung.add(keyOf(attempt));
          return;
        }
        if (cancel === undefined) wait();
        if (still && turns > EAGER_TURNS) await eventLoop.pause(1);
      }
    } finally {
      cancel?.();
    }
  }

  /** Handlers that run and do not wait for the clock. */
  #awake(): RunningAttempt[] {
    const attempts: RunningAttempt[] = [];
    for (const worker of this.client.workers) {
      if (worker.running === 0) continue;
      for (const attempt of worker.attempts()) {
        if (!this.#sleeping.has(attempt.id) && !this.#hung.has(keyOf(attempt))) attempts.push(attempt);
      }
    }
    return attempts;
  }

  #stuck(awake: readonly RunningAttempt[]): MillraceError {
    const running = awake.map(({ id, name, attempt }) => `${shown(name)} (task ${id}, attempt ${attempt})`);
    const shownNames = running.slice(0, SHOWN_MAX).join(', ');
    const names = running.length > SHOWN_MAX ? `${shownNames} and ${running.length - SHOWN_MAX} more` : shownNames;
    const what =
      running.length === 0 ? 'tasks still come, one after the other' : `these handlers have not ended: ${names}`;
    const message = `after ${this.#waitMs} ms of real time, or more, ${what}. Handlers that wait for time to pass should do so in queue.sleep(duration, ctx); for slow ones raise waitMs`;
    return new MillraceError('TIMEOUT', message, { details: { waitMs: this.#waitMs, running: awake } });
  }
}

function keyOf({ id, attempt }: RunningAttempt): string {
  return `${id}:${attempt}`;
}
