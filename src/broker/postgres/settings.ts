import { MillraceError, shown } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { checkInteger, LIMITS } from '../../limits.ts';

export interface PostgresStoreOptions {
  /** `postgres://user:password@host:port/database`; parameters as libpq's (`sslmode`), and `schema`. */
  readonly url: string;
  readonly clock: Clock;
  readonly random: Random;
  /** How long a call goes on trying to reach the database before it rejects with DISCONNECTED; milliseconds. */
  readonly connectTimeoutMs: number;
  /** Where the tables are; goes before the URL's. Default `millrace`. */
  readonly schema?: string | undefined;
  /** Rounds of retention and clean-up by this process. Default true. */
  readonly upkeep?: boolean | undefined;
}

/** The options without optional parts. */
export interface Settings {
  /** Without what only we understand. */
  readonly url: string;
  readonly schema: string;
  /** The address without credentials, for messages. */
  readonly place: string;
  readonly connectTimeoutMs: number;
  readonly upkeep: boolean;
}

const FORM = 'postgres://USER:PASSWORD@HOST:PORT/DATABASE';

/** Several hosts may stand in one URL, with a comma between them. */
function isPostgresUrl(url: unknown): url is string {
  if (typeof url !== 'string' || !/^postgres(ql)?:\/\//.test(url)) return false;
  return URL.canParse(
    url.replace(/^([a-z]+:\/\/(?:[^@/?]*@)?)([^/?]*)/, (_, head, hosts) => head + hosts.split(',')[0]),
  );
}

/** Throws INVALID_ARGUMENT; never shows a password. */
export function resolveSettings(options: PostgresStoreOptions): Settings {
  checkInteger('connectTimeoutMs', options.connectTimeoutMs, 1, LIMITS.timeoutMsMax);
  if (!isPostgresUrl(options.url)) {
    throw new MillraceError('INVALID_ARGUMENT', `the URL of the store is not of the form ${FORM}`);
  }
  const [address = '', ...rest] = options.url.split('?');
  const parameters = new URLSearchParams(rest.join('?'));
  const schema = options.schema ?? parameters.get('schema') ?? 'millrace';
  parameters.delete('schema');
  if (!/^[a-z_][a-z0-9_]{0,47}$/.test(schema) || schema.startsWith('pg_')) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `the schema ${shown(schema)} is not allowed: up to 48 lower-case letters, digits and _, not beginning with a digit or pg_`,
    );
  }
  const url = parameters.size === 0 ? address : `${address}?${parameters}`;
  return {
    url,
    schema,
    place: address.replace(/^[a-z]+:\/\//, '').replace(/^.*@/, '') || 'localhost',
    connectTimeoutMs: options.connectTimeoutMs,
    upkeep: options.upkeep ?? true,
  };
}
