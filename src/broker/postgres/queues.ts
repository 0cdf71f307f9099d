import { invariant, MillraceError } from '../../errors.ts';
import { DEFAULTS, LIMITS } from '../../limits.ts';
import type { Retention } from '../contract.ts';
import type { Redriven } from '../store.ts';
import type { Database } from './database.ts';
import { makeQueues } from './kinds.ts';
import type { Row } from './lane.ts';
import type { Outbox } from './outbox.ts';
import { cancelledIn, RELATED, SETTLED } from './settling.ts';
import type { Upkeep } from './upkeep.ts';

/** Tasks that one statement of a purge cancels. */
const PURGE_TASKS = 5000;

/** What is done to whole queues. */
export class Queues {
  readonly #database: Database;
  readonly #outbox: Outbox;
  readonly #upkeep: Upkeep;
  readonly #newEntry: () => string;
  readonly #settled: (settled: unknown) => void;

  constructor(
    database: Database,
    outbox: Outbox,
    upkeep: Upkeep,
    newEntry: () => string,
    settled: (settled: unknown) => void,
  ) {
    this.#database = database;
    this.#outbox = outbox;
    this.#upkeep = upkeep;
    this.#newEntry = newEntry;
    this.#settled = settled;
  }

  async pause(queue: string): Promise<void> {
    await makeQueues(this.#database, [queue]);
    await this.#setPaused(queue, true);
  }

  /** Rejects NOT_FOUND. */
  async resume(queue: string): Promise<void> {
    await this.#known(queue);
    await this.#setPaused(queue, false);
  }

  async paused(): Promise<string[]> {
    const rows = await this.#database.query('calm', PAUSED);
    return rows.map((row) => row.name as string);
  }

  /**
   * In portions, each durable by itself; what is enqueued meanwhile stays. When the outcome of a portion is unknown its
   * tasks may be missing from the count, never from the purge. Rejects NOT_FOUND.
   */
  async purge(queue: string): Promise<number> {
    const queueNo = await this.#known(queue);
    const [{ last }] = (await this.#database.query('durable', LAST, [queueNo])) as [{ last: string | null }];
    let count = 0;
    for (let after = '0'; last !== null; ) {
      const [row] = (await this.#database.query('durable', PURGE, [queueNo, after, last])) as [
        { count: number; to: string | null; settled: unknown },
      ];
      if (row.to === null) break;
      after = row.to;
      // Those that depended on what was purged, and waited in the same queue.
      count += row.count + cancelledIn(row.settled, queueNo);
      this.#upkeep.ended([queueNo]);
      this.#settled(row.settled);
    }
    return count;
  }

  /** A portion whose outcome is unknown is in the outbox, and published by a sweep. Rejects NOT_FOUND. */
  async redrive(queue: string, given?: string): Promise<Redriven> {
    const queueNo = await this.#known(queue);
    const until = given ?? (await this.#lastDead(queueNo));
    for (;;) {
      const entry = this.#newEntry();
      const [row] = await this.#database.query('durable', REDRIVE, [queueNo, entry, until]);
      invariant(row !== undefined, 'a count always has a row');
      if (row.looked === 0) return { entries: [], tasks: [], until };
      // All of this portion were retried, or forgotten, one by one.
      if (row.count === 0) continue;
      return { entries: [entry], tasks: await this.#outbox.read(row.ids as string[]), until };
    }
  }

  async #lastDead(queueNo: number): Promise<string> {
    await this.#database.query('durable', HELD_TOO, [queueNo]);
    const [row] = await this.#database.query('durable', LAST_DEAD, [queueNo]);
    return (row as Row).last as string;
  }

  async setRetention(queue: string, change: Partial<Retention>): Promise<Retention> {
    await makeQueues(this.#database, [queue]);
    const { completedCountMax, completedAgeMs, deadCountMax, deadAgeMs } = change;
    const [row] = await this.#database.query('durable', SET_RETENTION, [
      queue,
      completedCountMax ?? null,
      completedAgeMs ?? null,
      deadCountMax ?? null,
      deadAgeMs ?? null,
    ]);
    invariant(row !== undefined, 'the queue was made before');
    await this.#upkeep.retentionChanged(row.no as number);
    return retentionOf(row);
  }

  async #setPaused(queue: string, paused: boolean): Promise<void> {
    await this.#database.query('durable', SET_PAUSED, [queue, paused, this.#database.settings.schema]);
  }

  async #known(queue: string): Promise<number> {
    const [row] = await this.#database.query('durable', 'SELECT no FROM queues WHERE name = $1', [queue]);
    if (row !== undefined) return row.no as number;
    // Which there are is not for everybody who may name one.
    const message = `queue ${JSON.stringify(queue)} has never been used: client.status() lists those that have`;
    throw new MillraceError('NOT_FOUND', message);
  }
}

/** What is not set is the default of whoever reads it. */
export function retentionOf(row: Row): Retention {
  const { retention } = DEFAULTS;
  return {
    completedCountMax: (row.completed_count_max as number | null) ?? retention.completedCountMax,
    completedAgeMs: Number(row.completed_age_ms ?? retention.completedAgeMs),
    deadCountMax: (row.dead_count_max as number | null) ?? retention.deadCountMax,
    deadAgeMs: Number(row.dead_age_ms ?? retention.deadAgeMs),
  };
}

