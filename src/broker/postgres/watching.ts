import { MillraceError } from '../../errors.ts';
import type { Timer } from '../../io/clock.ts';
import type { StoreWatcher, Unpublished } from '../store.ts';
import type { Database } from './database.ts';
import type { Lane } from './lane.ts';
import { PAUSED } from './queues.ts';

/** Between attempts to listen again; milliseconds. */
const PAUSE_MS = 100;
const PAUSE_MS_MAX = 5000;
const LISTEN_TIMEOUT_MS = 10_000;
/** A connection that nobody uses may be gone unnoticed: so often it is used. */
const PING_MS = 15_000;
/** Ids that are told at once after a reconnect. */
const CANCELS_MAX = 10_000;

/**
 * What other processes say, over a connection of its own:
 *
 *   listening ──connection lost──▶ trying again ──▶ listening, and everything that holds now is told
 *
 * A notification names a cancelled task, or says that pauses have changed; what holds is read from the tables then, so that
 * nothing rests on the order in which they come.
 */
export class Watching {
  readonly #database: Database;
  readonly #watchers: StoreWatcher[] = [];
  #lane: Lane | undefined;
  #lost: (() => void) | undefined;
  #ping: Timer | undefined;
  #cancelled: string[] = [];
  #reading: Promise<void> | undefined;
  #readAgain = false;
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Resolves when it listens, and has told what holds. Rejects when that cannot be reached the first time. */
  async add(watcher: StoreWatcher): Promise<void> {
    this.#watchers.push(watcher);
    if (this.#lane !== undefined) return this.#tellAll();
    this.#lane = this.#database.lane(
      { statement_timeout: '0' },
      { onNotify: (payload) => this.#heard(payload), onClose: () => this.#lost?.() },
    );
    try {
      await this.#database.run('calm', () => this.#listen());
    } catch (error) {
      this.#lost = undefined;
      await this.#lane.close(0);
      this.#lane = undefined;
      this.#watchers.length = 0;
      throw error;
    }
    await this.#tellAll();
  }

  /** Said by this process itself. */
  released(what: Unpublished, cancelled: number): void {
    for (const watcher of this.#watchers) watcher.released(what, cancelled);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#ping?.cancel();
    await this.#lane?.close(0);
  }

  async #listen(): Promise<void> {
    this.#lost = () => this.#again();
    await this.#lane?.run(
      (session) => session.query(`LISTEN ${this.#database.settings.schema}`, []),
      LISTEN_TIMEOUT_MS,
    );
    this.#pingLater();
  }

  #pingLater(): void {
    this.#ping?.cancel();
    if (this.#closed) return;
    this.#ping = this.#database.clock.setTimer(PING_MS, () => {
      this.#lane
        ?.run((session) => session.query('SELECT 1', []), LISTEN_TIMEOUT_MS)
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
    for (
      let pauseMs = PAUSE_MS;
      !this.#closed && !this.#database.closed;
      pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)
    ) {
      await this.#database.pause(pauseMs);
      if (this.#closed || this.#database.closed) return;
      try {
        await this.#listen();
        await this.#tellAll();
        return;
      } catch (error) {
        // Away, or just lost again: the next round. `#listen` has set what starts another, which this one is.
        this.#lost = undefined;
        if (!(error instanceof Error)) throw error;
      }
    }
  }

  #heard(payload: string): void {
    if (payload.startsWith('cancel ')) this.#cancelled.push(payload.slice('cancel '.length));
    else this.#readAgain = true;
    // What comes in one go is told at once.
    this.#reading ??= this.#tell();
  }

  async #tell(): Promise<void> {
    try {
      await Promise.resolve();
      while (this.#cancelled.length > 0 || this.#readAgain) {
        const ids = this.#cancelled;
        this.#cancelled = [];
        if (ids.length > 0) for (const watcher of this.#watchers) watcher.cancelRequested(ids);
        if (this.#readAgain) {
          this.#readAgain = false;
          await this.#tellPaused();
        }
      }
    } catch (error) {
      // When the database is away this connection is lost too, and everything is told after it is back.
      if (!(error instanceof MillraceError)) throw error;
    } finally {
      this.#reading = undefined;
    }
  }

  async #tellAll(): Promise<void> {
    const rows = await this.#database.query('calm', CANCELS);
    const ids = rows.map((row) => row.id as string);
    if (ids.length > 0) for (const watcher of this.#watchers) watcher.cancelRequested(ids);
    await this.#tellPaused();
  }

  async #tellPaused(): Promise<void> {
    const rows = await this.#database.query('calm', PAUSED);
    const queues = rows.map((row) => row.name as string);
    for (const watcher of this.#watchers) watcher.paused(queues);
  }
}

const CANCELS = `
SELECT c.id FROM cancels c JOIN tasks t ON t.id = c.id WHERE t.state = 1 AND t.cancel_requested
ORDER BY c.at DESC LIMIT ${CANCELS_MAX}`;
