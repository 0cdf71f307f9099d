import { LIMITS } from '../../limits.ts';
import type { WorkerBeat } from '../store.ts';
import type { Database } from './database.ts';
import { numberArray, textArray } from './encode.ts';
import type { Row } from './lane.ts';
import { LazyWrites } from './lazy-writes.ts';
import { RELATED, SETTLED } from './settling.ts';

/** How often one process looks for workers that are lost. */
const LOOK_MS = 10_000;
/** Tasks in one entry of the outbox. */
const ENTRY_TASKS = 100;

/** Who works, what they say of themselves, and what becomes of tasks whose worker says nothing any more. */
export class Workers {
  readonly #database: Database;
  readonly #numbers = new Map<string, Promise<number>>();
  readonly #beats: LazyWrites<WorkerBeat>;
  readonly #newEntry: () => string;
  readonly #settled: (settled: unknown) => void;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(database: Database, newEntry: () => string, settled: (settled: unknown) => void) {
    this.#database = database;
    this.#settled = settled;
    this.#newEntry = newEntry;
    this.#beats = new LazyWrites(database, (beats) => this.#write(beats));
  }

  /** The worker's number; it has a row from then on, so that what it holds is found when it never says a word. */
  number(id: string): Promise<number> {
    const known = this.#numbers.get(id);
    if (known !== undefined) return known;
    const number = this.#register(id);
    this.#numbers.set(id, number);
    number.catch(() => this.#numbers.delete(id));
    return number;
  }

  heartbeat(beat: WorkerBeat): void {
    this.#beats.add(beat.id, beat);
  }

  /** Its tasks have ended, or are with the message broker again. */
  async left(id: string): Promise<void> {
    this.#beats.delete(id);
    // One that is being written must not come after it.
    await this.#beats.flushed();
    this.#numbers.delete(id);
    await this.#database.query('lazy', 'DELETE FROM workers WHERE id = $1', [id]);
  }

  flushed(): Promise<void> {
    return this.#beats.flushed();
  }

  /**
   * Tasks of workers that have not been heard of for long, and whose messages did not come back, are charged with the
   * attempt (not with the last one: that message may still come) and put into the outbox. May be repeated.
   */
  async sweepLost(): Promise<void> {
    const nowMs = this.#database.clock.steadyMs();
    if (nowMs - this.#lookedMs < LOOK_MS) return;
    this.#lookedMs = nowMs;
    // The statement below looks at every task that is not over: not for nothing.
    if ((await this.#database.query('calm', `${LOST} LIMIT 1`)).length === 0) return;
    const [row] = await this.#database.query('durable', GIVE_BACK, [this.#newEntry()]);
    this.#settled((row as Row).settled);
  }

  async #register(id: string): Promise<number> {
    const [found] = await this.#database.query('durable', REGISTER, [id]);
    if (found !== undefined) return found.no as number;
    return this.#register(id);
  }

  async #write(beats: ReadonlyMap<string, WorkerBeat>): Promise<void> {
    const each = [...beats.values()];
    const numbers = await Promise.all(each.map((beat) => this.number(beat.id)));
    const rows = await this.#database.query('lazy', BEAT, [
      numberArray(numbers),
      textArray(each.map((beat) => JSON.stringify(beat))),
    ]);
    // One that was believed lost gets a new number: what it held under the old one is not its own any more.
    const there = new Set(rows.map((row) => row.no));
    each.forEach((beat, index) => {
      if (!there.has(numbers[index])) this.#numbers.delete(beat.id);
    });
  }
}

const REGISTER = `
WITH made AS (
  INSERT INTO workers (id) SELECT $1::text WHERE NOT EXISTS (SELECT FROM workers WHERE id = $1::text)
  ON CONFLICT (id) DO NOTHING RETURNING no
)
SELECT no FROM made UNION ALL SELECT no FROM workers WHERE id = $1::text`;

const BEAT = `
UPDATE workers w SET beat_at = now(), beat = a.beat FROM unnest($1::integer[], $2::text[]) AS a(no, beat)
WHERE w.no = a.no RETURNING w.no`;

const LOST = `
SELECT no, coalesce(beat::json ->> 'name', id) AS name FROM workers WHERE beat_at < now() - ${LIMITS.storeWorkerLostMs} * interval '1 millisecond'`;

const MESSAGE = 'the worker has not been heard of for long, and the message has not come back';

const GIVE_BACK = `
WITH lost AS (
  ${LOST} ORDER BY no LIMIT 100 FOR UPDATE SKIP LOCKED
), changed AS (
  UPDATE tasks t SET prior = 1, state = CASE WHEN t.cancel_requested THEN 4 ELSE 0 END,
    attempt = least(t.attempt + 1, k.max_attempts), progress = NULL,
    finished_at = CASE WHEN t.cancel_requested THEN now() END,
    failures = t.failures[greatest(1, coalesce(cardinality(t.failures), 0) - ${LIMITS.attemptsKeptMax - 2}):]
      || json_build_object('attempt', t.attempt, 'atMs', round(extract(epoch FROM now()) * 1000),
           'worker', l.name, 'error', json_build_object('name', 'MillraceError', 'message', '${MESSAGE}', 'code', 'WORKER_LOST'))::text
  FROM lost l, queues q, kinds k
  WHERE t.queue_no = q.no AND t.seq >= q.low_seq AND k.no = t.kind_no AND t.state = 1 AND (t.lease >> 32) = l.no
  RETURNING t.id, t.queue_no, t.seq, t.state, octet_length(t.payload) AS bytes, ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, active, cancelled, failed_total, cancelled_total)
  SELECT queue_no, count(*) FILTER (WHERE state = 0), -count(*), count(*) FILTER (WHERE state = 4), count(*),
         count(*) FILTER (WHERE state = 4)
  FROM changed GROUP BY queue_no
), over AS (
  INSERT INTO ended (queue_no, dead, seqs) SELECT queue_no, false, array_agg(seq) FROM changed WHERE state = 4 GROUP BY queue_no
), gone AS (
  DELETE FROM workers w USING lost l WHERE w.no = l.no
), unpublished AS (
  INSERT INTO outbox (entry, ids, bytes, created_at)
  SELECT $1::text || '.' || part, array_agg(id), sum(bytes), now() - interval '1 day'
  FROM (SELECT id, bytes, (row_number() OVER (ORDER BY seq) - 1) / ${ENTRY_TASKS} AS part FROM changed WHERE state = 0) p
  GROUP BY part ON CONFLICT (entry) DO NOTHING
)
SELECT ${SETTLED} AS settled FROM changed WHERE state = 4`;
