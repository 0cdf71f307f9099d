import { postgresDirectory, rabbitDirectory } from '../../scripts/services/binaries.mjs';
import { startPostgres } from '../../scripts/services/postgres.mjs';
import { startRabbit } from '../../scripts/services/rabbit.mjs';
import { Actor } from './actor.ts';
import { MAIN } from './product.ts';

/** What is soaked: a server, or RabbitMQ with PostgreSQL behind a gateway that serves HTTP. */
export interface Backend {
  readonly name: string;
  readonly url: string;
  readonly store: string | undefined;
  readonly httpUrl: string;
  /** The process of ours that serves: the server, or the gateway. */
  readonly server: Actor;
  /** Where everything that it keeps is; empty where that is on somebody else's machine. */
  readonly directories: readonly string[];
  /** Of the services, by name, while they run. */
  servicePids(): Readonly<Record<string, readonly number[]>>;
  stop(): Promise<string>;
}

/** A PostgreSQL left to itself grows its log to a gigabyte before it uses it again, which takes most of an hour. */
const POSTGRES_SETTINGS = { max_wal_size: '256MB', min_wal_size: '128MB' };

export async function startServer(directory: string): Promise<Backend> {
  const data = `${directory}/data`;
  const args = [
    'server',
    '--data',
    data,
    '--port',
    '0',
    '--http-port',
    '0',
    '--json',
    '--log-file',
    `${directory}/server.log`,
  ];
  const server = new Actor('server', [MAIN, ...args]);
  const [, url = ''] = await server.said(/"url":"(tcp:[^"]+)"/);
  const httpUrl = await httpOf(server);
  const directories = [data];
  const stop = (): Promise<string> => server.end('SIGTERM');
  return { name: 'server', url, store: undefined, httpUrl, server, directories, servicePids: () => ({}), stop };
}

/** Over services that are there already, or, without URLs, over private ones. */
export async function startRabbitWithStore(
  directory: string,
  given: { url: string; store: string } | undefined,
): Promise<Backend> {
  const services = given === undefined ? await startServices() : undefined;
  const { url, store } = given ?? (services as Services);
  const args = ['server', '--url', url, '--store', store, '--http-port', '0', '--log-file', `${directory}/server.log`];
  const server = new Actor('gateway', [MAIN, ...args]);
  const httpUrl = await httpOf(server);
  return {
    ...{ name: 'rabbitmq', url, store, httpUrl, server },
    directories: services === undefined ? [] : services.directories,
    servicePids: () => services?.pids() ?? {},
    stop: async () => {
      const how = await server.end('SIGTERM');
      await services?.stop();
      return how;
    },
  };
}

interface Services {
  readonly url: string;
  readonly store: string;
  readonly directories: readonly string[];
  pids(): Record<string, readonly number[]>;
  stop(): Promise<void>;
}

async function startServices(): Promise<Services> {
  if (rabbitDirectory() === undefined || postgresDirectory() === undefined) {
    throw new Error(
      'RabbitMQ and PostgreSQL are not on this machine: install rabbitmq-server and postgresql, or give --url and --store',
    );
  }
  const rabbit = await startRabbit({});
  const postgres = await startPostgres({ sync: true, settings: POSTGRES_SETTINGS });
  return {
    url: rabbit.url,
    store: postgres.url,
    directories: [rabbit.directory, postgres.directory],
    pids: () => ({ rabbitmq: rabbit.pids, postgresql: postgres.pids }),
    stop: async () => {
      await Promise.all([rabbit.stop(), postgres.stop()]);
    },
  };
}

async function httpOf(server: Actor): Promise<string> {
  const [url = ''] = await server.said(/http:\/\/127\.0\.0\.1:\d+/);
  return url;
}
