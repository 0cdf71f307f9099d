import { MillraceError, shown } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { readTls, type TlsDialing, type TlsOptions } from '../../io/tls.ts';
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
  /** In force when the URL has an `sslmode`; goes before its `sslrootcert`, `sslcert` and `sslkey`. */
  readonly tls?: TlsOptions | undefined;
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
  /** As the driver takes it. */
  readonly ssl: false | 'prefer' | StoreTls;
}

type StoreTls = TlsDialing & { readonly checkServerIdentity?: () => undefined };

const FORM = 'postgres://USER:PASSWORD@HOST:PORT/DATABASE';

/** Several hosts may stand in one URL, with a comma between them. */
function isPostgresUrl(url: unknown): url is string {
  if (typeof url !== 'string' || !/^postgres(ql)?:\/\//.test(url)) return false;
  return URL.canParse(
    url.replace(/^([a-z]+:\/\/(?:[^@/?]*@)?)([^/?]*)/, (_, head, hosts) => head + hosts.split(',')[0]),
  );
}

/** Rejects with INVALID_ARGUMENT; never shows a password. */
export async function resolveSettings(options: PostgresStoreOptions): Promise<Settings> {
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
  const ssl = await resolveTls(parameters, options.tls ?? {});
  const url = parameters.size === 0 ? address : `${address}?${parameters}`;
  return {
    url,
    schema,
    place: address.replace(/^[a-z]+:\/\//, '').replace(/^.*@/, '') || 'localhost',
    connectTimeoutMs: options.connectTimeoutMs,
    upkeep: options.upkeep ?? true,
    ssl,
  };
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const SSL_PARAMETERS = ['sslmode', 'ssl', 'sslrootcert', 'sslcert', 'sslkey'] as const;
/** Other clients have `ssl=true` in place of a mode. */
const SSL_WORDS: Readonly<Record<string, string>> = { true: 'require', false: 'disable' };

/** As libpq does it, but that nothing is encrypted where nothing is said. Takes from the parameters what is about TLS. */
async function resolveTls(parameters: URLSearchParams, tls: TlsOptions): Promise<Settings['ssl']> {
  const [sslmode, ssl, rootCert, cert, key] = SSL_PARAMETERS.map((name) => parameters.get(name) ?? undefined);
  const word = sslmode ?? ssl ?? 'disable';
  const mode = SSL_WORDS[word] ?? word;
  for (const name of SSL_PARAMETERS) parameters.delete(name);
  if (!SSL_MODES.includes(mode)) {
    const message = `the sslmode of the store is ${shown(mode)}; there are ${SSL_MODES.join(', ')}`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (mode === 'disable') return false;
  // The driver has no attempt without first, and then with: what encrypts if it can is the better half of that.
  if (mode === 'allow' || mode === 'prefer') return 'prefer';
  const ofUrl = { ca: rootCert === 'system' ? undefined : rootCert, cert, key };
  const { ca = ofUrl.ca, cert: ownCert = ofUrl.cert, key: ownKey = ofUrl.key, ...others } = tls;
  const dialing = await readTls({ ca, cert: ownCert, key: ownKey, ...others });
  if (mode === 'verify-full') return dialing;
  // The name is of no account; nor is the authority, unless one is named.
  const isTrusted = mode === 'require' && dialing.ca === undefined;
  return {
    ...dialing,
    rejectUnauthorized: dialing.rejectUnauthorized && !isTrusted,
    checkServerIdentity: () => undefined,
  };
}
