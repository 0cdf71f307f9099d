import type { Broker, ConsumeOptions, Consumer, Consumption } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import { DEFAULTS } from '../limits.ts';
import type { Sealing } from '../sealing/sealing.ts';
import type { Handlers } from '../task/handlers.ts';
import type { Tracing } from '../task/tracing.ts';
import type { Execution } from './execution.ts';
import type { HandlersModule } from './handlers-module.ts';
import { type AttemptInfo, bothHooks, Hooks, infoOf, type WorkerHooks } from './hooks.ts';
import { checkWorkerOptions, type Logger, resolveWorkerOptions, type WorkerOptions } from './options.ts';
import { readParents } from './parents.ts';
import { inLoop, inThreads } from './places.ts';

export interface StopReport {
  /** Tasks that ended while the worker was stopping. */
  readonly finished: number;
  /** Tasks that still ran when the time was over: aborted, and handed back without counting an attempt. */
  readonly abandoned: number;
}

/** What a worker needs of the process. */
export interface WorkerWorld {
  readonly clock: Clock;
  readonly defaultName: string;
  readonly onEnded?: (worker: Worker) => void;
  /** Called before those of the worker itself, which they may not hinder. */
  readonly hooks?: WorkerHooks | undefined;
  readonly tracing?: Tracing | undefined;
  /** Of whose broker it is: decrypts payloads. */
  readonly sealing?: Sealing | undefined;
}

/** An attempt whose handler runs. */
export interface RunningAttempt extends AttemptInfo {
  readonly timesOutAt: Date;
}

/** Answers to settlements are awaited at least so long when a worker stops. */
const SETTLE_MS_MIN = 1000;

/** How long a stop waits: the default for what is no time, because whoever stops must not be kept from it. */
export function stopTimeoutMs(options: { timeoutMs?: number | undefined } | null): number {
  const timeoutMs: unknown = options?.timeoutMs;
  return typeof timeoutMs === 'number' && !Number.isNaN(timeoutMs) ? timeoutMs : DEFAULTS.stopTimeoutMs;
}

/** Runs handlers for the tasks of some queues. Made by `client.work`. */
export class Worker {
  readonly name: string;
  readonly queues: readonly string[];
  /** The names of the tasks that it has handlers for. */
  readonly handlers: readonly string[];
  readonly concurrency: number;
  readonly prefetch: number;
  /** Resolves when the worker has ended: with nothing after `stop`, with the reason when its backend gave up. */
  readonly ended: Promise<MillraceError | undefined>;
  readonly #clock: Clock;
  readonly #logger: Logger | undefined;
  readonly #world: WorkerWorld;
  #execution!: Execution;
  #consumption!: Consumption;
  #end!: (error: MillraceError | undefined) => void;
  #stopping: Promise<StopReport> | undefined;
  /** Shortens what a stop waits for. */
  #hurry: (timeoutMs: number) => void = () => {};
  #over = false;

