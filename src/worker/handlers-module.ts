import { stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MillraceError, shown } from '../errors.ts';
import type { TaskHandler } from '../task/handler.ts';
import { type Handlers, isHandler, listHandlers } from '../task/handlers.ts';
import type { Tracing } from '../task/tracing.ts';

/**
 * A module that exports handlers: by default an array of them, or an object of plain functions by task name; and each named
 * export that is one. Named by its URL, `new URL('./handlers.js', import.meta.url)`, or by its absolute path.
 */
export type HandlersModule = URL | string;

export interface LoadedHandlers {
  readonly handlers: readonly TaskHandler[];
  /** What the module exports as `tracing`, if that is one. */
  readonly tracing: Tracing | undefined;
}

export function isHandlersModule(value: unknown): value is HandlersModule {
  return typeof value === 'string' || value instanceof URL;
}

/** Throws INVALID_ARGUMENT for what names no file. */
export function handlersUrl(module: HandlersModule): URL {
  if (typeof module === 'string' && isAbsolute(module)) return pathToFileURL(module);
  const url = module instanceof URL ? module : URL.canParse(module) ? new URL(module) : undefined;
  if (url?.protocol === 'file:') return url;
  const message = `the module of handlers is ${shown(String(module))}; it must be a file: URL, such as new URL('./handlers.js', import.meta.url), or an absolute path`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

/** Rejects with HANDLERS when the module cannot be loaded or has none, with INVALID_ARGUMENT for those that are wrong. */
export async function loadHandlers(url: URL): Promise<LoadedHandlers> {
  const file = fileURLToPath(url);
  const module = await importModule(url, file);
  const { default: main, ...named } = module;
  const tracing = isTracing(named.tracing) ? named.tracing : undefined;
  return { handlers: isPlainHandlers(main) ? listHandlers(main) : collect(main, named, file), tracing };
}

function collect(main: unknown, named: Record<string, unknown>, file: string): TaskHandler[] {
  const found = new Set<TaskHandler>();
  for (const [name, value] of Object.entries({ ...named, default: main })) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (isHandler(each)) found.add(each);
      else if (Array.isArray(value) && name === 'default') throw notHandler(file, each);
    }
  }
  if (found.size === 0) throw noHandlers(file, main === undefined ? named : { ...named, default: main });
  return [...found];
}

async function importModule(url: URL, file: string): Promise<Record<string, unknown>> {
  await checkHandlersFile(file);
  try {
    return (await import(url.href)) as Record<string, unknown>;
  } catch (cause) {
    throw new MillraceError('HANDLERS', `${file} cannot be loaded${explainImport(cause)}`, { cause });
  }
}

/** Rejects with HANDLERS. */
export async function checkHandlersFile(file: string): Promise<void> {
  const stats = await stat(file).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === 'ENOENT' ? `there is no file ${file}` : `${file} cannot be read: ${error.message}`;
    throw new MillraceError('HANDLERS', reason);
  });
  if (stats.isDirectory()) throw new MillraceError('HANDLERS', `${file} is a directory: name a file in it`);
}

function isTracing(value: unknown): value is Tracing {
  if (typeof value !== 'object' || value === null) return false;
  const { enqueue, attempt } = value as Partial<Tracing>;
  return typeof enqueue === 'function' && typeof attempt === 'function';
}

function explainImport(thrown: unknown): string {
  if (!(thrown instanceof Error)) return `: it threw ${shown(thrown)}`;
  if ((thrown as NodeJS.ErrnoException).code === 'ERR_UNKNOWN_FILE_EXTENSION') {
    return ` by Node ${process.versions.node}: compile it to JavaScript first`;
  }
  return `: ${thrown.name}: ${thrown.message}`;
}

function isPlainHandlers(value: unknown): value is Exclude<Handlers, readonly TaskHandler[]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || isHandler(value)) return false;
  const functions = Object.values(value);
  return functions.length > 0 && functions.every((each) => typeof each === 'function');
}

function isDefinition(value: unknown): value is { name: string } {
  if (typeof value !== 'object' || value === null || isHandler(value)) return false;
  const { name, handle } = value as { name?: unknown; handle?: unknown };
  return typeof name === 'string' && typeof handle === 'function';
}

function notHandler(file: string, value: unknown): MillraceError {
  const what = isDefinition(value)
    ? `the definition of ${JSON.stringify(value.name)}, not a handler: put its .handle(…) there`
    : `a ${typeof value}: put what defineTask(…).handle(…) returns there`;
  return new MillraceError('HANDLERS', `an entry of ${file}'s default export is ${what}`);
}

function noHandlers(file: string, module: Record<string, unknown>): MillraceError {
  const definition = Object.entries(module).find(([, value]) => isDefinition(value));
  if (definition !== undefined) {
    const [name] = definition;
    const message = `${file} exports definitions but no handlers: export ${name}.handle(async (input, ctx) => { … })`;
    return new MillraceError('HANDLERS', message);
  }
  const names = Object.keys(module);
  const exported = names.length === 0 ? 'nothing' : `${names.join(', ')}, none of which is a handler`;
  const remedy = 'export what defineTask(…).handle(…) returns, or by default an array of them, or { name: function }';
  return new MillraceError('HANDLERS', `${file} exports ${exported}: ${remedy}`);
}
