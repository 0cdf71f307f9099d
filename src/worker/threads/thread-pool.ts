import type { Worker } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import type { MillraceError } from '../../errors.ts';
import { SystemClock, settlesWithin, type Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { HandlerKind, Logger } from '../options.ts';
import { type ThreadListener, WorkerThread } from './worker-thread.ts';

export interface PoolOptions {
  readonly url: URL;
  readonly threads: number;
  readonly heapMb: number | undefined;
  readonly logger: Logger | undefined;
  /** Gives up those that load. */
  readonly signal: AbortSignal;
}

/** Who uses the threads of a pool. */
export interface PoolUser extends ThreadListener {
  /** One more thread has loaded the handlers. */
  joined(thread: WorkerThread): void;
}

interface Place {
  thread: WorkerThread;
  /** One after the other, without LIMITS.threadSteadyMs between two. */
  crashes: number;
  crashedMs: number;
  timer: Timer | undefined;
}

/** How long the end of the threads is waited for: one that a system call holds may take longer. */
const TERMINATE_MS = 2000;

/** As many threads as there are to be: one that is gone is replaced. */
export class ThreadPool {
  /** What the threads' clocks show too. */
  readonly clock = new SystemClock();
  readonly handlers!: readonly HandlerKind[];
  user: PoolUser | undefined;
  readonly #piscina: Piscina;
  readonly #options: PoolOptions;
  readonly #places: Place[];
  /** The threads themselves that have not exited, those included that were ended: piscina forgets these at once. */
  readonly #alive = new Set<Worker>();
  #gone: () => void = () => {};
  #replacing = true;

  /** Resolves when all threads have loaded the handlers. Rejects with HANDLERS, INVALID_ARGUMENT and the signal's reason. */
  static async open(options: PoolOptions): Promise<ThreadPool> {
    // Only who wants threads pays for loading it.
    const { Piscina: Pool } = await import('piscina');
    const piscina = new Pool({
      filename: new URL('./thread.js', import.meta.url).href,
      minThreads: 0,
      maxThreads: options.threads,
      // Else a thread that has nothing to do for the pool would sleep, with all that handlers have left in it.
      atomics: 'disabled',
      recordTiming: false,
      ...(options.heapMb === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: options.heapMb } }),
    });
    const { signal } = options;
    signal.throwIfAborted();
    const pool = new ThreadPool(piscina, options);
    const giveUp = (): void => pool.#terminate();
    signal.addEventListener('abort', giveUp);
    try {
      const loaded = await Promise.all(pool.#places.map(({ thread }) => thread.ready));
      (pool as { handlers: readonly HandlerKind[] }).handlers = loaded[0] as readonly HandlerKind[];
      return pool;
    } catch (error) {
      await pool.close(undefined);
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  private constructor(piscina: Piscina, options: PoolOptions) {
    this.#piscina = piscina;
    this.#options = options;
    // A thread that fails between two sessions; there is none without one for long.
    piscina.on('error', (error: unknown) => options.logger?.error({ err: error }, 'a worker thread failed'));
    this.#places = Array.from({ length: options.threads }, () => {
      return { thread: this.#start(), crashes: 0, crashedMs: 0, timer: undefined };
    });
  }

  get threads(): WorkerThread[] {
    return this.#places.map(({ thread }) => thread);
  }

  /** Threads that are gone stay so from now on. */
  stopReplacing(): void {
    this.#replacing = false;
    for (const { timer } of this.#places) timer?.cancel();
  }

  /** In the place of one that was ended, or that has crashed: at once, unless that happens again and again. */
  replace(thread: WorkerThread, crashed: boolean): void {
    const place = this.#places.find((each) => each.thread === thread);
    if (place === undefined || !this.#replacing) return;
    const nowMs = this.clock.steadyMs();
    if (crashed) {
      if (nowMs - place.crashedMs > LIMITS.threadSteadyMs) place.crashes = 0;
      place.crashedMs = nowMs;
      place.crashes++;
    }
    const { threadRestartMsMin, threadRestartMsMax } = LIMITS;
    const pauseMs = place.crashes < 2 || !crashed ? 0 : threadRestartMsMin * 2 ** (place.crashes - 2);
    place.timer = this.clock.setTimer(Math.min(pauseMs, threadRestartMsMax), () => {
      place.thread = this.#start();
      place.thread.ready.then(
        () => this.user?.joined(place.thread),
        (error: unknown) => {
          if (!this.#replacing) return;
          this.#options.logger?.error({ err: error }, 'a worker thread could not be replaced; it is tried again');
          this.replace(place.thread, true);
        },
      );
    });
  }

  /** Threads may end what they run, which is aborted for `reason`. Always resolves. */
  async close(reason: MillraceError | undefined): Promise<void> {
    this.stopReplacing();
    const { threads } = this;
    for (const thread of threads) {
      if (reason === undefined) thread.terminate();
      else thread.close(reason);
    }
    await settlesWithin(this.clock, LIMITS.threadGraceMs, Promise.all(threads.map(({ ended }) => ended)));
    this.#terminate();
    await settlesWithin(this.clock, TERMINATE_MS, Promise.all([this.#piscina.destroy(), this.#allGone()]));
  }

  #terminate(): void {
    for (const thread of this.threads) thread.terminate();
  }

  #allGone(): Promise<void> {
    return new Promise((resolve) => {
      this.#gone = () => {
        if (this.#alive.size === 0) resolve();
      };
      this.#gone();
    });
  }

  #start(): WorkerThread {
    const thread = this.#begin();
    for (const worker of this.#piscina.threads) {
      if (this.#alive.has(worker)) continue;
      this.#alive.add(worker);
      worker.once('exit', () => {
        this.#alive.delete(worker);
        this.#gone();
      });
    }
    return thread;
  }

  #begin(): WorkerThread {
    return new WorkerThread(this.#piscina, this.#options.url, this.clock, {
      reported: (thread, report) => this.user?.reported(thread, report),
      parents: (thread, call, id) => this.user?.parents(thread, call, id),
      warned: (details, message) => this.user?.warned(details, message),
      crashed: (thread, error) => {
        if (this.user !== undefined) this.user.crashed(thread, error);
        else this.replace(thread, true);
      },
    });
  }
}
