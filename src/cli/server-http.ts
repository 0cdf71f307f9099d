import { hostname } from 'node:os';
import { z } from 'zod';
import { connectHost } from '../broker/embedded/connect-host.ts';
import { Client } from '../client/client.ts';
import { SystemClock } from '../io/clock.ts';
import { SystemRandom } from '../io/random.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import type { Server } from '../server/server.ts';
import { flag, type Kind, text, type Values } from './flags.ts';
import type { Log } from './log.ts';

const PORT_OR_OFF: Kind<number | 'off'> = {
  placeholder: 'port|off',
  expects: 'a whole number from 0 to 65535, or off',
  schema: z.union([z.int().min(0).max(65_535), z.literal('off')]),
  fromText: (written) => (/^\d+$/.test(written) ? Number(written) : written),
};

export const HTTP_FLAGS = {
  httpPort: flag(PORT_OR_OFF, 'port of the HTTP API; 0 takes a free one', DEFAULTS.httpPort as number | 'off'),
  httpHost: flag(text('host'), 'address that the HTTP API listens on', DEFAULTS.host as string),
};

export type HttpValues = Values<typeof HTTP_FLAGS>;

/** Serves over HTTP until it is stopped. */
export interface HttpService {
  readonly url: string;
  /** While the server waits for what runs, so does this for what is leased. Always resolves. */
  drain(options: { timeoutMs: number }): Promise<void>;
  /** Bounded; always resolves. */
  stop(): Promise<void>;
}

/** The HTTP API of a server in this process; undefined when it is off. */
export async function startHttp(values: HttpValues, server: Server, log: Log): Promise<HttpService | undefined> {
  const { httpPort: port, httpHost: host } = values;
  if (port === 'off') return undefined;
  // Not before it is needed: the other commands start without it.
  const { HttpServer } = await import('../http/http-server.ts');
  const clock = new SystemClock();
  const random = new SystemRandom();
  const { reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs } = DEFAULTS;
  const identity = { client: 'http', host: hostname(), pid: process.pid, producer: random.hex(16) };
  const broker = await connectHost(
    server.host,
    { url: server.url, clock, random, identity, reconnect, connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs },
    { isOwn: true },
  );
  const client = new Client(broker, { clock, workerName: 'http' });
  const onNotice = (level: 'info' | 'warn', message: string): void => log.all[level](message);
  try {
    const http = await HttpServer.start({ host, port, broker, client, showPayloads: true, onNotice });
    return {
      url: http.url,
      drain: (options) => http.drain(options),
      stop: async () => {
        await client.close({ timeoutMs: 0 });
        await http.stop({ timeoutMs: LIMITS.httpStopMs });
      },
    };
  } catch (error) {
    await client.close({ timeoutMs: 0 });
    throw error;
  }
}
