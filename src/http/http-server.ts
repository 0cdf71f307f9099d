import { createServer as createPlainServer, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { MillraceError } from '../errors.ts';
import { checkServing, type TlsServing } from '../io/tls.ts';
import { LIMITS } from '../limits.ts';
import { type AppBounds, createApp } from './app.ts';
import { Backends, type OpenFor } from './backends.ts';
import { Handshakes, HttpConnections } from './connections.ts';
import type { HttpApp, HttpWorld } from './context.ts';
import { Turns } from './turns.ts';

export interface HttpServerOptions extends Omit<HttpWorld, 'onStop'> {
  /** Where the backend knows grants. */
  readonly openFor?: OpenFor | undefined;
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly tls: TlsServing | undefined;
  /** Of one address, or network of 64 bits of IPv6. Default: as many as there may be. */
  readonly connectionsPerAddressMax?: number | undefined;
  /** Other bounds than those of LIMITS, for tests. */
  readonly bounds?: (Partial<ConnectionBounds> & AppBounds) | undefined;
}

/** What a connection may do before anybody has looked at a request. */
interface ConnectionBounds {
  readonly connectionsMax: number;
  readonly handshakeTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** How often it is looked for who is over his time. */
  readonly checkMs: number;
}

const BOUNDS: ConnectionBounds = {
  connectionsMax: LIMITS.httpConnectionsMax,
  handshakeTimeoutMs: LIMITS.handshakeTimeoutMs,
  headersTimeoutMs: LIMITS.httpHeadersTimeoutMs,
  checkMs: 2000,
};

type Stop = Parameters<HttpWorld['onStop']>[0];

/** The HTTP API, the metrics and the dashboard on one address. */
export class HttpServer {
  readonly url: string;
  readonly #server: Server;
  readonly #stops: readonly Stop[];
  readonly #backends: Backends;
  readonly #handshakes = new Handshakes();
  #clientCa: string | undefined;
  #isStopping = false;
  #drained: Promise<void> | undefined;

  /** Rejects with ADDRESS_IN_USE, INVALID_ARGUMENT (a certificate that is none) or the system's error. */
  static async start(options: HttpServerOptions): Promise<HttpServer> {
    const stops: Stop[] = [];
    const backends = new Backends(options, options.access.keyring, options.openFor);
    const bounds = { ...BOUNDS, ...options.bounds };
    const perAddressMax = options.connectionsPerAddressMax;
    const connections = new HttpConnections(options.clock, { max: bounds.connectionsMax, perAddressMax });
    const app = createApp({ ...options, onStop: (stop) => stops.push(stop) }, backends, options.bounds);
    try {
      const server = createServer(app, connections, options, bounds);
      server.maxConnections = bounds.connectionsMax + LIMITS.refusedConnectionsMax;
      server.on('connection', (socket: Socket) => connections.arrived(socket));
      await listen(server, options);
      return new HttpServer(server, stops, backends, options);
    } catch (error) {
      await Promise.all(stops.map((stop) => stop({ timeoutMs: 0 })));
      await backends.close();
      throw error;
    }
  }

  private constructor(
    server: Server,
    stops: readonly Stop[],
    backends: Backends,
    { host, tls }: Pick<HttpServerOptions, 'host' | 'tls'>,
  ) {
    this.#server = server;
    this.#stops = stops;
    this.#backends = backends;
    this.#clientCa = tls?.clientCa;
    if (server instanceof TlsServer) {
      server.on('connection', (socket: Socket) => this.#handshakes.began(socket));
      server.on('secureConnection', (socket: Socket) => this.#handshakes.ended(socket));
    }
    // A connection that is idle only after the server has closed would be kept for another request.
    server.on('request', (_request, response: ServerResponse) => {
      response.on('close', () => {
        if (this.#isStopping) setImmediate(() => server.closeIdleConnections());
      });
    });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    this.url = `${tls === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /**
   * Another certificate for who connects from now on; nothing over plain HTTP. With other authorities for clients all who are
   * connected, or about to be, are cut off. Throws INVALID_ARGUMENT, and keeps what was before.
   */
  renewTls(tls: TlsServing): void {
    if (!(this.#server instanceof TlsServer)) return;
    this.#server.setSecureContext(contextOf(tls));
    if (tls.clientCa === this.#clientCa) return;
    this.#clientCa = tls.clientCa;
    this.#cutOffAll();
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
    this.#isStopping = true;
    const timer = setTimeout(() => this.#cutOffAll(), Math.max(untilMs - performance.now(), 0));
    await closed;
    clearTimeout(timer);
    await this.#backends.close();
  }

  #cutOffAll(): void {
    this.#handshakes.cutOff();
    this.#server.closeAllConnections();
  }
}

function createServer(
  app: HttpApp,
  connections: HttpConnections,
  { tls }: HttpServerOptions,
  bounds: ConnectionBounds,
): Server {
  const limits = {
    headersTimeout: bounds.headersTimeoutMs,
    connectionsCheckingInterval: bounds.checkMs,
    // A stream of tasks is a request without end: what bounds it is that something must happen.
    requestTimeout: 0,
    keepAliveTimeout: LIMITS.httpKeepAliveMs,
  };
  const turns = new Turns();
  const answer = (request: Request, env: HttpBindings): Response | Promise<Response> =>
    connections.refusal(env) ?? turns.take(env, () => app.fetch(request, env));
  const server = createAdaptorServer({
    fetch: (request, env) => answer(request, env as HttpBindings),
    ...(tls === undefined
      ? { createServer: createPlainServer, serverOptions: limits }
      : { createServer: createTlsServer, serverOptions: { ...limits, ...secureOptions(tls, bounds) } }),
  }) as Server;
  server.setTimeout(LIMITS.httpSilenceMs);
  return server;
}

/** Throws INVALID_ARGUMENT. */
function secureOptions(tls: TlsServing, { handshakeTimeoutMs }: ConnectionBounds): object {
  return { ...contextOf(tls), ...verifyingOf(tls), handshakeTimeout: handshakeTimeoutMs };
}

/** Throws INVALID_ARGUMENT. */
function contextOf(tls: TlsServing): { cert: string; key: string; ca?: string } {
  checkServing(tls, 'the certificate and key for HTTPS');
  const { cert, key, clientCa } = tls;
  return clientCa === undefined ? { cert, key } : { cert, key, ca: clientCa };
}

/** Whoever comes without a certificate is told so by TLS itself, which those who speak HTTP show. */
function verifyingOf({ clientCa }: TlsServing): { requestCert: boolean; rejectUnauthorized: boolean } {
  const isAsked = clientCa !== undefined;
  return { requestCert: isAsked, rejectUnauthorized: isAsked };
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'EADDRINUSE') reject(error);
      else {
        const message = `port ${port} on ${host} is taken by another process: stop it, or choose another one (or off) with --http-port`;
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
