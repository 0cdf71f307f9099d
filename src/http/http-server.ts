import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { createApp } from './app.ts';
import type { HttpWorld } from './context.ts';

export interface HttpServerOptions extends Omit<HttpWorld, 'onStop'> {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
}

type Stop = Parameters<HttpWorld['onStop']>[0];

/** The HTTP API, the metrics and the dashboard on one address. */
export class HttpServer {
  readonly url: string;
  readonly #server: Server;
  readonly #stops: readonly Stop[];
  #drained: Promise<void> | undefined;

  /** Rejects with ADDRESS_IN_USE or the system's error. */
  static async start(options: HttpServerOptions): Promise<HttpServer> {
    const stops: Stop[] = [];
    const app = createApp({ ...options, onStop: (stop) => stops.push(stop) });
    // A stream of tasks is a request without end: what bounds it is that something must happen.
    const server = createAdaptorServer({ fetch: app.fetch, serverOptions: { requestTimeout: 0 } }) as Server;
    server.setTimeout(LIMITS.httpSilenceMs);
    await listen(server, options);
    return new HttpServer(server, options.host, stops);
  }

  private constructor(server: Server, host: string, stops: readonly Stop[]) {
    this.#server = server;
    this.#stops = stops;
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Ends streams and what waits for tasks, and waits up to `timeoutMs` for leases to be settled, which others may do meanwhile. */
  drain({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    this.#drained ??= Promise.all(this.#stops.map((stop) => stop({ timeoutMs }))).then(() => {});
    return this.#drained;
  }

  /** Drains, lets nobody new in and waits up to `timeoutMs` for what is being answered, then cuts it off. Always resolves. */
  async stop({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    const untilMs = performance.now() + timeoutMs;
    await this.drain({ timeoutMs });
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), Math.max(untilMs - performance.now(), 0));
    await closed;
    clearTimeout(timer);
  }
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'EADDRINUSE') reject(error);
      else {
        const message = `port ${port} on ${host} is taken by another process: stop it, or choose another one with --http-port`;
        reject(new MillraceError('ADDRESS_IN_USE', message, { cause: error, details: { host, port } }));
      }
    };
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      resolve();
    });
  });
}
