import { z } from 'zod';
import { shown } from '../errors.ts';
import { UsageError } from './failure.ts';

/** The values that a flag takes: one schema for all three sources, which differ only in that two of them are text. */
export interface Kind<T> {
  readonly placeholder: string;
  /** Completes "--port is 99999; it must be …". */
  readonly expects: string;
  readonly schema: z.ZodType<T>;
  /** What the text of a flag or of the environment stands for; the schema judges it. */
  readonly fromText: (text: string) => unknown;
  /** May be given several times on the command line; the schema judges the list of what was written. */
  readonly repeats?: true;
}

/** Named by its key: `fsyncIntervalMs` is --fsync-interval-ms, MILLRACE_FSYNC_INTERVAL_MS and the same key in the file. */
export interface Flag<T> {
  readonly kind: Kind<unknown>;
  readonly help: string;
  readonly fallback: T;
  /** In place of the name that follows from the key. */
  readonly environment?: string;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
export type Values<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

export function flag<T>(kind: Kind<T>, help: string): Flag<T | undefined>;
export function flag<T>(kind: Kind<T>, help: string, fallback: T): Flag<T>;
export function flag<T>(kind: Kind<T>, help: string, fallback?: T): Flag<T | undefined> {
  return { kind, help, fallback };
}

/** --json and its like: given or not. */
export function toggle(help: string): Flag<boolean> {
  return { kind: BOOLEAN, help, fallback: false };
}

const YES = ['1', 'true', 'yes', 'on'];
const NO = ['0', 'false', 'no', 'off'];

export const BOOLEAN: Kind<boolean> = {
  placeholder: '',
  expects: 'true or false',
  schema: z.boolean(),
  fromText: (text) => (YES.includes(text.toLowerCase()) ? true : NO.includes(text.toLowerCase()) ? false : text),
};

export function text(placeholder: string): Kind<string> {
  return { placeholder, expects: 'text that is not empty', schema: z.string().min(1), fromText: (written) => written };
}

/** Names separated by commas; a list in the file. */
export function list(placeholder: string): Kind<string[]> {
  return {
    placeholder,
    expects: 'one name or several, separated by commas (a list in the configuration file)',
    schema: z.array(z.string().min(1)).min(1),
    fromText: (written) => written.split(',').map((part) => part.trim()),
  };
}

/** One name=value each time that it is given; an object in the file. */
export function pairs(placeholder: string): Kind<Record<string, string>> {
  const written = z.array(z.string().regex(/^[^=]+=/));
  return {
    placeholder,
    expects: 'a name and a value with = between, such as tenant=a (an object of texts in the configuration file)',
    schema: z.union([
      z.record(z.string().min(1), z.string()),
      written.transform((list) => Object.fromEntries(list.map(splitPair))),
    ]) as unknown as z.ZodType<Record<string, string>>,
    fromText: (text) => [text],
    repeats: true,
  };
}

function splitPair(text: string): [string, string] {
  const at = text.indexOf('=');
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Digits may be grouped: 1_000_000. */
export function integer(min: number, max: number, placeholder = 'n'): Kind<number> {
  return {
    placeholder,
    expects: `a whole number from ${min} to ${max}`,
    schema: z.int().min(min).max(max),
    fromText: (written) => (/^-?\d+(_\d+)*$/.test(written) ? Number(written.replaceAll('_', '')) : written),
  };
}

export const NONE = 'none';

/** A number, or the word for no limit. */
export function integerOrNone(min: number, max: number): Kind<number | typeof NONE> {
  const number = integer(min, max);
  return {
    placeholder: 'n|none',
    expects: `${number.expects}, or none`,
    schema: z.union([z.literal(NONE), number.schema]),
    fromText: (written) => number.fromText(written),
  };
}

/** From 0, none, to 1, all. */
export const SHARE: Kind<number> = {
  placeholder: '0..1',
  expects: 'a share from 0 (none) to 1 (all), such as 0.05',
  schema: z.number().min(0).max(1),
  fromText: (written) => (/^\d*\.?\d+$/.test(written) ? Number(written) : written),
};

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const AGO = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
/** A date has no time, or one; without a zone it is meant here. */
const DATE = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/;

/** A moment in the past, as it is written. */
export const MOMENT: Kind<string> = {
  placeholder: 'time',
  expects: 'a time, such as 2026-08-01T12:00 or 2026-08-01T12:00Z, or how long ago: 90s, 15m, 2h, 7d',
  schema: z.string().refine((written) => !Number.isNaN(momentMs(written, 0))),
  fromText: (written) => written,
};

/** NaN for what is none. */
export function momentMs(written: string, nowMs: number): number {
  const [, count, unit = ''] = AGO.exec(written) ?? [];
  if (count !== undefined) return Math.max(0, Math.round(nowMs - Number(count) * (UNITS_MS[unit] as number)));
  if (!DATE.test(written)) return Number.NaN;
  // A date alone would be meant in UTC.
  return Date.parse(written.length === 10 ? `${written}T00:00` : written);
}

export function choice<const T extends string>(...values: readonly T[]): Kind<T> {
  return {
    placeholder: values.join('|'),
    expects: values.length === 2 ? values.join(' or ') : `one of ${values.join(', ')}`,
    schema: z.enum(values) as unknown as z.ZodType<T>,
    fromText: (written) => written,
  };
}

export function flagName(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`)}`;
}

export function environmentName(key: string): string {
  return `MILLRACE_${flagName(key).slice(2).replaceAll('-', '_').toUpperCase()}`;
}

/** Throws USAGE that names the place, the value and what would do. */
export function checkValue<T>(kind: Kind<T>, value: unknown, where: string): T {
  const { success, data } = kind.schema.safeParse(value);
  if (success) return data;
  throw new UsageError(`${where} is ${written(value)}; it must be ${kind.expects}`);
}

const WRITTEN_CHARACTERS_MAX = 200;

/** As it would stand in a file, cut when it is long; what is nested too deeply to be written is named by its kind. */
function written(value: unknown): string {
  try {
    const text = JSON.stringify(value) ?? String(value);
    return text.length <= WRITTEN_CHARACTERS_MAX ? text : `${text.slice(0, WRITTEN_CHARACTERS_MAX)}…`;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return shown(value);
  }
}

/** Where a value that is not on the command line may come from, in order. */
export interface Sources {
  environment: Readonly<Record<string, string | undefined>>;
  /** The command's section over what stands for all. */
  file: Readonly<Record<string, unknown>>;
}

/** Flags over environment over file over default. `written` holds the flags as they were typed. */
export function resolveFlags<F extends Flags>(
  flags: F,
  written: Readonly<Record<string, unknown>>,
  sources: Sources,
): Values<F> {
  const values: Record<string, unknown> = {};
  for (const [key, { kind, fallback, environment: name = environmentName(key) }] of Object.entries(flags)) {
    const environment = sources.environment[name];
    if (written[key] !== undefined) {
      values[key] = checkValue(kind, fromWritten(kind, written[key]), flagName(key));
    } else if (environment !== undefined && environment !== '') {
      values[key] = checkValue(kind, kind.fromText(environment), `the environment's ${name}`);
    } else if (sources.file[key] !== undefined) {
      values[key] = checkValue(kind, sources.file[key], `${key} in the configuration file`);
    } else {
      values[key] = fallback;
    }
  }
  return values as Values<F>;
}

/** A toggle comes as true. */
function fromWritten(kind: Kind<unknown>, value: unknown): unknown {
  return typeof value === 'string' ? kind.fromText(value) : value;
}
