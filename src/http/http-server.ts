import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { MillraceError } from '../errors.ts';
import { createApp } from './app.ts';
import type { HttpWorld } from './context.ts';

export interface HttpServerOptions extends HttpWorld {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
}

/** The HTTP API, the metrics and the dashboard on one address. */
export class HttpServer {
  readonly url: string;
  readonly #server: Server;

  /** Rejects with ADDRESS_IN_USE or the system's error. */
  static async start(options: HttpServerOptions): Promise<HttpServer> {
    const app = createApp(options);
    const server = createAdaptorServer({ fetch: app.fetch }) as Server;
    await listen(server, options);
    return new HttpServer(server, options.host);
  }

  private constructor(server: Server, host: string) {
    this.#server = server;
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Lets nobody new in and waits up to `timeoutMs` for what is being answered, then cuts it off. Always resolves. */
  async stop({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), timeoutMs);
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
