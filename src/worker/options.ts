import type { ConsumeOptions } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, checkName, DEFAULTS, LIMITS } from '../limits.ts';
import type { TaskHandler } from '../task/handler.ts';
import { checkKeys } from '../task/options.ts';
import { checkHooks, type WorkerHooks } from './hooks.ts';

/** The name of a handler that takes the tasks for which there is no other. */
export const ANY_NAME = '*';

/** What a worker says about itself; a pino logger is one. */
export interface Logger {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface WorkerOptions {
  /** Default: the queues of the handlers' definitions; `default` for handlers given by name. */
  queues?: readonly string[] | undefined;
  /**
   * Handlers that run at the same time; for batch handlers, tasks inside running batches. 1 to 65,536. Default 50, or twice
   * the largest `batchSize`. With `threads`: in all of them together, at least one each, which is the default too (one batch
   * of the largest `batchSize` each).
   */
  concurrency?: number | undefined;
  /**
   * Tasks held at once, those that run included. Default: twice `concurrency`, at least 16 more than it; with `threads`, at
   * least 50 more for each.
   */
  prefetch?: number | undefined;
  /**
   * Run the handlers, which then come from a module, in so many worker threads, 1 to 256: see docs/threads.md. Default: in
   * this thread's event loop.
   */
  threads?: number | undefined;
  /** What each thread may have as its heap, in MiB, 16 to 65,536; one that needs more crashes. Default: as Node decides. */
  threadHeapMb?: number | undefined;
  /** Shown in status. Default: host and process id. */
  name?: string | undefined;
  logger?: Logger | undefined;
  hooks?: WorkerHooks | undefined;
}

const KEYS = ['queues', 'concurrency', 'prefetch', 'threads', 'threadHeapMb', 'name', 'logger', 'hooks'];
const NAME_BYTES_MAX = 128;

/** What can be told without knowing the handlers. Throws INVALID_ARGUMENT. */
export function checkWorkerOptions(options: WorkerOptions): void {
  checkKeys('work', options, KEYS);
  const { threads, threadHeapMb, concurrency } = options;
  if (threads !== undefined) checkInteger('threads', threads, 1, LIMITS.threadsMax);
  if (concurrency !== undefined) checkInteger('concurrency', concurrency, 1, LIMITS.prefetchMax);
  if (threads !== undefined && concurrency !== undefined && concurrency < threads) {
    const message = `concurrency is ${concurrency} for ${threads} threads, of which each runs at least one handler: give ${threads} or more, or fewer threads`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: concurrency, min: threads } });
  }
  if (threadHeapMb !== undefined) {
    checkInteger('threadHeapMb', threadHeapMb, LIMITS.threadHeapMbMin, LIMITS.threadHeapMbMax);
    if (threads === undefined)
      throw new MillraceError('INVALID_ARGUMENT', 'threadHeapMb is for worker threads: give threads as well');
  }
  checkLogger(options.logger);
  checkHooks(options.hooks);
}

/** What a worker has to know of a handler that may be in another thread. */
export interface HandlerKind {
  readonly name: string;
  readonly queue: string;
  /** 1 for a handler of single tasks. */
  readonly batchSize: number;
}

export function kindOf(handler: TaskHandler): HandlerKind {
  const batchSize = handler.kind === 'batch' ? handler.batchSize : 1;
  return { name: handler.format.name, queue: handler.queue, batchSize };
}

/** Throws INVALID_ARGUMENT. */
export function resolveWorkerOptions(
  options: WorkerOptions,
  handlers: readonly HandlerKind[],
  defaultName: string,
): ConsumeOptions {
  const { threads } = options;
  const batchSizeMax = Math.max(...handlers.map(({ batchSize }) => batchSize));
  const concurrency = options.concurrency ?? Math.min(concurrencyDefault(batchSizeMax, threads), LIMITS.prefetchMax);
  const ahead = threads === undefined ? 16 : threads * THREAD_AHEAD;
  const prefetch = options.prefetch ?? Math.min(Math.max(2 * concurrency, concurrency + ahead), LIMITS.prefetchMax);
  checkInteger('prefetch', prefetch, concurrency, LIMITS.prefetchMax);
  const workerName = options.name ?? defaultName;
  checkName('worker name', workerName, NAME_BYTES_MAX);
  if (options.queues !== undefined && !Array.isArray(options.queues)) {
    throw new MillraceError('INVALID_ARGUMENT', `queues must be an array of names, not ${shown(options.queues)}`);
  }
  const queues = [...new Set(options.queues ?? handlers.map((handler) => handler.queue))];
  if (queues.length === 0 || queues.length > LIMITS.queuesPerWorkerMax) {
    const message = `a worker takes from 1 to ${LIMITS.queuesPerWorkerMax} queues, not ${queues.length}`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: queues.length } });
  }
  for (const queue of queues) checkName('queue', queue, LIMITS.queueNameBytesMax);
  return { workerName, queues, concurrency, prefetch };
}

/** Tasks that are held ahead for each thread: for short tasks, to be handed over together. */
const THREAD_AHEAD = 50;

function concurrencyDefault(batchSizeMax: number, threads: number | undefined): number {
  if (threads !== undefined) return threads * batchSizeMax;
  return batchSizeMax === 1 ? DEFAULTS.concurrency : Math.max(DEFAULTS.concurrency, batchSizeMax * 2);
}

function checkLogger(logger: Partial<Logger> | null | undefined): void {
  if (logger === undefined) return;
  if ([logger?.info, logger?.warn, logger?.error].every((say) => typeof say === 'function')) return;
  const message = `logger must have the functions info, warn and error, as a pino logger has; it is ${shown(logger)}`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

/** Throws INVALID_ARGUMENT for none, or for two with one name. */
export function indexHandlers(handlers: readonly TaskHandler[]): Map<string, TaskHandler> {
  const byName = new Map<string, TaskHandler>();
  for (const handler of handlers) {
    const { name } = handler.format;
    if (byName.has(name))
      throw new MillraceError('INVALID_ARGUMENT', `two handlers were given for ${JSON.stringify(name)}`);
    byName.set(name, handler);
  }
  if (byName.size === 0) throw new MillraceError('INVALID_ARGUMENT', 'a worker needs at least one handler');
  return byName;
}
