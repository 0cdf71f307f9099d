import { MillraceError } from '../../errors.ts';
import { settlesWithin } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type {
  DeadGroups,
  EventFilter,
  Outcome,
  ParentPage,
  Retention,
  ScalingReport,
  TaskFilter,
  TaskInfo,
  TaskLog,
  TaskPage,
  Watcher,
} from '../contract.ts';
import type {
  Arrival,
  End,
  EndReport,
  NewRelatedTask,
  NewTasks,
  Redriven,
  Republish,
  Store,
  StoreStatus,
  StoreWatcher,
  Submission,
  Unpublished,
  Verdict,
  WorkerBeat,
} from '../store.ts';
import { Attempts } from './attempts.ts';
import { Bulk } from './bulk.ts';
import { Database } from './database.ts';
import { readDeadGroups } from './dead-groups.ts';
import { numberArray, textArray } from './encode.ts';
import { Events } from './events.ts';
import { Insertion } from './insertion.ts';
import { Kinds } from './kinds.ts';
import type { Driver } from './lane.ts';
import { LazyWrites } from './lazy-writes.ts';
import { Logs } from './logs.ts';
import { migrate } from './migrate.ts';
import { Outbox } from './outbox.ts';
import { Queues } from './queues.ts';
import { readParents } from './relatives.ts';
import { Schedules } from './schedules.ts';
import { Search } from './search.ts';
import { type PostgresStoreOptions, resolveSettings } from './settings.ts';
import { settledOf } from './settling.ts';
import { readStatus } from './status.ts';
import { Submissions } from './submissions.ts';
import { writeReport } from './supervisors.ts';
import { Tasks } from './tasks.ts';
import { Upkeep } from './upkeep.ts';
import { Watching } from './watching.ts';
import { Workers } from './workers.ts';

/**
 * What is remembered, in PostgreSQL (12 or newer).
 *
 * Every call may be made again by itself when the connection breaks in the middle of it; each says what makes that safe.
 * Times that processes compare are the database's (`now()`); those that a task carries (when it was enqueued, is due, has
 * failed) are the clocks of whoever made them.
 */
export class PostgresStore implements Store {
  readonly schedules: Schedules;
  readonly #database: Database;
  readonly #insertion: Insertion;
  readonly #submissions: Submissions;
  readonly #attempts: Attempts;
  readonly #outbox: Outbox;
  readonly #tasks: Tasks;
  readonly #bulk: Bulk;
  readonly #queues: Queues;
  readonly #workers: Workers;
  readonly #upkeep: Upkeep;
  readonly #watching: Watching;
  readonly #events: Events;
  readonly #progress: LazyWrites<string>;
  readonly #started: LazyWrites<number>;
  readonly #logs: Logs;
  #closing: Promise<void> | undefined;

  /**
   * Makes or updates the tables. Rejects INVALID_ARGUMENT, UNSUPPORTED (the package `postgres` is not installed, or the
   * database is not in UTF-8),
   * DISCONNECTED (not reached within `connectTimeoutMs`; a wrong password or database at once), STORAGE_FAILED (no right
   * to make the tables) and STORE_VERSION.
   */
  static async connect(options: PostgresStoreOptions): Promise<PostgresStore> {
    const settings = await resolveSettings(options);
    const driver = await loadDriver();
    const database = new Database({ driver, settings, clock: options.clock, random: options.random });
    try {
      await migrate(database);
    } catch (error) {
      await database.close(0);
      throw error;
    }
    const store = new PostgresStore(database);
    if (settings.upkeep) store.#upkeep.start();
    return store;
  }

