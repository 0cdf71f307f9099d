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
  /** What is on its way. */
  #written: ReadonlyMap<string, Value> = new Map();
  #passed: (() => void)[] = [];

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

  has(key: string): boolean {
    return this.#waiting.has(key) || this.#written.has(key);
  }

  /** When what these keys have now was written, or given up. Never rejects. */
  async passed(keys: readonly string[]): Promise<void> {
    while (keys.some((key) => this.has(key))) await new Promise<void>((resolve) => this.#passed.push(resolve));
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
      this.#written = items;
      const isAway = await this.#away(items);
      this.#written = new Map();
      if (isAway) this.#waiting = new Map([...items, ...this.#waiting]);
      for (const resolve of this.#passed.splice(0)) resolve();
      if (!isAway) continue;
      this.#bound();
      await this.#database.pause(PAUSE_MS);
    }
    this.#writing = undefined;
  }

  /** Writes them, and returns whether the database is away. */
  async #away(items: ReadonlyMap<string, Value>): Promise<boolean> {
    try {
      await this.#write(items);
      return false;
    } catch (error) {
      // Else refused for good, or closed: it was allowed to be lost.
      return error instanceof MillraceError && error.code === 'DISCONNECTED';
    }
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
