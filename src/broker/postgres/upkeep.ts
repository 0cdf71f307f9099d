import { MillraceError } from '../../errors.ts';
import { DEFAULTS, LIMITS } from '../../limits.ts';
import type { Retention } from '../contract.ts';
import type { Database } from './database.ts';
import { numberArray, textArray } from './encode.ts';
import type { Row } from './lane.ts';
import { retentionOf } from './queues.ts';

/** Of the advisory lock of upkeep; the second number is the schema's. */
const LOCK = 0x6d_69_6c_6d;
/** A queue that keeps no more than this is trimmed by whoever ends its tasks, at once: then the count is exact. */
const TIGHT_COUNT = 1000;
/** Between two rounds of what has time. Longer than any statement runs: see `#raiseLow`. */
const SLOW_MS = 60_000;
/** Portions of held tasks that one slow round looks at again, and of tombstones that any round forgets. */
const LOOKS_MAX = 10;
/** Counts are added up when they are older: what is younger tells the throughput. */
const ROLL_UP_AFTER_MS = 3 * LIMITS.storeThroughputMs;

/**
 * Forgets what retention does not keep, adds up counts, and clears what nobody needs. One process does so at a time,
 * whoever gets the lock first, a bounded portion each second; where it cannot keep pace it begins again at once.
 */
export class Upkeep {
  readonly #database: Database;
  readonly #stopped = new AbortController();
  readonly #policies = new Map<number, Retention>();
  /** Queues that are trimmed by this process just now. */
  readonly #trims = new Map<number, Promise<void>>();
  readonly #trimAgain = new Set<number>();
  /** Where each queue's first task that is not over stood a slow round ago. */
  #marks: Row[] = [];
  /** The last of the held tasks that were marked to be looked at again; '': the next round begins with the first. */
  #lookedAgain = '';
  #slowMs: number;
  /** There are tombstones to be forgotten, perhaps. */
  #areTombstonesDue = false;
  #running: Promise<void> | undefined;

  constructor(database: Database) {
    this.#database = database;
    this.#slowMs = database.clock.steadyMs();
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  /** Tasks of these queues have ended here. */
  ended(queueNos: readonly number[]): void {
    for (const queueNo of queueNos) {
      const policy = this.#policies.get(queueNo);
      if (policy !== undefined && isTight(policy)) this.#trimSoon(queueNo);
    }
  }

  async retentionChanged(queueNo: number): Promise<void> {
    await this.#learn();
    this.#trimSoon(queueNo);
    await this.settled();
  }

  /**
   * When what this process has ended is trimmed: call before reading, so that nobody sees what should be gone. What ends
   * meanwhile is not waited for: there may be no end of that.
   */
  async settled(): Promise<void> {
    // One that is under way may have begun before the last end here, and then the next of that queue follows at once.
    for (let trims = 0; trims < 2 && this.#trims.size > 0; trims++) await Promise.all(this.#trims.values());
  }

  #trimSoon(queueNo: number): void {
    if (this.#trims.has(queueNo)) {
      this.#trimAgain.add(queueNo);
      return;
    }
    const trim = this.#trimTight(queueNo).finally(() => {
      this.#trims.delete(queueNo);
      if (this.#trimAgain.delete(queueNo)) this.#trimSoon(queueNo);
    });
    this.#trims.set(queueNo, trim);
  }

