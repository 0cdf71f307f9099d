import { LIMITS } from '../../limits.ts';
import type { TaskSpec } from '../contract.ts';
import { QueuesRefused } from '../queues-refused.ts';
import type { Database } from './database.ts';
import { flagArray, numberArray, textArray } from './encode.ts';
import type { Row } from './lane.ts';

/** The numbers under which the database knows a queue, and a queue with name and options. */
export interface Kind {
  readonly no: number;
  readonly queueNo: number;
}

/** What is asked of the database only once for each. */
export class Kinds {
  readonly #database: Database;
  /** One object is used for many tasks. */
  readonly #bySpec = new WeakMap<TaskSpec, Kind>();
  /** Least recently made first. */
  readonly #byKey = new Map<string, Kind>();

  constructor(database: Database) {
    this.#database = database;
  }

  /** In the order of the specs. Rejects QueuesRefused. */
  async of(specs: readonly TaskSpec[]): Promise<Kind[]> {
    const missing = new Map<string, TaskSpec>();
    for (const spec of specs) if (this.#find(spec) === undefined) missing.set(keyOf(spec), spec);
    const found = missing.size > 0 ? await this.#make(missing) : undefined;
    return specs.map((spec) => (this.#find(spec) ?? found?.get(keyOf(spec))) as Kind);
  }

  #find(spec: TaskSpec): Kind | undefined {
    const known = this.#bySpec.get(spec);
    if (known !== undefined) return known;
    const kind = this.#byKey.get(keyOf(spec));
    if (kind !== undefined) this.#bySpec.set(spec, kind);
    return kind;
  }

  /** May be repeated: what is there already is found. */
  async #make(missing: ReadonlyMap<string, TaskSpec>): Promise<Map<string, Kind>> {
    const made = new Map<string, Kind>();
    const specs = [...missing.values()];
    await makeQueues(this.#database, [...new Set(specs.map((spec) => spec.queue))]);
    const rows = await this.#database.query('durable', MAKE_KINDS, [
      textArray(specs.map((spec) => spec.queue)),
      textArray(specs.map((spec) => spec.name)),
      numberArray(specs.map((spec) => spec.priority)),
      numberArray(specs.map((spec) => spec.maxAttempts)),
      numberArray(specs.map((spec) => spec.timeoutMs)),
      textArray(specs.map((spec) => spec.backoff.type)),
      numberArray(specs.map((spec) => spec.backoff.delayMs)),
      numberArray(specs.map((spec) => spec.backoff.maxDelayMs)),
      flagArray(specs.map((spec) => spec.backoff.jitter)),
    ]);
    for (const row of rows) {
      const spec = specs[Number(row.n) - 1] as TaskSpec;
      const kind = { no: row.no as number, queueNo: row.queue_no as number };
      made.set(keyOf(spec), kind);
      this.#bySpec.set(spec, kind);
      this.#byKey.set(keyOf(spec), kind);
    }
    for (const key of this.#byKey.keys()) {
      if (this.#byKey.size <= LIMITS.storeKindsCached) break;
      this.#byKey.delete(key);
    }
    return made;
  }
}

/** Makes those that are not there yet. Rejects QueuesRefused, and then has made none. */
export async function makeQueues(database: Database, names: readonly string[]): Promise<void> {
  const [counted] = await database.query('durable', COUNT_QUEUES, [textArray(names)]);
  const { missing, there } = counted as { missing: string[]; there: number };
  if (missing.length === 0) return;
  const refused = missing.slice(Math.max(0, LIMITS.queuesMax - there));
  if (refused.length > 0) throw new QueuesRefused(refused);
  await database.query('durable', MAKE_QUEUES, [textArray(names)]);
}

export function specOf(row: Row): TaskSpec {
  return {
    queue: row.queue as string,
    name: row.name as string,
    priority: row.priority as number,
    maxAttempts: row.max_attempts as number,
    timeoutMs: Number(row.timeout_ms),
    backoff: {
      type: row.backoff_type as 'fixed' | 'exponential',
      delayMs: Number(row.backoff_delay_ms),
      maxDelayMs: Number(row.backoff_max_delay_ms),
      jitter: row.backoff_jitter as boolean,
    },
  };
}

/** What `specOf` takes, from `kinds k` and `queues q`. */
export const SPEC_COLUMNS = `q.name AS queue, k.name, k.priority, k.max_attempts, k.timeout_ms,
  k.backoff_type, k.backoff_delay_ms, k.backoff_max_delay_ms, k.backoff_jitter`;

function keyOf(spec: TaskSpec): string {
  const { type, delayMs, maxDelayMs, jitter } = spec.backoff;
  const { queue, name, priority, maxAttempts, timeoutMs } = spec;
  return JSON.stringify([queue, name, priority, maxAttempts, timeoutMs, type, delayMs, maxDelayMs, jitter]);
}

const COUNT_QUEUES = `
SELECT (SELECT count(*) FROM queues)::integer AS there,
       (SELECT coalesce(json_agg(a.name ORDER BY a.n), '[]')
        FROM unnest($1::text[]) WITH ORDINALITY AS a(name, n)
        WHERE NOT EXISTS (SELECT FROM queues q WHERE q.name = a.name)) AS missing`;

// A conflict burns a number; the one before it is asked first, so that this is rare.
const MAKE_QUEUES = 'INSERT INTO queues (name) SELECT DISTINCT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING';

const KIND = `queue_no, name, priority, max_attempts, timeout_ms,
  backoff_type, backoff_delay_ms, backoff_max_delay_ms, backoff_jitter`;

// What another process has just made is seen by no snapshot that is older: an update that changes nothing returns it.
const MAKE_KINDS = `
WITH wanted AS MATERIALIZED (
  SELECT a.n, q.no AS queue_no, a.name, a.priority, a.max_attempts, a.timeout_ms,
         a.backoff_type, a.backoff_delay_ms, a.backoff_max_delay_ms, a.backoff_jitter
  FROM unnest($1::text[], $2::text[], $3::smallint[], $4::integer[], $5::bigint[],
              $6::text[], $7::bigint[], $8::bigint[], $9::boolean[]) WITH ORDINALITY
         AS a(queue, name, priority, max_attempts, timeout_ms,
              backoff_type, backoff_delay_ms, backoff_max_delay_ms, backoff_jitter, n)
  JOIN queues q ON q.name = a.queue
), made AS (
  INSERT INTO kinds (${KIND}) SELECT ${KIND} FROM wanted ORDER BY ${KIND}
  ON CONFLICT (${KIND}) DO UPDATE SET name = excluded.name
  RETURNING no, ${KIND}
)
SELECT w.n, m.no, m.queue_no FROM wanted w JOIN made m USING (${KIND})`;
