import { MillraceError } from '../../errors.ts';
import type { StoreWatcher, Unpublished } from '../store.ts';
import type { Database } from './database.ts';
import type { Events } from './events.ts';
import { Listener } from './listener.ts';
import { PAUSED } from './queues.ts';

/** Ids that are told at once after a reconnect. */
const CANCELS_MAX = 10_000;

/**
 * What other processes say. A notification names a cancelled task, or says that pauses have changed, or who watches; what
 * holds is read from the tables then, and when it listens again, so that nothing rests on the order in which they come.
 */
export class Watching {
  readonly #database: Database;
  readonly #watchers: StoreWatcher[] = [];
  readonly #events: Events;
  #listener: Listener | undefined;
  #cancelled: string[] = [];
  #reading: Promise<void> | undefined;
  #pausesChanged = false;
  #watchesChanged = false;

  constructor(database: Database, events: Events) {
    this.#database = database;
    this.#events = events;
  }

  /** Resolves when it listens, and has told what holds. Rejects when that cannot be reached the first time. */
  async add(watcher: StoreWatcher): Promise<void> {
    this.#watchers.push(watcher);
    if (this.#listener === undefined) {
      this.#listener = new Listener(this.#database, this.#database.settings.schema, {
        heard: (payload) => this.#heard(payload),
        again: () => this.#tellAll(),
      });
      try {
        await this.#listener.start();
      } catch (error) {
        this.#listener = undefined;
        this.#watchers.length = 0;
        throw error;
      }
    }
    await this.#tellAll();
  }

  /** Said by this process itself. */
  released(what: Unpublished, cancelled: number): void {
    for (const watcher of this.#watchers) watcher.released(what, cancelled);
  }

  async close(): Promise<void> {
    await this.#listener?.close();
  }

  #heard(payload: string): void {
    if (payload.startsWith('cancel ')) this.#cancelled.push(payload.slice('cancel '.length));
    else if (payload === 'watches') this.#watchesChanged = true;
    else this.#pausesChanged = true;
    // What comes in one go is told at once.
    this.#reading ??= this.#tell();
  }

  async #tell(): Promise<void> {
    try {
      await Promise.resolve();
      while (this.#cancelled.length > 0 || this.#pausesChanged || this.#watchesChanged) {
        const ids = this.#cancelled;
        this.#cancelled = [];
        if (ids.length > 0) for (const watcher of this.#watchers) watcher.cancelRequested(ids);
        if (this.#pausesChanged) {
          this.#pausesChanged = false;
          await this.#tellPaused();
        }
        if (this.#watchesChanged) {
          this.#watchesChanged = false;
          await this.#tellWatched();
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
    await this.#tellWatched();
  }

  async #tellWatched(): Promise<void> {
    if (await this.#events.look()) for (const watcher of this.#watchers) watcher.watched();
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
