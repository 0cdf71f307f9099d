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
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (cause) {
    throw new CommandFailed('HANDLERS', explainImport(file, path, cause as NodeJS.ErrnoException), { cause });
  }
}

function explainImport(file: string, path: string, error: NodeJS.ErrnoException): string {
  const [message = ''] = String(error.message ?? error).split('\n');
  switch (error.code) {
    case 'ERR_MODULE_NOT_FOUND':
      // Its own imports fail with the same code.
      if (message.includes(`'${path}'`) && !message.includes('imported from /')) return `there is no file ${path}`;
      return message.includes(`'${path}' imported`)
        ? `there is no file ${path}`
        : `${file} cannot be loaded: ${message}`;
    case 'ERR_UNKNOWN_FILE_EXTENSION':
      return `${file} cannot be loaded by Node ${process.versions.node}: compile it to JavaScript first`;
    case 'ERR_UNSUPPORTED_DIR_IMPORT':
      return `${file} is a directory: name a file in it`;
    default:
      return `${file} cannot be loaded: ${error.name}: ${message}`;
  }
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
