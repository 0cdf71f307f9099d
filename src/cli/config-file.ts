import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { shown } from '../errors.ts';
import { didYouMean } from '../task/suggest.ts';
import { isSystemError, UsageError } from './failure.ts';
import { checkValue, environmentName, type Flags } from './flags.ts';

export const CONFIG_FILE_NAME = 'millrace.config.json';

/** The flags of every command by the command's name, which is the name of its section too. */
export type Sections = ReadonlyMap<string, Flags>;

const SHAPE = z.record(z.string(), z.unknown());

/**
 * ```json
 * { "url": "tcp://10.0.0.7:5555", "server": { "data": "/var/lib/millrace", "port": 5555 } }
 * ```
 * A key at the top stands for every command that has such a flag, a key in a section for that command. The whole file is
 * checked whatever the command is, so that a slip shows at once.
 */
export function readConfigFile(
  section: string,
  sections: Sections,
  options: { path: string | undefined; environment: Readonly<Record<string, string | undefined>>; directory: string },
): Record<string, unknown> {
  const asked = options.path ?? (options.environment[environmentName('config')] || undefined);
  const path = asked ?? join(options.directory, CONFIG_FILE_NAME);
  const source = readSource(path, asked !== undefined);
  if (source === undefined) return {};
  const content = parse(source, path);
  const common: Record<string, unknown> = {};
  let own: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(content)) {
    const flags = sections.get(key);
    if (flags !== undefined) {
      const checked = checkSection(flags, value, key, path);
      if (key === section) own = checked;
    } else {
      common[key] = checkCommon(sections, key, value, path);
    }
  }
  return { ...common, ...own };
}

/** Whether `readConfigFile` will find one, from arguments that are not parsed yet. */
export function hasConfigFile(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  directory: string,
): boolean {
  if (args.some((arg) => arg === '--config' || arg.startsWith('--config='))) return true;
  return Boolean(environment[environmentName('config')]) || existsSync(join(directory, CONFIG_FILE_NAME));
}

function readSource(path: string, mustExist: boolean): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'ENOENT' && !mustExist) return undefined;
    const why = error.code === 'ENOENT' ? 'there is no such file' : error.message;
    throw new UsageError(`cannot read the configuration file ${path}: ${why}`);
  }
}

function parse(source: string, path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(source);
  } catch (error) {
    throw new UsageError(`the configuration file ${path} is not JSON: ${(error as Error).message}`);
  }
  const { success, data } = SHAPE.safeParse(content);
  if (success) return data;
  throw new UsageError(`the configuration file ${path} must hold one JSON object`);
}

function checkSection(flags: Flags, value: unknown, section: string, path: string): Record<string, unknown> {
  const { success, data } = SHAPE.safeParse(value);
  if (!success) throw new UsageError(`${section} in ${path} must be an object: it is the section of that command`);
  const keys = Object.keys(flags);
  for (const [key, each] of Object.entries(data)) {
    const known = Object.hasOwn(flags, key) ? flags[key] : undefined;
    if (known === undefined) {
      throw new UsageError(`unknown key ${shown(key)} in the section ${section} of ${path}${didYouMean(key, keys)}`);
    }
    checkValue(known.kind, each, `${section}.${key} in ${path}`);
  }
  return data;
}

/** Commands may give one key different bounds: it must suit one of them here, and the one that runs when it runs. */
function checkCommon(sections: Sections, key: string, value: unknown, path: string): unknown {
  const kinds = [...sections.values()].flatMap((flags) => {
    const known = Object.hasOwn(flags, key) ? flags[key] : undefined;
    return known === undefined ? [] : [known.kind];
  });
  const [first] = kinds;
  if (first === undefined) {
    const names = new Set([...sections.keys(), ...[...sections.values()].flatMap((flags) => Object.keys(flags))]);
    throw new UsageError(`unknown key ${shown(key)} in ${path}${didYouMean(key, names)}`);
  }
  if (!kinds.some((kind) => kind.schema.safeParse(value).success)) checkValue(first, value, `${key} in ${path}`);
  return value;
}
