import { get } from 'node:http';
import { inject } from 'vitest';
import { createDatabase, dropDatabase } from '../../scripts/services/postgres.mjs';
import { createVhost, deleteVhost } from '../../scripts/services/vhosts.mjs';

export { Postgres, startPostgres } from '../../scripts/services/postgres.mjs';
export { Rabbit, startRabbit } from '../../scripts/services/rabbit.mjs';

/** Part of a service that is empty and nobody else's. */
export interface Portion {
  readonly url: string;
  /** Removes it, with whoever is still connected to it. */
  drop(): Promise<void>;
}

export interface SharedRabbit {
  /** Whether what is left in it stays there. */
  readonly outlivesRun: boolean;
  /** A virtual host of its own; takes a tenth of a second. */
  vhost(): Promise<Portion>;
}

export interface SharedPostgres {
  /** Whether what is left in it stays there. */
  readonly outlivesRun: boolean;
  /** A database of its own with our tables, as after the first start; takes a tenth of a second. */
  database(): Promise<Portion>;
  /** The same without anything in it. */
  emptyDatabase(): Promise<Portion>;
}

let portions = 0;

/**
 * The run's RabbitMQ, which no test may stop. Undefined when there is none: the caller skips its tests (the reason has been
 * printed); with CI set it is an error instead.
 */
export async function sharedRabbit(): Promise<SharedRabbit | undefined> {
  const { url, managementUrl, outlivesRun = true, missing } = await ask('/rabbit');
  if (missing !== undefined || url === undefined) return absent(missing);
  return {
    outlivesRun,
    vhost: async () => {
      const name = portionName();
      await createVhost(url, managementUrl, name);
      const made = new URL(url);
      made.pathname = `/${name}`;
      return { url: made.href, drop: () => deleteVhost(url, managementUrl, name) };
    },
  };
}

/** As `sharedRabbit`. */
export async function sharedPostgres(): Promise<SharedPostgres | undefined> {
  const { url, template, outlivesRun = true, missing } = await ask('/postgres');
  if (missing !== undefined || url === undefined) return absent(missing);
  const create = async (from?: string): Promise<Portion> => {
    const name = portionName();
    await createDatabase(url, name, from);
    const made = new URL(url);
    made.pathname = `/${name}`;
    return { url: made.href, drop: () => dropDatabase(url, name) };
  };
  return { outlivesRun, database: () => create(template), emptyDatabase: () => create() };
}

/**
 * The address of the run's browser, of which each file takes contexts of its own. As `sharedRabbit` when there is none.
 */
export async function sharedChromium(): Promise<string | undefined> {
  const { url, missing } = await ask('/chromium');
  return missing !== undefined || url === undefined ? absent(missing) : url;
}

/** Whether `startRabbit` can be called, for tests that kill and restart. As `sharedRabbit` when not. */
export async function rabbitPrograms(): Promise<boolean> {
  const { missing } = await ask('/rabbit-programs');
  return missing === undefined || absent(missing) !== undefined;
}

/** Whether `startPostgres` can be called, for tests that kill and restart. */
export async function postgresPrograms(): Promise<boolean> {
  const { missing } = await ask('/postgres-programs');
  return missing === undefined || absent(missing) !== undefined;
}

function portionName(): string {
  portions += 1;
  return `test_${process.pid}_${Date.now().toString(36)}_${portions}`;
}

function absent(reason: string | undefined): undefined {
  if (process.env.CI) throw new Error(`a service is missing, and with CI set that is a failure: ${reason}`);
  return undefined;
}

interface Answer {
  readonly url?: string;
  readonly managementUrl?: string;
  readonly template?: string;
  readonly outlivesRun?: boolean;
  readonly missing?: string;
}

/** Not `fetch`: the first start may take minutes, when packages are installed. */
function ask(path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    get(`${inject('servicesUrl')}${path}`, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve(JSON.parse(body)));
      response.on('error', reject);
    }).on('error', reject);
  });
}
