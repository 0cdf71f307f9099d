import { type Opened, open } from '../../src/connect.ts';
import type { Client, ClientOptions } from '../../src/index.ts';

/** Where the tasks of one test are: empty when it is opened, and nobody else's. */
export interface Place {
  /** What `connect` takes. */
  readonly url: string;
  /** A client that is closed with the place at the latest. */
  connect(options?: ClientOptions): Promise<Client>;
  /** As `connect`, with the broker under it: for what no client is for. */
  open(options?: ClientOptions): Promise<Opened>;
  /** Closes the clients, ends what holds the tasks, waits for `meanwhile`, and starts it again. */
  restart(meanwhile?: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

/** What the suite runs against. */
export interface Backend {
  readonly name: string;
  /** Behaviours that it does not have, by name, each with the reason. They are not run. */
  readonly exceptions: Readonly<Record<string, string>>;
  open(): Promise<Place>;
  /** When nothing is opened any more: removes what all places have shared. */
  close?(): Promise<void>;
}

/** One statement about every backend; its name is the statement. */
export type Behaviour = (place: Place) => Promise<void>;
export type Behaviours = Readonly<Record<string, Behaviour>>;

/** A place whose clients reach its tasks by URL. */
export abstract class UrlPlace implements Place {
  abstract readonly url: string;
  readonly #clients = new Set<Client>();

  async connect(options?: ClientOptions): Promise<Client> {
    return (await this.open(options)).client;
  }

  async open(options?: ClientOptions): Promise<Opened> {
    const opened = await open(this.url, options);
    this.#clients.add(opened.client);
    return opened;
  }

  abstract restart(meanwhile?: () => Promise<void>): Promise<void>;

  async close(): Promise<void> {
    await this.closeClients();
  }

  protected async closeClients(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    // Handlers that a test left hanging must not hold it.
    await Promise.all(clients.map((client) => client.close({ timeoutMs: 0 })));
  }
}