export const PAUSED = 'SELECT name FROM queues WHERE paused ORDER BY name';

const SET_PAUSED = `
WITH changed AS (UPDATE queues SET paused = $2 WHERE name = $1 AND paused <> $2 RETURNING no)
SELECT pg_notify($3::text, 'paused')::text FROM changed`;

const LAST = 'SELECT max(seq) AS last FROM tasks WHERE queue_no = $1';

// `run_at` stays: it says until when its message may come.
const PURGE = `
WITH candidates AS (
  SELECT seq FROM tasks WHERE queue_no = $1 AND seq > $2::bigint AND seq <= $3::bigint AND state IN (0, 5)
  ORDER BY seq LIMIT ${PURGE_TASKS} FOR UPDATE
), changed AS (
  UPDATE tasks t SET prior = t.state, state = 4, finished_at = now() FROM candidates c
  WHERE t.queue_no = $1 AND t.seq = c.seq
  RETURNING t.seq, t.prior, ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, blocked, cancelled, cancelled_total)
  SELECT $1, -count(*) FILTER (WHERE prior = 0), -count(*) FILTER (WHERE prior = 5), count(*), count(*)
  FROM changed HAVING count(*) > 0
), over AS (
  INSERT INTO ended (queue_no, dead, seqs) SELECT $1, false, array_agg(seq) FROM changed HAVING count(*) > 0
)
SELECT count(*)::integer AS count, max(seq)::text AS to, ${SETTLED} AS settled FROM changed`;

// What is not to be kept for its own sake any more, and for that of others is.
const HELD_TOO = `
WITH back AS (DELETE FROM held WHERE queue_no = $1 AND dead RETURNING id, at)
INSERT INTO ended (queue_no, dead, at, seqs)
SELECT $1, true, b.at, array_agg(t.seq ORDER BY t.seq) FROM back b JOIN tasks t ON t.id = b.id AND t.finished_at = b.at
GROUP BY b.at`;

const LAST_DEAD = 'SELECT coalesce(max(no), 0)::text AS last FROM ended WHERE queue_no = $1 AND dead';

// The oldest that died together: as many of them as may be published at once. The rest stays.
const REDRIVE = `
WITH oldest AS (
  SELECT no, at, seqs FROM ended WHERE queue_no = $1 AND dead AND no <= $3::bigint ORDER BY no LIMIT 1 FOR UPDATE
), sized AS (
  SELECT s.n, s.seq, sum(octet_length(t.payload)) OVER (ORDER BY s.n) AS bytes
  FROM oldest o, unnest(o.seqs[1:${LIMITS.storePortionTasks}]) WITH ORDINALITY AS s(seq, n)
  LEFT JOIN tasks t ON t.queue_no = $1 AND t.seq = s.seq AND t.state = 3
), chosen AS (
  SELECT n, seq FROM sized WHERE n = 1 OR bytes IS NULL OR bytes <= ${LIMITS.storePortionBytes}
), looked AS (
  SELECT count(*)::integer AS count FROM chosen
), gone AS (
  DELETE FROM ended e USING oldest o, looked l
  WHERE e.queue_no = $1 AND e.dead AND e.no = o.no AND cardinality(o.seqs) <= l.count
), cut AS (
  UPDATE ended e SET seqs = o.seqs[l.count + 1:] FROM oldest o, looked l
  WHERE e.queue_no = $1 AND e.dead AND e.no = o.no AND cardinality(o.seqs) > l.count
), changed AS (
  UPDATE tasks t SET prior = 3, state = 0, attempt = 1, run_at = NULL, finished_at = NULL FROM chosen c, oldest o
  WHERE t.queue_no = $1 AND t.seq = c.seq AND t.state = 3 AND t.finished_at = o.at
  RETURNING t.id, t.seq, octet_length(t.payload) AS bytes
), counted AS (
  INSERT INTO deltas (queue_no, waiting, dead) SELECT $1, count(*), -count(*) FROM changed HAVING count(*) > 0
), lowered AS (
  UPDATE queues q SET low_seq = c.seq FROM (SELECT min(seq) AS seq FROM changed) c WHERE q.no = $1 AND q.low_seq > c.seq
), unpublished AS (
  INSERT INTO outbox (entry, ids, bytes, claimed_until)
  SELECT $2::text, array_agg(id ORDER BY seq), sum(bytes), now() + ${LIMITS.storeClaimMs} * interval '1 millisecond'
  FROM changed HAVING count(*) > 0
)
SELECT (SELECT count FROM looked) AS looked, count(*)::integer AS count, array_to_json(array_agg(id ORDER BY seq)) AS ids
FROM changed`;

const SET_RETENTION = `
UPDATE queues SET
  completed_count_max = coalesce($2::integer, completed_count_max), completed_age_ms = coalesce($3::bigint, completed_age_ms),
  dead_count_max = coalesce($4::integer, dead_count_max), dead_age_ms = coalesce($5::bigint, dead_age_ms)
WHERE name = $1
RETURNING no, completed_count_max, completed_age_ms, dead_count_max, dead_age_ms`;
