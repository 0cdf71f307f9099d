import { MillraceError } from '../errors.ts';
import { type Handlers, listHandlers } from '../task/handlers.ts';
import type { Execution, ExecutionOptions } from './execution.ts';
import { type HandlersModule, handlersUrl, isHandlersModule, loadHandlers } from './handlers-module.ts';
import { type HandlerKind, indexHandlers, kindOf, type Logger } from './options.ts';
import { Runner } from './runner.ts';
import { ThreadPool } from './threads/thread-pool.ts';
import { Threads } from './threads/threads.ts';

/** Where a worker's handlers are. */
export interface Place {
  readonly handlers: readonly HandlerKind[];
  execute(options: ExecutionOptions): Execution;
  /** There will be nothing to execute. */
  leave(): Promise<void>;
}

/** In the event loop of this thread. */
export async function inLoop(given: Handlers | HandlersModule): Promise<Place> {
  const list = isHandlersModule(given) ? (await loadHandlers(handlersUrl(given))).handlers : listHandlers(given);
  const handlers = indexHandlers(list);
  return {
    handlers: list.map(kindOf),
    execute: (options) => new Runner({ ...options, handlers }),
    leave: async () => {},
  };
}

export interface ThreadPlaceOptions {
  readonly threads: number;
  readonly heapMb: number | undefined;
  readonly logger: Logger | undefined;
  readonly signal: AbortSignal;
}

/** In threads, each of which loads the module; this one does not. */
export async function inThreads(given: Handlers | HandlersModule, options: ThreadPlaceOptions): Promise<Place> {
  if (!isHandlersModule(given)) throw functionsCannotCross(options.threads);
  const pool = await ThreadPool.open({ ...options, url: handlersUrl(given) });
  return {
    handlers: pool.handlers,
    execute: (execution) => new Threads({ ...execution, pool }),
    leave: () => pool.close(undefined),
  };
}

function functionsCannotCross(threads: number): MillraceError {
  const message = `threads is ${threads}, but functions cannot go to other threads: give work the URL of a module that exports the handlers, client.work(new URL('./handlers.js', import.meta.url), { threads: ${threads} })`;
  return new MillraceError('INVALID_ARGUMENT', message);
}
