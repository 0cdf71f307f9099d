import { type ClientOptions, connect } from '../connect.ts';
import type { Client } from '../index.ts';
import { DEFAULTS } from '../limits.ts';
import { flag, integer, text, type Values } from './flags.ts';
import { type EncryptionValues, encryptionOf } from './key-ring.ts';

export const DEFAULT_URL = `tcp://${DEFAULTS.host}:${DEFAULTS.port}`;

/** Of every command that talks to a server. */
export const CONNECTION_FLAGS = {
  url: flag(text('url'), 'server: tcp://HOST:PORT, or RabbitMQ: amqp://HOST', DEFAULT_URL),
  store: flag(text('url'), 'with amqp://: the PostgreSQL that remembers its tasks, postgres://HOST/DATABASE'),
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
  const { url, store, connectTimeoutMs } = values;
  const client = await connect(url, { store, connectTimeoutMs, encryption: encryptionOf(values), ...options });
  try {
    return await work(client);
  } finally {
    await client.close({ timeoutMs: CLOSE_TIMEOUT_MS });
  }
}