  private constructor(database: Database) {
    const prefix = database.random.hex(8);
    let entries = 0;
    const newEntry = (): string => `${prefix}-${(entries++).toString(36)}`;
    const kinds = new Kinds(database);
    this.#database = database;
    this.#upkeep = new Upkeep(database);
    const ended = (queueNos: readonly number[]): void => this.#upkeep.ended(queueNos);
    const settled = (what: unknown): void => this.#settled(what);
    this.#workers = new Workers(database, newEntry, settled);
    this.#outbox = new Outbox(database);
    this.#insertion = new Insertion(database, kinds, newEntry);
    this.#submissions = new Submissions(database, kinds, settled);
    const workerNo = (worker: string): Promise<number> => this.#workers.number(worker);
    const workerNos = (worker: string): Promise<readonly number[]> => this.#workers.numbers(worker);
    this.#attempts = new Attempts({ database, kinds, newEntry, workerNo, workerNos, ended, settled });
    const parts = { database, search: new Search(database), outbox: this.#outbox, newEntry, ended, settled };
    this.#tasks = new Tasks(parts);
    this.#bulk = new Bulk(parts);
    this.#queues = new Queues(database, this.#outbox, this.#upkeep, newEntry, settled);
    this.schedules = new Schedules(database, kinds, this.#outbox, newEntry);
    this.#events = new Events(database);
    this.#watching = new Watching(database, this.#events);
    this.#started = new LazyWrites(database, async (attempts) => {
      await database.query('lazy', STARTED, [textArray([...attempts.keys()]), numberArray([...attempts.values()])]);
    });
    this.#progress = new LazyWrites(database, async (values) => {
      await database.query('lazy', PROGRESS, [textArray([...values.keys()]), textArray([...values.values()])]);
    });
    this.#logs = new Logs(database);
  }

  insert(batches: readonly NewTasks[]): Promise<Unpublished> {
    return this.#insertion.insert(batches);
  }

  submit(tasks: readonly NewRelatedTask[]): Promise<Submission> {
    return this.#submissions.submit(tasks);
  }

  parents(id: string, from: number): Promise<ParentPage> {
    return readParents(this.#database, id, from);
  }

  reread(what: Unpublished): Promise<Republish> {
    return this.#outbox.reread(what);
  }

  published(what: Unpublished, left?: readonly string[]): void {
    this.#outbox.published(what, left);
  }

  begin(worker: string, arrivals: readonly Arrival[]): Promise<Verdict[]> {
    return this.#attempts.begin(worker, arrivals);
  }

  async end(worker: string, ends: readonly End[]): Promise<EndReport> {
    if (this.watched) await this.#progressTold(ends);
    return this.#attempts.end(worker, ends);
  }

  get watched(): boolean {
    return this.#events.watched;
  }

  started(id: string, attempt: number): void {
    if (this.watched) this.#started.add(id, attempt);
  }

  events(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    return this.#events.open(filter, watcher);
  }

  progress(id: string, progress: string): void {
    this.#progress.add(id, progress);
  }

  log(worker: string, id: string, read: () => TaskLog | undefined): void {
    this.#logs.add(worker, id, read);
  }

  async outcomes(ids: readonly string[]): Promise<(Outcome | undefined | 'unknown')[]> {
    await this.#upkeep.settled();
    return this.#tasks.outcomes(ids);
  }

  async getTask(id: string): Promise<TaskInfo> {
    await this.#upkeep.settled();
    return this.#tasks.get(id);
  }

  async listTasks(filter: TaskFilter): Promise<TaskPage> {
    await this.#upkeep.settled();
    return this.#tasks.list(filter);
  }

  cancelTask(id: string): Promise<'cancelled' | 'requested'> {
    return this.#tasks.cancel(id);
  }

  retryTask(id: string): Promise<Republish> {
    return this.#tasks.retry(id);
  }

  async retryTasks(filter: TaskFilter): ReturnType<Store['retryTasks']> {
    await this.#upkeep.settled();
    return this.#bulk.retry(filter);
  }

  async cancelTasks(filter: TaskFilter): ReturnType<Store['cancelTasks']> {
    await this.#upkeep.settled();
    return this.#bulk.cancel(filter);
  }

  async deadGroups({ queue }: { queue?: string | undefined }): Promise<DeadGroups> {
    await this.#upkeep.settled();
    return readDeadGroups(this.#database, queue);
  }

  purgeQueue(queue: string): Promise<number> {
    return this.#queues.purge(queue);
  }

  redrive(queue: string, until?: string): Promise<Redriven> {
    return this.#queues.redrive(queue, until);
  }

  pauseQueue(queue: string): Promise<void> {
    return this.#queues.pause(queue);
  }

  resumeQueue(queue: string): Promise<void> {
    return this.#queues.resume(queue);
  }

  pausedQueues(): Promise<string[]> {
    return this.#queues.paused();
  }

  setRetention(queue: string, retention: Partial<Retention>): Promise<Retention> {
    return this.#queues.setRetention(queue, retention);
  }

  async status(): Promise<StoreStatus> {
    const beats = this.#workers.flushed();
    await Promise.all([this.#upkeep.settled(), settlesWithin(this.#database.clock, BEATS_MS, beats)]);
    return readStatus(this.#database);
  }

  heartbeat(worker: WorkerBeat): void {
    this.#workers.heartbeat(worker);
  }

  left(worker: string): void {
    this.#workers.left(worker).catch((error: unknown) => {
      // Then it is shown until its last beat is stale.
      if (!(error instanceof MillraceError)) throw error;
    });
  }

  reportScaling(report: ScalingReport): Promise<void> {
    return writeReport(this.#database, report);
  }

  watch(watcher: StoreWatcher): Promise<void> {
    return this.#watching.add(watcher);
  }

  async sweep(olderThanMs: number): Promise<Republish> {
    await this.#workers.sweepLost();
    return this.#outbox.sweep(olderThanMs);
  }

  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  /** What was said before a task ended is told before it, unless the database is away for long. */
  async #progressTold(ends: readonly End[]): Promise<void> {
    const ids = ends.flatMap(({ id }) => (this.#progress.has(id) ? [id] : []));
    if (ids.length === 0) return;
    await settlesWithin(this.#database.clock, LIMITS.storeStatementTimeoutMs, this.#progress.passed(ids));
  }

  #settled(what: unknown): void {
    const settled = settledOf(what);
    if (settled === undefined) return;
    const { queues, entries, cancelled } = settled;
    this.#upkeep.ended(queues);
    const count = cancelled.flat().reduce((sum, [, more]) => sum + more, 0);
    if (entries.length > 0 || count > 0) this.#watching.released({ entries }, count);
  }

  async #close(timeoutMs: number): Promise<void> {
    const { clock } = this.#database;
    const startMs = clock.steadyMs();
    const lazy = [this.#outbox, this.#progress, this.#started, this.#logs, this.#workers];
    const written = Promise.all([...lazy.map((writes) => writes.flushed()), this.#events.close()]);
    await settlesWithin(clock, timeoutMs, written);
    const stopped = this.#upkeep.stop();
    const leftMs = Math.max(0, timeoutMs - (clock.steadyMs() - startMs));
    await Promise.all([this.#watching.close(), this.#database.close(leftMs)]);
    await stopped;
  }
}

async function loadDriver(): Promise<Driver> {
  try {
    return (await import('postgres')).default;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new MillraceError('UNSUPPORTED', 'a store in PostgreSQL needs the package postgres: npm install postgres', {
      cause: error,
    });
  }
}

/** How long a status waits for what this process has said of its workers. */
const BEATS_MS = 1000;

const STARTED = `
UPDATE tasks t SET started = a.attempt FROM unnest($1::text[], $2::integer[]) AS a(id, attempt)
WHERE t.id = a.id AND t.attempt = a.attempt AND t.state = 1 AND t.started IS DISTINCT FROM a.attempt`;

const PROGRESS = `
UPDATE tasks t SET progress = a.value, started = t.attempt FROM unnest($1::text[], $2::text[]) AS a(id, value)
WHERE t.id = a.id AND t.state = 1`;
