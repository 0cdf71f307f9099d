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
   * the largest `batchSize`.
   */
  concurrency?: number | undefined;
  /** Tasks held at once, those that run included. Default: twice `concurrency`, at least 16 more than it. */
  prefetch?: number | undefined;
  /** Shown in status. Default: host and process id. */
  name?: string | undefined;
  logger?: Logger | undefined;
  hooks?: WorkerHooks | undefined;
}

const KEYS = ['queues', 'concurrency', 'prefetch', 'name', 'logger', 'hooks'];
const NAME_BYTES_MAX = 128;

/** Throws INVALID_ARGUMENT. */
export function resolveWorkerOptions(
  options: WorkerOptions,
  handlers: readonly TaskHandler[],
  defaultName: string,
): ConsumeOptions {
  checkKeys('work', options, KEYS);
  const batchSizes = handlers.map((handler) => (handler.kind === 'batch' ? handler.batchSize * 2 : 0));
  const concurrency =
    options.concurrency ?? Math.min(Math.max(DEFAULTS.concurrency, ...batchSizes), LIMITS.prefetchMax);
  checkInteger('concurrency', concurrency, 1, LIMITS.prefetchMax);
  const prefetch = options.prefetch ?? Math.min(Math.max(2 * concurrency, concurrency + 16), LIMITS.prefetchMax);
  checkInteger('prefetch', prefetch, concurrency, LIMITS.prefetchMax);
  const workerName = options.name ?? defaultName;
  checkName('worker name', workerName, NAME_BYTES_MAX);
  if (options.queues !== undefined && !Array.isArray(options.queues)) {
    throw new MillraceError('INVALID_ARGUMENT', `queues must be an array of names, not ${shown(options.queues)}`);
  }
  checkLogger(options.logger);
  checkHooks(options.hooks);
  const queues = [...new Set(options.queues ?? handlers.map((handler) => handler.queue))];
  if (queues.length === 0 || queues.length > LIMITS.queuesPerWorkerMax) {
    const message = `a worker takes from 1 to ${LIMITS.queuesPerWorkerMax} queues, not ${queues.length}`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: queues.length } });
  }
  for (const queue of queues) checkName('queue', queue, LIMITS.queueNameBytesMax);
  return { workerName, queues, concurrency, prefetch };
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
