import postgres, { type Sql } from 'postgres';
import type { TaskSpec } from '../../src/broker/contract.ts';
import { PostgresStore } from '../../src/broker/postgres/postgres-store.ts';
import type { Arrival, NewTasks, WorkerBeat } from '../../src/broker/store.ts';
import { type Clock, SystemClock } from '../../src/io/clock.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { LIMITS } from '../../src/limits.ts';
import { TcpProxy } from '../conformance/tcp-proxy.ts';
import { type Portion, sharedPostgres } from '../support/services.ts';

/** The run's PostgreSQL; undefined where there is none, and the tests are skipped. */
export const shared = await sharedPostgres();

export interface StoreSettings {
  readonly url?: string;
  readonly schema?: string;
  readonly connectTimeoutMs?: number;
  /** Off unless asked for: a test says itself when something is tidied. */
  readonly upkeep?: boolean;
  readonly clock?: Clock;
}

/** Intervals pass as fast as the test says. */
export class HurriedClock extends SystemClock {
  aheadMs = 0;
  /** For what waits until a time is over: passes whenever somebody looks. */
  eachLookMs = 0;

  override steadyMs(): number {
    this.aheadMs += this.eachLookMs;
    return super.steadyMs() + this.aheadMs;
  }
}

/** A database of its own, stores on it as several processes would have them, and a look at the tables. */
export class Scene {
  readonly url: string;
  readonly sql: Sql;
  readonly #portion: Portion;
  readonly #stores: PostgresStore[] = [];
  #ids = 0;

  /** Has our tables, unless `empty` says otherwise. */
  static async open({ empty = false }: { empty?: boolean } = {}): Promise<Scene> {
    if (shared === undefined) throw new Error('there is no PostgreSQL: the test was to be skipped');
    return new Scene(await (empty ? shared.emptyDatabase() : shared.database()));
  }

  private constructor(portion: Portion) {
    this.#portion = portion;
    this.url = portion.url;
    this.sql = postgres(portion.url, { max: 2, onnotice: () => {}, connection: { search_path: 'millrace' } });
  }

  async store(settings: StoreSettings = {}): Promise<PostgresStore> {
    const store = await openStore({ url: this.url, ...settings });
    this.#stores.push(store);
    return store;
  }

  /** Ids in the order in which they are asked for. */
  ids(count: number): string[] {
    return Array.from({ length: count }, () => `t-${String(this.#ids++).padStart(6, '0')}`);
  }

  async close(): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.close(2000)));
    await this.sql.end({ timeout: 1 });
    await this.#portion.drop();
  }
}

export function openStore({ url, ...settings }: StoreSettings & { url: string }): Promise<PostgresStore> {
  return PostgresStore.connect({
    url,
    clock: settings.clock ?? new SystemClock(),
    random: new SystemRandom(),
    connectTimeoutMs: settings.connectTimeoutMs ?? 10_000,
    schema: settings.schema,
    upkeep: settings.upkeep ?? false,
  });
}

/** For a test: a scene that is closed after it, whatever happens. */
export function within(play: (scene: Scene) => Promise<void>, about?: { empty?: boolean }): () => Promise<void> {
  return async () => {
    const scene = await Scene.open(about);
    try {
      await play(scene);
    } finally {
      await scene.close();
    }
  };
}

export function spec(change: Partial<TaskSpec> = {}): TaskSpec {
  return {
    queue: 'default',
    name: 'work',
    priority: 4,
    maxAttempts: 3,
    timeoutMs: 60_000,
    backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
    ...change,
  };
}

export function tasks(ids: readonly string[], change: Partial<NewTasks> = {}): NewTasks {
  return {
    spec: spec(),
    ids,
    payloads: ids.map((id) => JSON.stringify(id)),
    enqueuedAtMs: Date.now(),
    runAtMs: undefined,
    ...change,
  };
}

export function arrival(id: string, change: Partial<Arrival> = {}): Arrival {
  return {
    id,
    attempt: 1,
    redelivered: false,
    spec: spec(),
    payload: Buffer.from(JSON.stringify(id)),
    enqueuedAtMs: Date.now(),
    ...change,
  };
}

export const OOPS = { name: 'Error', message: 'oops', code: 'HANDLER_FAILED' };

export function beat(id: string, change: Partial<WorkerBeat> = {}): WorkerBeat {
  const none = { p50: 0, p95: 0, p99: 0, count: 0 };
  return {
    id,
    name: `the worker ${id}`,
    host: 'here',
    pid: 1,
    queues: ['default'],
    concurrency: 2,
    prefetch: 4,
    held: 3,
    running: 2,
    utilisation: 0.5,
    completed: 7,
    failed: 1,
    connectedAtMs: 1_700_000_000_000,
    version: '1.2.3',
    started: {},
    latencyMs: { start: none, total: none },
    ...change,
  };
}

/** As long as a worker that is not heard of is found lost before that is believed. */
export const SURE_MS = 2 * LIMITS.storeStatementTimeoutMs;

/** As if no worker had been heard of for as long as it takes to be found lost. */
export async function fallSilent({ sql }: Scene): Promise<void> {
  await sql`UPDATE workers SET beat_at = beat_at - ${LIMITS.storeWorkerLostMs + 1000} * interval '1 ms'`;
}

/** A way to the database that can be cut. */
export async function proxyTo(scene: Scene): Promise<{ proxy: TcpProxy; url: string }> {
  const url = new URL(scene.url);
  const proxy = await TcpProxy.start(Number(url.port || 5432));
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}
