import { LIMITS } from '../../limits.ts';
import type { WorkerBeat } from '../store.ts';
import type { Database } from './database.ts';
import { numberArray, textArray } from './encode.ts';
import type { Row } from './lane.ts';
import { LazyWrites } from './lazy-writes.ts';
import { RELATED, SETTLED } from './settling.ts';

/** How often one process looks for workers that are lost. */
const LOOK_MS = 10_000;
/** How long it finds one lost before it believes so: longer than a live one needs to notice that its connection is dead. */
const SURE_MS = 2 * LIMITS.storeStatementTimeoutMs;
/** Tasks in one entry of the outbox. */
const ENTRY_TASKS = 100;
/** Numbers that a worker has had and that still are its own; it gets a new one after ten minutes of silence. */
const NUMBERS_MAX = 10;

interface Suspect {
  readonly beatAt: string;
  /** It was found so first, by steady time. */
  readonly sinceMs: number;
}

/**
 * Who works, what they say of themselves, and what becomes of tasks whose worker says nothing any more.
 *
 *   registered ──beats──▶ alive ──no beat for ten minutes──▶ suspect ──nor for one minute more──▶ given back
 *                           ▲                                   │
 *                           └──────────────beats────────────────┘
 *
 * When the database comes back after an hour nobody has beaten for an hour. So the minute is one in which it was there, and
 * whoever lives has that time to beat before anything is taken from him.
 */
export class Workers {
  readonly #database: Database;
  readonly #numbers = new Map<string, Promise<number>>();
  /** Numbers that workers have had before, the latest first. */
  readonly #former = new Map<string, readonly number[]>();
  readonly #beats: LazyWrites<WorkerBeat>;
  readonly #newEntry: () => string;
  readonly #settled: (settled: unknown) => void;
  #lookedMs = Number.NEGATIVE_INFINITY;
  /** By number: those that the last look found lost. */
  #suspects: ReadonlyMap<number, Suspect> = new Map();
  /** The database's, when they were found. */
  #outages = 0;

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

  /**
   * All that the worker has had, the present one first. It was believed lost under the others, and what could not be given
   * back then is still its own.
   */
  async numbers(id: string): Promise<readonly number[]> {
    const present = await this.number(id);
    return [present, ...(this.#former.get(id) ?? [])];
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
    this.#former.delete(id);
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
    const lost = await this.#surelyLost();
    // The statement below looks at every task that is not over: not for nothing.
    if (lost.length === 0) return;
    const [row] = await this.#database.query('durable', GIVE_BACK, [
      this.#newEntry(),
      numberArray(lost.map(([no]) => no)),
      textArray(lost.map(([, { beatAt }]) => beatAt)),
    ]);
    this.#settled((row as Row).settled);
  }

  async #surelyLost(): Promise<(readonly [no: number, suspect: Suspect])[]> {
    const rows = await this.#database.query('calm', LOST);
    const nowMs = this.#database.clock.steadyMs();
    const { outages } = this.#database;
    const before = outages === this.#outages ? this.#suspects : new Map<number, Suspect>();
    const found = rows.map((row) => {
      const [no, beatAt] = [row.no as number, row.beat_at as string];
      const known = before.get(no);
      return [no, known?.beatAt === beatAt ? known : { beatAt, sinceMs: nowMs }] as const;
    });
    this.#suspects = new Map(found);
    this.#outages = outages;
    return found.filter(([, { sinceMs }]) => nowMs - sinceMs >= SURE_MS);
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
    // One that was believed lost gets a new number: what it held under the old one was given to others.
    const there = new Set(rows.map((row) => row.no));
    each.forEach(({ id }, index) => {
      const no = numbers[index] as number;
      if (there.has(no) || !this.#numbers.delete(id)) return;
      // It may have begun tasks since, and ends them as usual.
      this.#former.set(id, [no, ...(this.#former.get(id) ?? [])].slice(0, NUMBERS_MAX - 1));
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
SELECT no, beat_at::text AS beat_at FROM workers
WHERE beat_at < now() - ${LIMITS.storeWorkerLostMs} * interval '1 millisecond' ORDER BY no LIMIT 100`;

const MESSAGE = 'the worker has not been heard of for long, and the message has not come back';

const GIVE_BACK = `
WITH lost AS (
  SELECT w.no, coalesce(w.beat::json ->> 'name', w.id) AS name
  FROM workers w JOIN unnest($2::integer[], $3::text[]) AS a(no, beat_at) ON w.no = a.no
  WHERE w.beat_at = a.beat_at::timestamptz ORDER BY w.no FOR UPDATE OF w SKIP LOCKED
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
