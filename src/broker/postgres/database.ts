import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { LIMITS } from '../../limits.ts';
import { disconnected, troubleOf, typed } from './failures.ts';
import { Lane, type LaneOptions, type Parameter, type Row, type Session } from './lane.ts';
import type { Settings } from './settings.ts';

/**
 * Three kinds of connections:
 *
 * - `durable`: many rows by their keys; a commit is on disk when it is answered.
 * - `lazy`: the same, and a crash of the server may take back the last moments.
 * - `calm`: reading, listing, upkeep; planned as PostgreSQL likes.
 *
 * On the first two, joins are told to go by index: a plan made while the tables were empty would read them whole, and is
 * kept for as long as the connection lives.
 */
export type LaneKind = 'durable' | 'lazy' | 'calm';

const BY_INDEX = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' } as const;
const LANES = {
  durable: { count: LIMITS.storeDurableLanes, session: BY_INDEX },
  lazy: { count: LIMITS.storeLazyLanes, session: { ...BY_INDEX, synchronous_commit: 'off' } },
  calm: { count: LIMITS.storeCalmLanes, session: {} },
} as const;

/**
 * By when the server notices that a host has vanished: within a minute, in place of two hours, in which it would keep the lock of
 * upkeep. Seconds.
 */
const KEEP_ALIVE = { tcp_keepalives_idle: '30', tcp_keepalives_interval: '10', tcp_keepalives_count: '3' } as const;

const PAUSE_MS = 50;
const PAUSE_MS_MAX = 1000;
/** A transaction that clashes more often than this has another problem. */
const CLASHES_MAX = 20;

export interface DatabaseOptions {
  readonly driver: LaneOptions['driver'];
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
}

/** Runs statements, over reconnects. What is run must be such that running it again after an unknown outcome does no harm. */
export class Database {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
  readonly #options: DatabaseOptions;
  readonly #lanes: Record<LaneKind, Lane[]>;
  readonly #closing = new AbortController();
  #outages = 0;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.settings = options.settings;
    this.clock = options.clock;
    this.random = options.random;
    const lanes = (kind: LaneKind): Lane[] =>
      Array.from({ length: LANES[kind].count }, () => this.lane(LANES[kind].session));
    this.#lanes = { durable: lanes('durable'), lazy: lanes('lazy'), calm: lanes('calm') };
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** How often a statement found the server away. */
  get outages(): number {
    return this.#outages;
  }

  /** A connection of its own. */
  lane(session: Readonly<Record<string, string>>, hooks: Pick<LaneOptions, 'onNotify' | 'onClose'> = {}): Lane {
    const { driver, settings, clock } = this.#options;
    return new Lane({
      ...hooks,
      driver,
      settings,
      clock,
      session: {
        application_name: 'millrace',
        search_path: settings.schema,
        jit: 'off',
        // What a process that is gone has left behind ends by itself.
        statement_timeout: String(LIMITS.storeStatementTimeoutMs + 5000),
        idle_in_transaction_session_timeout: String(LIMITS.storeStatementTimeoutMs),
        ...KEEP_ALIVE,
        ...session,
      },
    });
  }

  /** One prepared statement. `again`: it may have been run before, with unknown outcome. */
  query(kind: LaneKind, text: string, parameters: readonly Parameter[] = []): Promise<Row[]> {
    return this.run(kind, (session) => session.query(text, parameters));
  }

  run<T>(kind: LaneKind, work: (session: Session, again: boolean) => Promise<T>): Promise<T> {
    return this.#persist((again) =>
      this.#lane(kind).run((session) => work(session, again), LIMITS.storeStatementTimeoutMs),
    );
  }

  /** Durable, over a connection of its own: for what is rare. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#persist(async () => {
      const lane = this.lane(LANES.durable.session);
      try {
        return await lane.transaction(work, LIMITS.storeStatementTimeoutMs);
      } finally {
        await lane.close(0);
      }
    });
  }

  /** Lets what runs end, at most so long; what is called later rejects with CLOSED. Never rejects. */
  async close(timeoutMs: number): Promise<void> {
    this.#closing.abort();
    const lanes = Object.values(this.#lanes).flat();
    await Promise.all(lanes.map((lane) => lane.close(timeoutMs)));
  }

  /** One that does nothing, else one that can still be opened, else the one that does least. */
  #lane(kind: LaneKind): Lane {
    const lanes = this.#lanes[kind];
    const idle = lanes.find((lane) => lane.open && lane.running === 0) ?? lanes.find((lane) => !lane.open);
    return idle ?? lanes.reduce((least, lane) => (lane.running < least.running ? lane : least));
  }

  async #persist<T>(attempt: (again: boolean) => Promise<T>): Promise<T> {
    const { clock, settings } = this.#options;
    let again = false;
    let clashes = 0;
    let pauseMs = PAUSE_MS;
    let awayMs: number | undefined;
    for (;;) {
      if (this.closed) throw new MillraceError('CLOSED', 'the store was closed');
      try {
        return await attempt(again);
      } catch (error) {
        const trouble = troubleOf(error);
        if (trouble === 'refused' || (trouble === 'clash' && ++clashes > CLASHES_MAX)) throw typed(settings, error);
        if (this.closed) throw new MillraceError('CLOSED', 'the store was closed', { cause: error });
        if (trouble === 'away') {
          this.#outages++;
          again = true;
          awayMs ??= clock.steadyMs();
          if (clock.steadyMs() + pauseMs - awayMs > settings.connectTimeoutMs) throw disconnected(settings, error);
        }
        await this.pause(trouble === 'away' ? pauseMs : 0);
        pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX);
      }
    }
  }

  /** Half of it to all of it, so that many processes do not come at the same time; ends early when closed. */
  pause(ms: number): Promise<void> {
    const { signal } = this.#closing;
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.clock.setTimer(ms * (0.5 + this.random.float() / 2), end);
      function end(): void {
        timer.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      }
      signal.addEventListener('abort', end);
    });
  }
}
