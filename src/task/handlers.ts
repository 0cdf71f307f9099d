import { MillraceError, shown } from '../errors.ts';
import { checkName, DEFAULTS, LIMITS } from '../limits.ts';
import type { TaskContext, TaskHandler } from './handler.ts';

/** A handler under a plain task name. Its input is whatever JSON was enqueued; say its type where you know it. */
export type PlainHandler = { run(input: unknown, context: TaskContext): unknown }['run'];

export type Handlers = readonly TaskHandler[] | Readonly<Record<string, PlainHandler>>;

/** Throws INVALID_ARGUMENT for what is no handler. */
export function listHandlers(handlers: Handlers): readonly TaskHandler[] {
  if (isList(handlers)) {
    for (const [index, handler] of handlers.entries()) checkHandler(handler, index);
    return handlers;
  }
  if (typeof handlers !== 'object' || handlers === null) {
    const message =
      'work takes handlers: an array of definition.handle(…), an object { name: function }, or the URL of a module';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  return Object.entries(handlers).map(([name, run]) => {
    if (typeof run !== 'function') {
      throw new MillraceError('INVALID_ARGUMENT', `the handler of ${shown(name)} is no function, but ${shown(run)}`);
    }
    checkName('task name', name, LIMITS.taskNameBytesMax);
    const format = { name, input: undefined, output: undefined, payload: 'json', result: 'json' } as const;
    return { kind: 'single', format, queue: DEFAULTS.queue, run };
  });
}

/** By its shape: it may be made by `handle` or `handleBatch` of another copy of the package. */
export function isHandler(value: unknown): value is TaskHandler {
  if (typeof value !== 'object' || value === null) return false;
  const { kind, format, run } = value as Partial<TaskHandler>;
  return (kind === 'single' || kind === 'batch') && typeof format?.name === 'string' && typeof run === 'function';
}

function checkHandler(handler: unknown, index: number): void {
  if (isHandler(handler)) return;
  const message = `handler ${index} is ${shown(handler)}, not what definition.handle(…) or handleBatch(…) made; plain functions go into an object { name: function }`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

function isList(handlers: Handlers): handlers is readonly TaskHandler[] {
  return Array.isArray(handlers);
}
