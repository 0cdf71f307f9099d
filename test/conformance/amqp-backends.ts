import type { Opened } from '../../src/connect.ts';
import type { ClientOptions } from '../../src/index.ts';
import type { Portion, SharedPostgres, SharedRabbit } from '../support/services.ts';
import { WITH_STORE, WITHOUT_STORE } from './amqp-exceptions.ts';
import { type Backend, UrlPlace } from './place.ts';

export function amqp(rabbit: SharedRabbit): Backend {
  return {
    name: 'amqp:',
    exceptions: WITHOUT_STORE,
    open: async () => new AmqpPlace(await rabbit.vhost(), undefined),
  };
}

export function amqpWithStore(rabbit: SharedRabbit, postgres: SharedPostgres): Backend {
  return {
    name: 'amqp: with store',
    exceptions: WITH_STORE,
    open: async () => {
      const [vhost, database] = await Promise.all([rabbit.vhost(), postgres.database()]);
      return new AmqpPlace(vhost, database);
    },
  };
}

/** A virtual host, and perhaps a database, of its own. */
class AmqpPlace extends UrlPlace {
  readonly url: string;
  readonly #vhost: Portion;
  readonly #database: Portion | undefined;

  constructor(vhost: Portion, database: Portion | undefined) {
    super();
    this.url = vhost.url;
    this.#vhost = vhost;
    this.#database = database;
  }

  override open(options: ClientOptions = {}): Promise<Opened> {
    return super.open(this.#database === undefined ? options : { ...options, store: this.#database.url });
  }

  /** Brokers are restarted in tests of their own: here everybody leaves. */
  override async restart(meanwhile?: () => Promise<void>): Promise<void> {
    await this.closeClients();
    await meanwhile?.();
  }

  override async close(): Promise<void> {
    await super.close();
    await Promise.all([this.#vhost.drop(), this.#database?.drop()]);
  }
}