  /** Resolves when the backend has taken the worker. Rejects with INVALID_ARGUMENT, HANDLERS and what the backend says. */
  static async start(
    broker: Broker,
    handlers: Handlers | HandlersModule,
    options: WorkerOptions,
    world: WorkerWorld,
  ): Promise<Worker> {
    checkWorkerOptions(options);
    const { logger, threads, threadHeapMb: heapMb } = options;
    const place = await (threads === undefined ? inLoop(handlers) : inThreads(handlers, { threads, heapMb, logger }));
    try {
      const consumeOptions = resolveWorkerOptions(options, place.handlers, world.defaultName);
      const names = place.handlers.map(({ name }) => name);
      const worker = new Worker(consumeOptions, names, logger, world);
      const hooks = bothHooks(world.hooks, options.hooks);
      const consumption = await broker.consume(consumeOptions, worker.#consumer());
      worker.#consumption = consumption;
      worker.#execution = place.execute({
        clock: world.clock,
        consumption,
        parents: (id) => readParents(broker, id),
        concurrency: consumeOptions.concurrency,
        logger,
        hooks: hooks === undefined ? undefined : new Hooks(hooks, logger),
        tracing: world.tracing,
        sealing: world.sealing,
      });
      return worker;
    } catch (error) {
      await place.leave();
      throw error;
    }
  }

  private constructor(
    options: ConsumeOptions,
    handlers: readonly string[],
    logger: Logger | undefined,
    world: WorkerWorld,
  ) {
    this.name = options.workerName;
    this.queues = options.queues;
    this.handlers = handlers;
    this.concurrency = options.concurrency;
    this.prefetch = options.prefetch;
    this.#clock = world.clock;
    this.#logger = logger;
    this.#world = world;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Tasks whose handlers run now. */
  get running(): number {
    return this.#execution.running;
  }

  /** What they run; not what ends in the turn in which it begins. */
  attempts(): RunningAttempt[] {
    return this.#execution
      .attempts()
      .map(({ run, index, deadlineMs }) => ({ ...infoOf(run, index), timesOutAt: new Date(deadlineMs) }));
  }

  /** Tasks completed since the start. */
  get completed(): number {
    return this.#execution.completed;
  }

  /** Attempts failed since the start. */
  get failed(): number {
    return this.#execution.failed;
  }

  /** The share of `concurrency` in use now, 0 to 1. */
  get busy(): number {
    return this.#execution.running / this.concurrency;
  }

  /**
   * Takes no more tasks, hands back those that did not start, and waits up to `timeoutMs` (default 10,000) for those that
   * run; then aborts and hands back what is left. Always resolves. Called again it can only shorten the wait.
   */
  stop(options: { timeoutMs?: number | undefined } = {}): Promise<StopReport> {
    const timeoutMs = stopTimeoutMs(options);
    if (this.#stopping === undefined) this.#stopping = this.#stop(timeoutMs);
    else this.#hurry(timeoutMs);
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(timeoutMs: number): Promise<StopReport> {
    const execution = this.#execution;
    if (this.#over) return { finished: 0, abandoned: 0 };
    const before = execution.completed + execution.failed;
    const startMs = this.#clock.steadyMs();
    let deadlineMs = startMs + timeoutMs;
    const patiently = (wait: (ms: number) => Promise<void>): Promise<void> =>
      new Promise((resolve, reject) => {
        this.#hurry = (ms) => {
          deadlineMs = Math.min(deadlineMs, this.#clock.steadyMs() + ms);
          wait(Math.max(0, deadlineMs - this.#clock.steadyMs())).then(resolve, reject);
        };
        this.#hurry(Number.POSITIVE_INFINITY);
      });
    execution.stopStarting();
    const noMore = this.#consumption.stop();
    await patiently((ms) => execution.idle(ms));
    const finished = execution.completed + execution.failed - before;
    const waitedMs = Math.round(this.#clock.steadyMs() - startMs);
    const abandoned = execution.abandon(
      new MillraceError('STOPPING', `the worker stopped waiting for the task after ${waitedMs} ms`),
    );
    await noMore;
    await patiently((ms) => this.#settled(Math.max(ms, SETTLE_MS_MIN)));
    await this.#consumption.close();
    await execution.close();
    this.#finish(undefined);
    return { finished, abandoned };
  }

  async #settled(timeoutMs: number): Promise<void> {
    try {
      await this.#consumption.settled(timeoutMs);
    } catch (error) {
      this.#logger?.warn({ err: error }, 'the worker stopped before the server had answered everything');
    }
  }

  #finish(error: MillraceError | undefined): void {
    this.#over = true;
    this.#end(error);
    this.#world.onEnded?.(this);
  }

  #consumer(): Consumer {
    return {
      deliver: (run) => this.#execution.deliver(run),
      revoke: (run, index, reason) => this.#execution.revoke(run, index, reason),
      connection: (state) => {
        if (state === 'lost') {
          this.#logger?.warn({ worker: this.name }, 'the connection was lost; running tasks go on');
          this.#execution.pause();
        } else {
          this.#logger?.info({ worker: this.name }, 'the connection is back');
          this.#execution.resume();
        }
      },
      ended: (error) => {
        this.#logger?.error({ worker: this.name, err: error }, 'the worker ended: it will get no more tasks');
        this.#execution.stopStarting();
        this.#execution.abandon(error);
        void this.#execution.close();
        this.#finish(error);
      },
    };
  }
}
