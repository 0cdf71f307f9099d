import { randomUUID } from 'node:crypto';
import { Keyring } from '../../src/access/keyring.ts';
import type { Broker } from '../../src/broker/contract.ts';
import { type ClientOptions, open } from '../../src/connect.ts';
import { HttpServer, type HttpServerOptions } from '../../src/http/http-server.ts';
import type { Client } from '../../src/index.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { sharedPostgres, sharedRabbit } from '../support/services.ts';

/** What an answer was. */
export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
  body: any;
}

/** The HTTP API over a backend of its own. */
export class HttpPlace {
  readonly server: HttpServer;
  readonly client: Client;
  readonly broker: Broker;
  readonly #drop: () => Promise<unknown>;

  static async open(
    url = `memory:${randomUUID()}`,
    options: ClientOptions = {},
    { drop = async () => {}, over = {} }: { drop?: () => Promise<unknown>; over?: Partial<HttpServerOptions> } = {},
  ): Promise<HttpPlace> {
    const { client, broker } = await open(url, options);
    const server = await HttpServer.start({
      ...{ host: '127.0.0.1', port: 0, tls: undefined, clock: new SystemClock(), broker, client, showPayloads: true },
      access: { keyring: new Keyring(), hostNames: [] },
      features: { tasks: true, events: true, schedules: true, limits: true },
      onNotice: (_level, message) => {
        if (!message.includes('refused')) throw new Error(message);
      },
      ...over,
    });
    return new HttpPlace(server, client, broker, drop);
  }

  private constructor(server: HttpServer, client: Client, broker: Broker, drop: () => Promise<unknown>) {
    this.server = server;
    this.client = client;
    this.broker = broker;
    this.#drop = drop;
  }

  get url(): string {
    return this.server.url;
  }

  post(path: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
    return post(`${this.url}${path}`, body, signal);
  }

  /** A lease request; the leases that came. */
  async lease(request: object, signal?: AbortSignal): Promise<Answer['body'][]> {
    const { status, body } = await this.post('/v1/leases', request, signal);
    if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`);
    return body.leases;
  }

  /** The one that a request waits for. */
  async leaseOne(request: object = {}): Promise<Answer['body']> {
    const [lease] = await this.lease({ waitMs: 10_000, ...request });
    if (lease === undefined) throw new Error('no task came');
    return lease;
  }

  async close(): Promise<void> {
    await this.server.stop({ timeoutMs: 0 });
    await this.client.close();
    await this.#drop();
  }
}

export async function post(url: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    ...(signal === undefined ? {} : { signal }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

export interface HttpBackend {
  readonly name: string;
  readonly hasStore: boolean;
  readonly open: () => Promise<HttpPlace>;
}

/** Each over which the same must work. Those whose services are missing are left out (services.ts says why). */
export async function httpBackends(): Promise<HttpBackend[]> {
  const [rabbit, postgres] = await Promise.all([sharedRabbit(), sharedPostgres()]);
  const backends: HttpBackend[] = [{ name: 'an embedded server', hasStore: true, open: () => HttpPlace.open() }];
  if (rabbit === undefined) return backends;
  backends.push({
    name: 'RabbitMQ',
    hasStore: false,
    open: async () => {
      const vhost = await rabbit.vhost();
      return HttpPlace.open(vhost.url, {}, { drop: () => vhost.drop() });
    },
  });
  if (postgres === undefined) return backends;
  backends.push({
    name: 'RabbitMQ and PostgreSQL',
    hasStore: true,
    open: async () => {
      const [vhost, database] = await Promise.all([rabbit.vhost(), postgres.database()]);
      const drop = () => Promise.all([vhost.drop(), database.drop()]);
      return HttpPlace.open(vhost.url, { store: database.url }, { drop });
    },
  });
  return backends;
}
