import { readFile } from 'node:fs/promises';
import { type ClientOptions, connect } from '../connect.ts';
import type { Client } from '../index.ts';
import { DEFAULTS } from '../limits.ts';
import { UsageError } from './failure.ts';
import { flag, integer, text, type Values } from './flags.ts';
import { type EncryptionValues, encryptionOf } from './key-ring.ts';

export const DEFAULT_URL = `tcp://${DEFAULTS.host}:${DEFAULTS.port}`;

/** Of every command that talks to a server. */
export const CONNECTION_FLAGS = {
  url: flag(text('url'), 'server: tcp://HOST:PORT, tls://HOST:PORT, or RabbitMQ: amqp://HOST', DEFAULT_URL),
  store: flag(text('url'), 'with amqp://: the PostgreSQL that remembers its tasks, postgres://HOST/DATABASE'),
  // A token itself would be seen by all who can list processes.
  tokenFile: flag(text('file'), 'what the server asks for to let one in; or the token itself in MILLRACE_TOKEN'),
  tlsCa: flag(text('file'), 'with tls://, amqps:// and a store: PEM of the authorities that are trusted'),
  tlsCert: flag(text('file'), 'PEM certificate of this client, for servers that ask for one'),
  tlsKey: flag(text('file'), 'PEM key of that certificate'),
  tlsServername: flag(text('name'), 'name that the certificate of the server has (default: the host of --url)'),
  connectTimeoutMs: flag(integer(1, 3_600_000, 'ms'), 'how long to try to reach the server', 3000),
};

export type ConnectionValues = Values<typeof CONNECTION_FLAGS>;

/** A command that ends itself when its connection is lost for good would be of no use to whoever waits for it. */
const CLOSE_TIMEOUT_MS = 2000;

/** Connects, lets `work` use the client, and closes it whatever happens. */
export async function withClient<T>(
  values: ConnectionValues & Partial<EncryptionValues>,
  options: ClientOptions & { name: string },
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const encryption = encryptionOf(values);
  const client = await connect(values.url, { ...(await clientOptions(values)), encryption, ...options });
  try {
    return await work(client);
  } finally {
    await client.close({ timeoutMs: CLOSE_TIMEOUT_MS });
  }
}

/** What the flags say of a connection. Rejects with a UsageError for a file of a token that cannot be read. */
export async function clientOptions(values: ConnectionValues): Promise<ClientOptions> {
  const { url, store, tokenFile, connectTimeoutMs, tlsCa: ca, tlsCert: cert, tlsKey: key, tlsServername } = values;
  const tls = { ca, cert, key, servername: tlsServername };
  const isTls = Object.values(tls).some((value) => value !== undefined);
  // Other backends ask for none; it may stand in the environment for those that do.
  const hasToken = tokenFile !== undefined && /^(tcp|tls):/i.test(url);
  return {
    store,
    connectTimeoutMs,
    ...(hasToken ? { token: await readToken(tokenFile) } : {}),
    ...(isTls ? { tls } : {}),
  };
}

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new UsageError(`--token-file ${file} cannot be read: ${(error as Error).message}`);
  }
}
