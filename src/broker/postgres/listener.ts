import type { Timer } from '../../io/clock.ts';
import type { Database } from './database.ts';
import type { Lane } from './lane.ts';

/** Between attempts to listen again; milliseconds. */
const PAUSE_MS = 100;
const PAUSE_MS_MAX = 5000;
const LISTEN_TIMEOUT_MS = 10_000;
/** A connection that nobody uses may be gone unnoticed: so often it is used. */
const PING_MS = 15_000;

export interface ListenerOwner {
  heard(payload: string): void;
  /** It listens again: what was said since the connection was lost is not known. May reject: then that is tried again. */
  again(): Promise<void>;
}

/**
 * What is said on one channel, over a connection of its own:
 *
 *   listening ──connection lost──▶ trying again ──▶ listening
 */
export class Listener {
  readonly #database: Database;
  readonly #channel: string;
  readonly #owner: ListenerOwner;
  readonly #lane: Lane;
  #lost: (() => void) | undefined;
  #ping: Timer | undefined;
  #closed = false;

  constructor(database: Database, channel: string, owner: ListenerOwner) {
    this.#database = database;
    this.#channel = channel;
    this.#owner = owner;
    this.#lane = database.lane(
      { statement_timeout: '0' },
      { onNotify: (payload) => owner.heard(payload), onClose: () => this.#lost?.() },
    );
  }

  /** Resolves when it listens. Rejects, closed, when that cannot be reached the first time. */
  async start(): Promise<void> {
    try {
      await this.#database.run('calm', () => this.#listen());
    } catch (error) {
      this.#lost = undefined;
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#ping?.cancel();
    await this.#lane.close(0);
  }

  get #over(): boolean {
    return this.#closed || this.#database.closed;
  }

  async #listen(): Promise<void> {
    this.#lost = () => this.#again();
    await this.#lane.run((session) => session.query(`LISTEN ${this.#channel}`, []), LISTEN_TIMEOUT_MS);
    this.#pingLater();
  }

  #pingLater(): void {
    this.#ping?.cancel();
    if (this.#closed) return;
    this.#ping = this.#database.clock.setTimer(PING_MS, () => {
      this.#lane
        .run((session) => session.query('SELECT 1', []), LISTEN_TIMEOUT_MS)
        .then(
          () => this.#pingLater(),
          // The connection was given up, which starts the next one.
          () => {},
        );
    });
    this.#ping.unref();
  }

  #again(): void {
    this.#lost = undefined;
    this.#persist().catch((error: unknown) => {
      // Nobody waits for it: a defect must not go unseen.
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  async #persist(): Promise<void> {
    for (let pauseMs = PAUSE_MS; !this.#over; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      await this.#database.pause(pauseMs);
      if (this.#over) return;
      try {
        await this.#listen();
        await this.#owner.again();
        return;
      } catch (error) {
        // Away, or just lost again: the next round. `#listen` has set what starts another, which this one is.
        this.#lost = undefined;
        if (!(error instanceof Error)) throw error;
      }
    }
  }
}
