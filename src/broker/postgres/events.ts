import { MillraceError } from '../../errors.ts';
import type { Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { EventFilter, TaskError, TaskEvent, Watcher } from '../contract.ts';
import type { Database } from './database.ts';
import { Listener } from './listener.ts';

/** A watch of which nothing is heard for so long is forgotten, and how often it is heard of. */
const WATCH_MS = 60_000;
const KEEP_MS = 15_000;

interface Watch {
  readonly filter: EventFilter;
  readonly watcher: Watcher;
}

/** As the trigger gives it; what was JSON is text in it. */
type Told = Exclude<TaskEvent, { type: 'dropped' }> & { progress?: string; failure?: string };

/**
 * Event streams: each has a row while it is watched, so that the statements of all processes tell of tasks; see
 * events-schema.ts.
 */
export class Events {
  readonly #database: Database;
  readonly #prefix: string;
  readonly #watches = new Map<string, Watch>();
  #count = 0;
  #listener: Listener | undefined;
  #listening: Promise<void> | undefined;
  #keeping: Timer | undefined;
  /** Rows on their way to be deleted. */
  readonly #leaving = new Set<Promise<void>>();
  /** A text that comes in parts, and its number. */
  #parts = '';
  #partsOf = '';
  /** By anybody, in any process: as far as is known here. */
  #watched = false;
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
    this.#prefix = database.random.hex(8);
  }

  get watched(): boolean {
    return this.#watched;
  }

  /** Looks again whether anybody watches. */
  async look(): Promise<boolean> {
    const [row] = await this.#database.query(
      'calm',
      'SELECT EXISTS (SELECT FROM watches WHERE until > now()) AS watched',
    );
    this.#watched = row?.watched === true;
    return this.#watched;
  }

  /** Resolves when every later event will be told, with how to end that. Rejects BUFFER_FULL, and like all calls. */
  async open(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    if (this.#closed) throw new MillraceError('CLOSED', 'the store was closed');
    const bound = LIMITS.watchesPerConnectionMax;
    if (this.#watches.size >= bound) {
      const message = `this client watches events ${bound} times, which is as many as it may: end a stream, or connect another client`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    const name = `${this.#prefix}-${this.#count++}`;
    this.#watches.set(name, { filter, watcher });
    try {
      await this.#listen();
      await this.#keep(name, filter);
    } catch (error) {
      this.#end(name);
      throw error;
    }
    this.#watched = true;
    this.#keepLater();
    return () => this.#end(name);
  }

  /** What ends first is told of first, so that nothing is left behind. Always resolves. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#keeping?.cancel();
    for (const name of [...this.#watches.keys()]) this.#end(name);
    await Promise.all(this.#leaving);
    await this.#listener?.close();
  }

  async #listen(): Promise<void> {
    if (this.#listening === undefined) {
      const channel = `${this.#database.settings.schema}_events`;
      const listener = new Listener(this.#database, channel, {
        heard: (payload) => this.#heard(payload),
        again: () => this.#again(),
      });
      this.#listener = listener;
      this.#listening = listener.start();
    }
    const listening = this.#listening;
    try {
      await listening;
    } catch (error) {
      if (this.#listening === listening) this.#listening = undefined;
      throw error;
    }
  }

  /** Returns whether it was known. */
  async #keep(name: string, { queue, task }: EventFilter): Promise<boolean> {
    const parameters = [name, queue ?? null, task ?? null, WATCH_MS];
    const [row] = await this.#database.query(
      'durable',
      'SELECT watch_tasks($1, $2, $3, $4::float8) AS known',
      parameters,
    );
    return row?.known === true;
  }

  #keepLater(): void {
    if (this.#keeping !== undefined || this.#closed) return;
    this.#keeping = this.#database.clock.setTimer(KEEP_MS, () => {
      this.#keeping = undefined;
      this.#keepAll(false).catch((error: unknown) => {
        // The database is away: the connection that listens is lost too, and `again` does the same.
        if (!(error instanceof MillraceError)) throw error;
      });
      if (this.#watches.size > 0) this.#keepLater();
    });
    this.#keeping.unref();
  }

  async #again(): Promise<void> {
    await this.#keepAll(true);
  }

  /** What was forgotten meanwhile, or not heard, has a gap. */
  async #keepAll(gap: boolean): Promise<void> {
    for (const [name, { filter, watcher }] of [...this.#watches]) {
      const known = await this.#keep(name, filter);
      if (!this.#watches.has(name)) this.#delete(name);
      else if (gap || !known) watcher.event({ type: 'dropped', count: null }, 1);
    }
  }

  #end(name: string): void {
    if (this.#watches.delete(name)) this.#delete(name);
  }

  #delete(name: string): void {
    const left = this.#database.query('lazy', 'DELETE FROM watches WHERE name = $1', [name]).then(
      () => {},
      (error: unknown) => {
        // Then it is forgotten when its time is over.
        if (!(error instanceof MillraceError)) throw error;
      },
    );
    this.#leaving.add(left);
    void left.finally(() => this.#leaving.delete(left));
  }

  /** "number, how many more parts follow, text". */
  #heard(payload: string): void {
    const space = payload.indexOf(' ');
    const from = payload.indexOf(' ', space + 1);
    const number = payload.slice(0, space);
    // The rest of another was lost with a connection.
    if (number !== this.#partsOf) this.#parts = '';
    this.#partsOf = number;
    const text = payload.slice(from + 1);
    if (payload.slice(space + 1, from) !== '0') {
      this.#parts += text;
      return;
    }
    const whole = this.#parts + text;
    this.#parts = '';
    if (this.#watches.size === 0) return;
    for (const told of JSON.parse(whole) as Told[]) {
      const event = eventOf(told);
      for (const { filter, watcher } of this.#watches.values()) {
        if (filter.queue !== undefined && filter.queue !== told.queue) continue;
        if (filter.task === undefined || filter.task === told.id) watcher.event(event, 1);
      }
    }
  }
}

function eventOf({ progress, failure, ...event }: Told): TaskEvent {
  return {
    ...event,
    ...(progress === undefined ? {} : { progress: JSON.parse(progress) as unknown }),
    ...(failure === undefined ? {} : { error: (JSON.parse(failure) as { error: TaskError }).error }),
  } as TaskEvent;
}
