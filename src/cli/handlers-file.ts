import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Handlers, TaskHandler } from '../index.ts';
import { CommandFailed } from './failure.ts';

/**
 * The handlers that a module exports: by default an array of them, or an object of plain functions by task name; and each
 * named export that is one.
 */
export async function loadHandlers(file: string): Promise<Handlers> {
  const path = resolve(file);
  const module = await importModule(path, file);
  const found = new Set<TaskHandler>();
  const { default: main, ...named } = module;
  if (isPlainHandlers(main)) return main;
  for (const [name, value] of Object.entries({ ...named, default: main })) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (isHandler(each)) found.add(each);
      else if (Array.isArray(value) && name === 'default') throw notHandler(file, each);
    }
  }
  if (found.size === 0) throw noHandlers(file, module);
  return [...found];
}

async function importModule(path: string, file: string): Promise<Record<string, unknown>> {
  const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === 'ENOENT' ? `there is no file ${path}` : `${path} cannot be read: ${error.message}`;
    throw new CommandFailed('HANDLERS', reason);
  });
  if (stats.isDirectory()) throw new CommandFailed('HANDLERS', `${file} is a directory: name a file in it`);
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (cause) {
    throw new CommandFailed('HANDLERS', `${file} cannot be loaded${explainImport(cause)}`, { cause });
  }
}

function explainImport(thrown: unknown): string {
  if (!(thrown instanceof Error)) return `: it threw ${JSON.stringify(thrown)}`;
  if ((thrown as NodeJS.ErrnoException).code === 'ERR_UNKNOWN_FILE_EXTENSION') {
    return ` by Node ${process.versions.node}: compile it to JavaScript first`;
  }
  return `: ${thrown.name}: ${thrown.message}`;
}

/** By its shape: the file may have another copy of this package than the command. */
function isHandler(value: unknown): value is TaskHandler {
  if (typeof value !== 'object' || value === null) return false;
  const { kind, format, run } = value as Partial<TaskHandler>;
  return (kind === 'single' || kind === 'batch') && typeof format?.name === 'string' && typeof run === 'function';
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

function notHandler(file: string, value: unknown): CommandFailed {
  const what = isDefinition(value)
    ? `the definition of ${JSON.stringify(value.name)}, not a handler: put its .handle(…) there`
    : `a ${typeof value}: put what defineTask(…).handle(…) returns there`;
  return new CommandFailed('HANDLERS', `an entry of ${file}'s default export is ${what}`);
}

function noHandlers(file: string, module: Record<string, unknown>): CommandFailed {
  const definition = Object.entries(module).find(([, value]) => isDefinition(value));
  if (definition !== undefined) {
    const [name] = definition;
    const message = `${file} exports definitions but no handlers: export ${name}.handle(async (input, ctx) => { … })`;
    return new CommandFailed('HANDLERS', message);
  }
  const names = Object.keys(module);
  const exported = names.length === 0 ? 'nothing' : `${names.join(', ')}, none of which is a handler`;
  const remedy = 'export what defineTask(…).handle(…) returns, or by default an array of them, or { name: function }';
  return new CommandFailed('HANDLERS', `${file} exports ${exported}: ${remedy}`);
}
