import { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { Database } from './database.ts';

const PAUSE_MS = 1000;

/**
 * What may be written a little later, or be lost in a crash: gathered by key, the last value counts. Goes on trying while
 * the database is away; beyond a bound the oldest are forgotten. Written in the order of the keys, in which everybody locks
 * rows, so that two statements that meet do not wait for each other in a circle.
 */
export class LazyWrites<Value> {
  readonly #database: Database;
  readonly #write: (items: ReadonlyMap<string, Value>) => Promise<void>;
  #waiting = new Map<string, Value>();
  #writing: Promise<void> | undefined;

  constructor(database: Database, write: (items: ReadonlyMap<string, Value>) => Promise<void>) {
    this.#database = database;
    this.#write = write;
  }

  add(key: string, value: Value): void {
    if (this.#database.closed) return;
    this.#waiting.set(key, value);
    this.#bound();
    this.#writing ??= this.#run();
  }

  delete(key: string): void {
    this.#waiting.delete(key);
  }

  /** When what is gathered was written, or given up. Never rejects. */
  async flushed(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  async #run(): Promise<void> {
    await this.#database.pause(LIMITS.storeGatherMs);
    while (this.#waiting.size > 0) {
      const items = inOrder(this.#waiting);
      this.#waiting = new Map();
      try {
        await this.#write(items);
      } catch (error) {
        // Refused for good, or closed: it was allowed to be lost.
        if (!(error instanceof MillraceError) || error.code !== 'DISCONNECTED') continue;
        this.#waiting = new Map([...items, ...this.#waiting]);
        this.#bound();
        await this.#database.pause(PAUSE_MS);
      }
    }
    this.#writing = undefined;
  }

  #bound(): void {
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= LIMITS.storeLazyEntriesMax) return;
      this.#waiting.delete(key);
    }
  }
}

function inOrder<Value>(items: ReadonlyMap<string, Value>): Map<string, Value> {
  return new Map([...items].sort(([a], [b]) => (a < b ? -1 : 1)));
}
