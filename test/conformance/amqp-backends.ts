import postgres from 'postgres';
import type { Opened } from '../../src/connect.ts';
import type { ClientOptions } from '../../src/index.ts';
import type { Portion, SharedPostgres, SharedRabbit } from '../support/services.ts';
import { WITH_STORE, WITHOUT_STORE } from './amqp-exceptions.ts';
import { type Backend, UrlPlace } from './place.ts';

export function amqp(rabbit: SharedRabbit): Backend {
  const ground = new Ground(rabbit, undefined);
  return {
    name: 'amqp:',
    exceptions: WITHOUT_STORE,
    open: () => ground.open(),
    close: () => ground.close(),
  };
}

export function amqpWithStore(rabbit: SharedRabbit, postgres: SharedPostgres): Backend {
  const ground = new Ground(rabbit, postgres);
  return {
    name: 'amqp: with store',
    exceptions: WITH_STORE,
    open: () => ground.open(),
    close: () => ground.close(),
  };
}

/** Of the store; a place gets one that nobody has used for some places, so that nothing is under way to it any more. */
const SCHEMAS = 4;

/**
 * A virtual host, and perhaps a database, for all places: making and removing one for each takes longer than most tests do.
 * Each place has names of its own in the broker, and tables that are empty in the store.
 */
class Ground {
  readonly #rabbit: SharedRabbit;
  readonly #postgres: SharedPostgres | undefined;
  #portions: Promise<readonly [Portion, Portion | undefined]> | undefined;
  #places = 0;

  constructor(rabbit: SharedRabbit, postgres: SharedPostgres | undefined) {
    this.#rabbit = rabbit;
    this.#postgres = postgres;
  }

  async open(): Promise<AmqpPlace> {
    this.#portions ??= Promise.all([this.#rabbit.vhost(), this.#postgres?.database()]);
    const [vhost, database] = await this.#portions;
    const place = this.#places++;
    const store = database && (await emptyStore(database.url, `store_${place % SCHEMAS}`));
    return new AmqpPlace(vhost.url, `place_${place}`, store);
  }

  /** What ends with the run takes them along: a broker needs seconds to remove so many queues. */
  async close(): Promise<void> {
    const [vhost, database] = (await this.#portions) ?? [];
    if (this.#rabbit.outlivesRun) await vhost?.drop();
    if (this.#postgres?.outlivesRun) await database?.drop();
  }
}

/** The URL of a store in which nothing is. Making its tables takes longer than emptying those that are there. */
async function emptyStore(url: string, schema: string): Promise<string> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const tables = await sql`
      SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
      WHERE schemaname = ${schema} AND tablename <> 'migrations'`;
    const names = tables.map(({ name }) => String(name)).join(', ');
    if (names !== '') await sql.unsafe(`TRUNCATE ${names} RESTART IDENTITY`);
  } finally {
    await sql.end({ timeout: 5 });
  }
  return `${url}?schema=${schema}`;
}

class AmqpPlace extends UrlPlace {
  readonly url: string;
  readonly #prefix: string;
  readonly #store: string | undefined;

  constructor(url: string, prefix: string, store: string | undefined) {
    super();
    this.url = url;
    this.#prefix = prefix;
    this.#store = store;
  }

  override open(options: ClientOptions = {}): Promise<Opened> {
    const amqp = { prefix: this.#prefix, ...options.amqp };
    return super.open(this.#store === undefined ? { ...options, amqp } : { ...options, amqp, store: this.#store });
  }

  /** Brokers are restarted in tests of their own: here everybody leaves. */
  override async restart(meanwhile?: () => Promise<void>): Promise<void> {
    await this.closeClients();
    await meanwhile?.();
  }
}
