import { connect as dial, type Socket } from 'node:net';
import type { Options, Sql } from 'postgres';
import { type Clock, setPatientTimer } from '../../io/clock.ts';
import { connectionLost, statementTimeout, troubleOf } from './failures.ts';
import type { Settings } from './settings.ts';

export type Driver = typeof import('postgres');
export type Row = Record<string, unknown>;
export type Parameter = string | number | boolean | Buffer | null;

/** Where statements are sent: a connection, or a transaction on it. */
export interface Session {
  query(text: string, parameters: readonly Parameter[]): Promise<Row[]>;
}

export interface LaneOptions {
  readonly driver: Driver;
  readonly settings: Settings;
  readonly clock: Clock;
  /** Parameters of the session, sent when it begins. */
  readonly session: Readonly<Record<string, string>>;
  readonly onNotify?: ((payload: string) => void) | undefined;
  readonly onClose?: (() => void) | undefined;
}

interface Host {
  readonly host: string;
  readonly port: number;
}

/** The driver takes seconds. */
const SECOND = 1000;
const KEEP_ALIVE_S = 10;

/** One connection, opened when it is needed. After trouble it is given up whole, and the next call opens another. */
export class Lane {
  readonly #options: LaneOptions;
  readonly #sockets = new Set<Socket>();
  #sql: Sql | undefined;
  #running = 0;
  #closed = false;
  /** Several may stand in the URL: they are tried in turn. */
  #hosts: readonly Host[] | undefined;
  #hostIndex = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Calls that have not returned yet. */
  get running(): number {
    return this.#running;
  }

  get open(): boolean {
    return this.#sql !== undefined;
  }

  async run<T>(work: (session: Session) => Promise<T>, timeoutMs: number): Promise<T> {
    return this.#guarded((sql) => work(sessionOf(sql)), timeoutMs);
  }

  /**
   * Statements that take effect together. For a lane that nobody else uses: it is closed afterwards, which also takes back
   * what was not committed. (The driver's own way writes a rollback to a connection that is gone, and ends the process.)
   */
  async transaction<T>(work: (session: Session) => Promise<T>, timeoutMs: number): Promise<T> {
    return this.#guarded(async (sql) => {
      const session: Session = {
        query: async (text, parameters) => {
          // The driver would connect again, and run it outside the transaction.
          if (this.#sql !== sql) throw connectionLost();
          return sessionOf(sql).query(text, parameters);
        },
      };
      await session.query('BEGIN', []);
      const result = await work(session);
      await session.query('COMMIT', []);
      return result;
    }, timeoutMs);
  }

  /** Waits for what runs, at most so long; nothing is opened any more, for which calls reject as if the server were away. Never rejects. */
  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    const sql = this.#sql;
    this.#sql = undefined;
    await sql?.end({ timeout: timeoutMs / SECOND }).catch(() => {
      // A connection that breaks meanwhile is as closed as it was to be.
    });
    // What does not end in order (the server hangs) must not keep the process alive.
    for (const socket of this.#sockets) socket.destroy();
  }

  async #guarded<T>(work: (sql: Sql) => Promise<T>, timeoutMs: number): Promise<T> {
    if (this.#closed) throw connectionLost();
    this.#sql ??= this.#start();
    const sql = this.#sql;
    this.#running++;
    try {
      return await this.#inTime(work(sql), timeoutMs);
    } catch (error) {
      if (troubleOf(error) === 'away') this.#giveUp(sql);
      throw error;
    } finally {
      this.#running--;
    }
  }

  #inTime<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setPatientTimer(this.#options.clock, timeoutMs, () => reject(statementTimeout(timeoutMs)));
      promise.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  /** Everything else that waits on this connection fails too, and is tried again by whoever made the call. */
  #giveUp(sql: Sql): void {
    if (this.#sql !== sql) return;
    this.#sql = undefined;
    for (const socket of this.#sockets) socket.destroy();
    sql.end({ timeout: 0 }).catch(() => {
      // It has no connection any more: nothing can be told.
    });
  }

  #start(): Sql {
    const { driver, settings, session, onNotify, onClose } = this.#options;
    let isDialled = false;
    const options = {
      max: 1,
      idle_timeout: undefined,
      max_lifetime: null,
      connect_timeout: settings.connectTimeoutMs / SECOND,
      backoff: () => 0,
      // Arrays travel as texts that we write ourselves.
      fetch_types: false,
      keep_alive: KEEP_ALIVE_S,
      ssl: settings.ssl,
      onnotice: () => {},
      onnotify: (_channel: string, payload: string) => onNotify?.(payload),
      onclose: () => {
        this.#giveUp(sql);
        onClose?.();
      },
      connection: session,
      // Our own, so that one to a server that hangs can be cut off.
      socket: (target: Target) => {
        // It would dial for ever, without a pause, one that closes before it is ready: whoever made the call tries again. And it
        // does so some turns after it was asked to: what is opened once the lane is closed nobody would close.
        if (isDialled || this.#closed) throw connectionLost();
        isDialled = true;
        return this.#dial(target);
      },
    };
    // The driver's types do not know `socket`, nor that a connection without types of its own is one.
    const open = (more: object): Sql =>
      driver(settings.url, { ...options, ...more } as unknown as Options<Record<string, never>>) as unknown as Sql;
    // Given several, it would tell of no failure as long as there is another one, and not stop at the last.
    this.#hosts ??= hostsOf(open({}));
    const { host, port } = this.#hosts[this.#hostIndex++ % this.#hosts.length] as Host;
    const sql = open(this.#hosts.length === 1 ? {} : { host: [host], port: [port] });
    return sql;
  }

  #dial({ host: [host], port: [port], path }: Target): Socket {
    const socket = typeof path === 'string' ? dial({ path }) : dial({ host: host as string, port: port as number });
    // The driver takes the server's name for TLS, and the address in its messages, from here.
    Object.assign(socket, { host, port });
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    // After the driver has let go of it, an error is nobody's.
    socket.on('error', () => {});
    return socket;
  }
}

/** As the driver has read the URL. */
interface Target {
  readonly host: readonly string[];
  readonly port: readonly number[];
  readonly path?: string | false;
}

function hostsOf(sql: Sql): readonly Host[] {
  const { host, port } = sql.options as unknown as Target;
  return host.map((name, index) => ({ host: name, port: port[index] as number }));
}

/** Prepared once per connection. */
const PREPARED = { prepare: true } as const;

function sessionOf(sql: Pick<Sql, 'unsafe'>): Session {
  return {
    query: (text, parameters) => sql.unsafe(text, parameters as Parameter[], PREPARED) as unknown as Promise<Row[]>,
  };
}
