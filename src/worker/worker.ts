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
import { Patience } from './patience.ts';
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
  /** A worker that is starting is not wanted any more. */
  readonly signal: AbortSignal;
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

/** A server is given at least so long to answer when a worker stops. */
const ANSWER_MS_MIN = 2000;
const REFUSED = 'the outcome of a task was refused: its lease was lost, it may run twice';
const UNANSWERED = 'the worker stopped before the server had answered everything';

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
  /**
   * Resolves when the worker has ended, and its threads, if it has any: with nothing after `stop`, with the reason when its
   * backend gave up.
   */
  readonly ended: Promise<MillraceError | undefined>;
  readonly #clock: Clock;
  readonly #logger: Logger | undefined;
  readonly #world: WorkerWorld;
  #execution!: Execution;
  #consumption!: Consumption;
  #resolveEnded!: (error: MillraceError | undefined) => void;
  #stopping: { readonly patience: Patience; readonly report: Promise<StopReport> } | undefined;
  /** Once it ends, for whatever reason. */
  #ending: Promise<void> | undefined;

  /** Resolves when the backend has taken the worker. Rejects with INVALID_ARGUMENT, HANDLERS and what the backend says. */
  static async start(
    broker: Broker,
    handlers: Handlers | HandlersModule,
    options: WorkerOptions,
    world: WorkerWorld,
  ): Promise<Worker> {
    checkWorkerOptions(options);
    const { logger, threads, threadHeapMb: heapMb } = options;
    const { signal } = world;
    const place = await (threads === undefined
      ? inLoop(handlers)
      : inThreads(handlers, { threads, heapMb, logger, signal }));
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
      this.#resolveEnded = resolve;
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
    if (this.#stopping === undefined) {
      const patience = new Patience(this.#clock, timeoutMs);
      this.#stopping = { patience, report: this.#stop(patience) };
    } else this.#stopping.patience.shorten(timeoutMs);
    return this.#stopping.report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(patience: Patience): Promise<StopReport> {
    const execution = this.#execution;
    if (this.#ending !== undefined) {
      await this.#ending;
      return { finished: 0, abandoned: 0 };
    }
    const before = execution.completed + execution.failed;
    const startMs = this.#clock.steadyMs();
    execution.stopStarting();
    const noMore = this.#consumption.stop();
    await patience.settles(execution.idle());
    const finished = execution.completed + execution.failed - before;
    const waitedMs = Math.round(this.#clock.steadyMs() - startMs);
    const abandoned = execution.abandon(
      new MillraceError('STOPPING', `the worker stopped waiting for the task after ${waitedMs} ms`),
    );
    // Threads take their time, too.
    void execution.close();
    patience.leaveAtLeast(ANSWER_MS_MIN);
    // A server that does not answer must not hold the stop: what it delivers later goes back unseen.
    await patience.settles(noMore);
    await this.#settled(patience);
    await this.#consumption.close();
    await this.#end(undefined);
    return { finished, abandoned };
  }

  async #settled(patience: Patience): Promise<void> {
    let failure: unknown;
    const settled = this.#consumption.settled(Math.max(patience.leftMs, 0)).catch((error: unknown) => {
      failure = error;
    });
    if ((await patience.settles(settled)) && failure === undefined) return;
    this.#logger?.warn({ worker: this.name, err: failure }, UNANSWERED);
  }

  /** Nothing that it ran runs on in a thread when whoever waits for the end hears of it. */
  #end(error: MillraceError | undefined): Promise<void> {
    this.#ending ??= this.#execution.close().then(() => {
      this.#resolveEnded(error);
      this.#world.onEnded?.(this);
    });
    return this.#ending;
  }

  #consumer(): Consumer {
    return {
      deliver: (run) => this.#execution.deliver(run),
      revoke: (run, index, reason) => {
        if (!this.#execution.revoke(run, index, reason)) this.#logger?.warn({ task: run.id(index) }, REFUSED);
      },
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
        void this.#end(error);
      },
    };
  }
}