  async #trimTight(queueNo: number): Promise<void> {
    try {
      await this.#trim(queueNo, LIMITS.storeTrimStatementsMax);
    } catch (error) {
      // The next round comes to the same queue.
      if (!(error instanceof MillraceError)) throw error;
    }
  }

  async #run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      let behind = false;
      try {
        behind = await this.#round();
      } catch (error) {
        // The database is away, or refuses: calls say so to those who can do something about it. The next round tries again.
        if (!(error instanceof MillraceError)) throw error;
      }
      await this.#pause(behind ? 0 : LIMITS.storeUpkeepMs);
    }
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#stopped;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = this.#database.clock.setTimer(ms * (0.75 + this.#database.random.float() / 2), end);
      timer.unref();
      function end(): void {
        timer.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      }
      signal.addEventListener('abort', end);
    });
  }

  /** Whether there is more to do. */
  async #round(): Promise<boolean> {
    await this.#learn();
    // Whoever holds it does it for all. The parts are safe without it: that it is gone with the connection does no harm.
    const lock = [LOCK, this.#database.settings.schema];
    const [row] = await this.#database.query('calm', 'SELECT pg_try_advisory_lock($1, hashtext($2)) AS mine', lock);
    if ((row as Row).mine !== true) return false;
    try {
      return await this.#tidy();
    } finally {
      await this.#database.query('calm', 'SELECT pg_advisory_unlock_all()');
    }
  }

  async #tidy(): Promise<boolean> {
    await this.#database.query('lazy', ROLL_UP, [ROLL_UP_AFTER_MS]);
    const nowMs = this.#database.clock.steadyMs();
    if (nowMs - this.#slowMs >= SLOW_MS) {
      this.#slowMs = nowMs;
      this.#areTombstonesDue = true;
      await this.#database.query('lazy', FORGET_CANCELS);
      await this.#database.query('lazy', 'SELECT forget_watches()::text');
      await this.#lookAgain();
      await this.#raiseLow();
    }
    await this.#forgetTombstones();
    let behind = this.#areTombstonesDue;
    const { completedCountMax, completedAgeMs, deadCountMax, deadAgeMs } = DEFAULTS.retention;
    const defaults = [completedCountMax, completedAgeMs, deadCountMax, deadAgeMs];
    for (const { queue_no: queueNo } of await this.#database.query('lazy', DUE, defaults)) {
      if (this.#stopped.signal.aborted) return false;
      if (!(await this.#trim(queueNo as number, LIMITS.storeTrimStatementsMax))) behind = true;
    }
    return behind;
  }

  /** In portions; what is left of very many is due at once, after what else there is to do. */
  async #forgetTombstones(): Promise<void> {
    for (let statements = 0; this.#areTombstonesDue && statements < LOOKS_MAX; statements++) {
      const [row] = await this.#database.query('lazy', FORGET_TOMBSTONES);
      this.#areTombstonesDue = (row as Row).count === LIMITS.storeTrimTasks;
    }
  }

  /** In portions, and where there are very many held tasks the next slow round goes on. */
  async #lookAgain(): Promise<void> {
    for (let statements = 0; statements < LOOKS_MAX; statements++) {
      const [row] = await this.#database.query('lazy', LOOK_AGAIN, [this.#lookedAgain]);
      const { last, count } = row as { last: string | null; count: number };
      this.#lookedAgain = count < LIMITS.storeTrimTasks ? '' : (last as string);
      if (this.#lookedAgain === '') return;
    }
  }

  /**
   * Below its mark a queue has no task that is not over, so that nobody looks there. A transaction that is under way may
   * still bring one with a smaller `seq` than those that are seen: so a mark holds from the next slow round on, when all
   * that were under way are over, and only if nothing below it has come to light.
   */
  async #raiseLow(): Promise<void> {
    if (this.#marks.length > 0) {
      await this.#database.query('lazy', RAISE_LOW, [
        numberArray(this.#marks.map((mark) => mark.no as number)),
        textArray(this.#marks.map((mark) => mark.low_seq as string)),
        textArray(this.#marks.map((mark) => mark.seq as string)),
      ]);
    }
    this.#marks = await this.#database.query('lazy', MARKS);
  }

  async #learn(): Promise<void> {
    const rows = await this.#database.query('lazy', POLICIES);
    for (const row of rows) this.#policies.set(row.no as number, retentionOf(row));
  }

  /** True when it came to the end of what is to be forgotten. May be repeated. */
  async #trim(queueNo: number, statementsMax: number): Promise<boolean> {
    const policy = this.#policies.get(queueNo);
    if (policy === undefined) return true;
    let statements = 0;
    const [held] = await this.#database.query('lazy', HELD, [queueNo]);
    for (const dead of [false, true]) {
      const ageMs = dead ? policy.deadAgeMs : policy.completedAgeMs;
      const countMax = dead ? policy.deadCountMax : policy.completedCountMax;
      let heldCount = (held as Row)[dead ? 'dead' : 'over'] as number;
      for (let more = true; more; ) {
        if (++statements > statementsMax) return false;
        const [row] = await this.#database.query('lazy', TRIM, [queueNo, dead, ageMs, countMax, heldCount]);
        const trimmed = row as { looked: number; held: number };
        heldCount += trimmed.held;
        more = trimmed.looked > 0;
      }
    }
    for (let more = true; more; ) {
      if (++statements > statementsMax) return false;
      const [row] = await this.#database.query('lazy', FORGET_HELD, [queueNo]);
      more = ((row as Row).looked as number) > 0;
    }
    return true;
  }
}

function isTight({ completedCountMax, deadCountMax }: Retention): boolean {
  return completedCountMax < TIGHT_COUNT || deadCountMax < TIGHT_COUNT;
}

const POLICIES = 'SELECT no, completed_count_max, completed_age_ms, dead_count_max, dead_age_ms FROM queues';

const COUNTS = [
  ...['waiting', 'blocked', 'active', 'completed', 'dead', 'cancelled'],
  ...['enqueued_total', 'completed_total', 'failed_total', 'dead_total', 'cancelled_total'],
];

const ROLL_UP = `
WITH old AS (
  DELETE FROM deltas WHERE at < now() - $1::float8 * interval '1 millisecond' RETURNING *
), sums AS (
  SELECT queue_no, ${COUNTS.map((name) => `sum(${name}) AS ${name}`).join(', ')} FROM old GROUP BY queue_no
)
INSERT INTO totals AS t (queue_no, ${COUNTS.join(', ')}) SELECT queue_no, ${COUNTS.join(', ')} FROM sums
ON CONFLICT (queue_no) DO UPDATE SET ${COUNTS.map((name) => `${name} = t.${name} + excluded.${name}`).join(', ')}`;

/** Of each queue, as `c`: what is rolled up and what is not. */
export const COUNTED = `(
  SELECT queue_no, ${COUNTS.map((name) => `sum(${name})::float8 AS ${name}`).join(', ')} FROM (
    SELECT queue_no, ${COUNTS.join(', ')} FROM totals UNION ALL SELECT queue_no, ${COUNTS.join(', ')} FROM deltas
  ) parts GROUP BY queue_no) AS c`;

/** Queues whose oldest ended task is too old, or one too many. */
const DUE = `
SELECT q.no AS queue_no FROM queues q JOIN ${COUNTED} ON c.queue_no = q.no
LEFT JOIN LATERAL (SELECT at FROM ended WHERE queue_no = q.no AND NOT dead ORDER BY no LIMIT 1) completed ON true
LEFT JOIN LATERAL (SELECT at FROM ended WHERE queue_no = q.no AND dead ORDER BY no LIMIT 1) dead ON true
WHERE (completed.at IS NOT NULL AND c.completed + c.cancelled > coalesce(q.completed_count_max, $1::integer))
   OR completed.at < now() - coalesce(q.completed_age_ms, $2::bigint) * interval '1 millisecond'
   OR (dead.at IS NOT NULL AND c.dead > coalesce(q.dead_count_max, $3::integer))
   OR dead.at < now() - coalesce(q.dead_age_ms, $4::bigint) * interval '1 millisecond'
   OR EXISTS (SELECT FROM held h WHERE h.queue_no = q.no AND h.due)
ORDER BY q.no`;

const FORGET_TOMBSTONES = `
WITH gone AS (
  DELETE FROM tombstones
  WHERE id IN (SELECT id FROM tombstones WHERE until < now() ORDER BY until LIMIT ${LIMITS.storeTrimTasks}) RETURNING id
)
SELECT count(*)::integer AS count FROM gone`;

const FORGET_HELD = 'SELECT forget_held($1::integer) AS looked';

// Keys that were held for a time, and children that ended just when their parents were being looked at.
const LOOK_AGAIN = `
WITH page AS (
  SELECT id FROM held WHERE NOT due AND id > $1 ORDER BY id LIMIT ${LIMITS.storeTrimTasks} FOR UPDATE SKIP LOCKED
), marked AS (
  UPDATE held h SET due = true FROM page p WHERE h.id = p.id
)
SELECT max(id) AS last, count(*)::integer AS count FROM page`;

const HELD = `
SELECT (count(*) FILTER (WHERE dead))::integer AS dead, (count(*) FILTER (WHERE NOT dead))::integer AS over
FROM held WHERE queue_no = $1`;

const FORGET_CANCELS = `
DELETE FROM cancels c WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = c.id AND t.state = 1)`;

const MARKS = `
SELECT q.no, q.low_seq::text AS low_seq, coalesce(
  (SELECT seq FROM tasks WHERE queue_no = q.no AND seq >= q.low_seq AND state IN (0, 1, 5) ORDER BY seq LIMIT 1),
  (SELECT seq FROM tasks WHERE queue_no = q.no ORDER BY seq DESC LIMIT 1), 0)::text AS seq
FROM queues q`;

// One that was lowered meanwhile stays.
const RAISE_LOW = `
UPDATE queues q SET low_seq = m.seq
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS m(no, low_seq, seq)
WHERE q.no = m.no AND q.low_seq = m.low_seq AND m.seq > m.low_seq AND NOT EXISTS (
  SELECT FROM tasks t WHERE t.queue_no = m.no AND t.seq >= m.low_seq AND t.seq < m.seq AND t.state IN (0, 1, 5))`;

// Oldest first: what is too old, else as many as there are too many. A task that was retried since is not meant any more.
// Of the cancelled it is remembered that they were, but for those that were blocked: there never was a message of them.
// One that has relatives is kept back until none of them needs it; $5 says how many of them there are already.
const TRIM = `
WITH kept AS (
  SELECT coalesce(sum(CASE WHEN $2::boolean THEN c.dead ELSE c.completed + c.cancelled END), 0) - $4::integer
    - $5::integer AS excess
  FROM ${COUNTED} WHERE c.queue_no = $1
), oldest AS (
  SELECT no, at, seqs FROM ended WHERE queue_no = $1 AND dead = $2::boolean ORDER BY no LIMIT 200 FOR UPDATE SKIP LOCKED
), summed AS (
  SELECT *, sum(cardinality(seqs)) OVER (ORDER BY no) - cardinality(seqs) AS before,
         at < now() - $3::float8 * interval '1 millisecond' AS old
  FROM oldest
), chosen AS (
  SELECT no, at, seqs, CASE WHEN old THEN cardinality(seqs)
    ELSE least(cardinality(seqs), greatest(0, (SELECT excess FROM kept) - before)) END::integer AS take
  FROM summed WHERE before < ${LIMITS.storeTrimTasks}
), portion AS (
  SELECT no, at, seqs[1:take] AS seqs, seqs[take + 1:] AS rest FROM chosen WHERE take > 0
), gone AS (
  DELETE FROM tasks t USING portion p, unnest(p.seqs) AS s(seq)
  WHERE t.queue_no = $1 AND t.seq = s.seq AND t.finished_at = p.at AND t.state IN (2, 3, 4)
    AND (t.state = 3) = $2::boolean AND t.children IS NULL
  RETURNING t.id, t.state, t.prior, t.run_at
), kept_back AS (
  INSERT INTO held AS h (id, queue_no, dead, at)
  SELECT t.id, $1, $2::boolean, p.at FROM portion p, unnest(p.seqs) AS s(seq), tasks t
  WHERE t.queue_no = $1 AND t.seq = s.seq AND t.finished_at = p.at AND t.state IN (2, 3, 4)
    AND (t.state = 3) = $2::boolean AND t.children IS NOT NULL
  ON CONFLICT (id) DO UPDATE SET dead = excluded.dead, at = excluded.at, due = true, looked_at = NULL
  RETURNING id
), buried AS (
  INSERT INTO tombstones (id, until)
  SELECT id, greatest(now(), run_at) + ${LIMITS.storeTombstoneMs} * interval '1 millisecond' FROM gone
  WHERE state = 4 AND prior <> 5 ON CONFLICT (id) DO NOTHING
), counted AS (
  INSERT INTO deltas (queue_no, completed, dead, cancelled)
  SELECT $1, -count(*) FILTER (WHERE state = 2), -count(*) FILTER (WHERE state = 3), -count(*) FILTER (WHERE state = 4)
  FROM gone HAVING count(*) > 0
), done AS (
  DELETE FROM ended e USING portion p
  WHERE e.queue_no = $1 AND e.dead = $2::boolean AND e.no = p.no AND cardinality(p.rest) = 0
), cut AS (
  UPDATE ended e SET seqs = p.rest FROM portion p
  WHERE e.queue_no = $1 AND e.dead = $2::boolean AND e.no = p.no AND cardinality(p.rest) > 0
)
SELECT coalesce(sum(cardinality(seqs)), 0)::integer AS looked, (SELECT count(*) FROM kept_back)::integer AS held
FROM portion`;
