import { LIMITS } from '../../limits.ts';
import type { Arrival, End, EndReport, Verdict } from '../store.ts';
import type { Database } from './database.ts';
import { flagArray, headersArray, headersText, numberArray, pack, textArray } from './encode.ts';
import type { Kinds } from './kinds.ts';
import type { Row } from './lane.ts';
import { STATE } from './schema.ts';
import { RELATED, SETTLED } from './settling.ts';

type EndVerdict = EndReport['verdicts'][number];
type Completed = Extract<End, { kind: 'completed' }>;
type Other = Exclude<End, { kind: 'completed' }>;

/** Failed tasks in one entry of the outbox: their payloads' sizes are not known here. */
const ENTRY_TASKS = 100;
/** Rounds in which arrivals may find that another process has just made their rows. */
const ROUNDS_MAX = 5;
/** Calls of `begin` that were given up with unknown outcome, and may be made again by whoever made them. */
const DOUBTFUL_MAX = 1000;
const WHAT = { failed: 0, dead: 1, released: 2 } as const;

export interface AttemptParts {
  readonly database: Database;
  readonly kinds: Kinds;
  readonly newEntry: () => string;
  /** The number of a worker, which has a row from then on. */
  readonly workerNo: (worker: string) => Promise<number>;
  /** All numbers that it has had, the present one first. */
  readonly workerNos: (worker: string) => Promise<readonly number[]>;
  /** Tasks of these queues have ended. */
  readonly ended: (queueNos: readonly number[]) => void;
  /** What `settle` gave, or null. */
  readonly settled: (settled: unknown) => void;
}

/**
 * Attempts: begun when their messages arrive, ended by whoever runs them.
 *
 * Both go to the rows in the order of the ids, so that two statements that meet do not wait for each other in a circle.
 */
export class Attempts {
  readonly #parts: AttemptParts;
  #calls = 0;
  readonly #doubtful: string[] = [];

  constructor(parts: AttemptParts) {
    this.#parts = parts;
  }

  /**
   * Not durable by itself: after a crash of the database the row may be back at waiting while its task runs here; `end`
   * takes it from there too. May be repeated: a call knows its own rows by the lease, and those of a call that was given up
   * are not taken for copies when their messages are brought again.
   */
  async begin(worker: string, arrivals: readonly Arrival[]): Promise<Verdict[]> {
    const verdicts = new Array<Verdict>(arrivals.length).fill('drop');
    const workerNo = await this.#parts.workerNo(worker);
    this.#calls = (this.#calls + 1) % 2 ** 32;
    const lease = String((BigInt(workerNo) << 32n) + BigInt(this.#calls));
    let open = distinct(arrivals, inOrder(arrivals));
    try {
      for (let round = 0; open.length > 0 && round < ROUNDS_MAX; round++) {
        const left = await this.#beginKnown(lease, arrivals, open, verdicts);
        const absent = await this.#absent(arrivals, left);
        open = absent.length > 0 ? await this.#beginForeign(lease, arrivals, absent, verdicts) : [];
      }
    } catch (error) {
      this.#doubtful.push(lease);
      if (this.#doubtful.length > DOUBTFUL_MAX) this.#doubtful.shift();
      throw error;
    }
    return verdicts;
  }

  /** Durable. May be repeated: what the first time has changed is recognised by worker and attempt. */
  async end(worker: string, ends: readonly End[]): Promise<EndReport> {
    const verdicts = new Array<EndVerdict>(ends.length).fill('lease-lost');
    const workerNos = await this.#parts.workerNos(worker);
    const order = inOrder(ends);
    const entry = this.#parts.newEntry();
    await Promise.all([
      this.#complete(
        workerNos,
        ends,
        order.filter((index) => (ends[index] as End).kind === 'completed'),
        verdicts,
      ),
      this.#endOthers(
        workerNos,
        ends,
        order.filter((index) => (ends[index] as End).kind !== 'completed'),
        verdicts,
        entry,
      ),
    ]);
    const entries = new Set<string>();
    let position = 0;
    for (const index of order) {
      const { kind } = ends[index] as End;
      if (kind === 'completed') continue;
      if (kind === 'failed' && verdicts[index] === 'taken') entries.add(entryAt(entry, position));
      position++;
    }
    return { verdicts, unpublished: { entries: [...entries] } };
  }

  /** Returns those that have no row, or one that says drop. */
  async #beginKnown(
    lease: string,
    arrivals: readonly Arrival[],
    open: readonly number[],
    verdicts: Verdict[],
  ): Promise<number[]> {
    const left: number[] = [];
    for (const part of parts(open)) {
      const each = part.map((index) => arrivals[index] as Arrival);
      const [row] = await this.#parts.database.query('lazy', BEGIN, [
        textArray(each.map((arrival) => arrival.id)),
        numberArray(each.map((arrival) => arrival.attempt)),
        flagArray(each.map((arrival) => arrival.redelivered)),
        textArray([lease, ...this.#doubtful]),
      ]);
      this.#parts.settled((row as Row).settled);
      left.push(...this.#spread(part, row as Row, (index) => (verdicts[index] = 'run')));
    }
    return left;
  }

  async #absent(arrivals: readonly Arrival[], left: readonly number[]): Promise<number[]> {
    const absent: number[] = [];
    for (const part of parts(left)) {
      const ids = textArray(part.map((index) => (arrivals[index] as Arrival).id));
      const rows = await this.#parts.database.query('lazy', ABSENT, [ids]);
      for (const { n } of rows) absent.push(part[Number(n) - 1] as number);
    }
    return absent.sort((a, b) => (idOf(arrivals, a) < idOf(arrivals, b) ? -1 : 1));
  }

  /** Returns those for which another process was quicker. */
  async #beginForeign(
    lease: string,
    arrivals: readonly Arrival[],
    absent: readonly number[],
    verdicts: Verdict[],
  ): Promise<number[]> {
    const left: number[] = [];
    for (const part of parts(absent)) {
      const each = part.map((index) => arrivals[index] as Arrival);
      const kinds = await this.#parts.kinds.of(each.map((arrival) => arrival.spec));
      const packed = pack(each.map((arrival) => arrival.payload));
      const [row] = await this.#parts.database.query('lazy', BEGIN_FOREIGN, [
        textArray(each.map((arrival) => arrival.id)),
        numberArray(kinds.map((kind) => kind.queueNo)),
        numberArray(kinds.map((kind) => kind.no)),
        numberArray(each.map((arrival) => arrival.enqueuedAtMs)),
        numberArray(each.map((arrival) => arrival.attempt)),
        lease,
        packed.bytes,
        packed.starts,
        packed.lengths,
        headersArray(each.map((arrival) => headersText(arrival.headers))),
      ]);
      left.push(...this.#spread(part, row as Row, (index) => (verdicts[index] = 'run')));
    }
    return left;
  }

  async #complete(
    workerNos: readonly number[],
    ends: readonly End[],
    order: readonly number[],
    verdicts: EndVerdict[],
  ): Promise<void> {
    for (const part of parts(order, (index) => sizeOf(ends[index] as End))) {
      const each = part.map((index) => ends[index] as Completed);
      const ids = textArray(each.map((end) => end.id));
      const attempts = numberArray(each.map((end) => end.attempt));
      let row: Row | undefined;
      if (each.some((end) => end.result !== undefined)) {
        const { bytes, starts, lengths } = pack(each.map((end) => end.result));
        const parameters = [ids, attempts, numberArray(workerNos), bytes, starts, lengths];
        [row] = await this.#parts.database.query('durable', COMPLETE_WITH_RESULTS, parameters);
      } else [row] = await this.#parts.database.query('durable', COMPLETE, [ids, attempts, numberArray(workerNos)]);
      const left = this.#spread(part, row as Row, (index) => (verdicts[index] = 'taken'));
      this.#report(row as Row);
      await this.#recognise(workerNos, ends, left, verdicts);
    }
  }

  async #endOthers(
    workerNos: readonly number[],
    ends: readonly End[],
    order: readonly number[],
    verdicts: EndVerdict[],
    entry: string,
  ): Promise<void> {
    let before = 0;
    for (const part of parts(order, (index) => sizeOf(ends[index] as End))) {
      const each = part.map((index) => ends[index] as Other);
      const [row] = await this.#parts.database.query('durable', END_OTHERS, [
        textArray(each.map((end) => end.id)),
        numberArray(each.map((end) => end.attempt)),
        numberArray(workerNos),
        numberArray(each.map((end) => WHAT[end.kind])),
        numberArray(each.map((end) => (end.kind === 'failed' && end.retryAtMs > 0 ? end.retryAtMs : null))),
        textArray(each.map(failureOf)),
        textArray(each.map((_, index) => entryAt(entry, before + index))),
      ]);
      const { cancelled } = row as { cancelled: number[] | null };
      const left = this.#spread(part, row as Row, (index) => (verdicts[index] = 'taken'));
      for (const n of cancelled ?? []) verdicts[part[n - 1] as number] = 'cancelled';
      this.#report(row as Row);
      await this.#recognise(workerNos, ends, left, verdicts);
      before += part.length;
    }
  }

  /** Ends that changed no row: either an earlier run of this very statement has, or the attempt is not this worker's. */
  async #recognise(
    workerNos: readonly number[],
    ends: readonly End[],
    left: readonly number[],
    verdicts: EndVerdict[],
  ): Promise<void> {
    if (left.length === 0) return;
    const ids = textArray(left.map((index) => (ends[index] as End).id));
    const rows = await this.#parts.database.query('durable', LOOK, [ids]);
    for (const row of rows) {
      const index = left[Number(row.n) - 1] as number;
      const end = ends[index] as End;
      if (workerNos.includes(row.worker_no as number)) {
        verdicts[index] = verdictOf(end, row.state as number, row.attempt as number);
      }
    }
  }

  #report(row: Row): void {
    const queues = (row as { queues: number[] | null }).queues;
    if (queues !== null) this.#parts.ended(queues);
    this.#parts.settled(row.settled);
  }

  /** The answer names what was taken only where that is not everything. Returns the others. */
  #spread(part: readonly number[], row: Row, take: (index: number) => void): number[] {
    const { count, taken } = row as { count: number; taken: number[] | null };
    if (count === part.length) {
      for (const index of part) take(index);
      return [];
    }
    const positions = new Set(taken);
    return part.filter((index, position) => {
      if (!positions.has(position + 1)) return true;
      take(index);
      return false;
    });
  }
}

function verdictOf(end: End, state: number, attempt: number): EndVerdict {
  const charged = end.kind === 'failed' || end.kind === 'dead' ? end.attempt + 1 : end.attempt;
  if (end.kind !== 'completed' && state === STATE.CANCELLED && attempt === charged) return 'cancelled';
  const after = { completed: STATE.COMPLETED, dead: STATE.DEAD, failed: STATE.WAITING, released: STATE.WAITING }[
    end.kind
  ];
  return state === after && attempt === (end.kind === 'failed' ? end.attempt + 1 : end.attempt)
    ? 'taken'
    : 'lease-lost';
}

/**
 * As it is kept: JSON text, which may hold what PostgreSQL's own JSON may not. The error comes last, so that its stack can be
 * cut off: see `shortFailure`.
 */
function failureOf(end: Other): string | null {
  if (end.kind === 'released') return null;
  const { attempt, atMs, run, error } = end;
  return JSON.stringify({ attempt, atMs, ...run, error });
}

function entryAt(entry: string, position: number): string {
  return `${entry}.${Math.floor(position / ENTRY_TASKS)}`;
}

function idOf(items: readonly { readonly id: string }[], index: number): string {
  return (items[index] as { id: string }).id;
}

/** The positions of the items in the order of their ids. */
function inOrder(items: readonly { readonly id: string }[]): number[] {
  const order = items.map((_, index) => index);
  for (let index = 1; index < items.length; index++) {
    // Nearly always they come in order, and there is nothing to sort.
    if (idOf(items, index - 1) > idOf(items, index)) {
      return order.sort((a, b) => (idOf(items, a) < idOf(items, b) ? -1 : idOf(items, a) > idOf(items, b) ? 1 : a - b));
    }
  }
  return order;
}

/** Of copies that came together only one can be begun: the one with the highest attempt. */
function distinct(arrivals: readonly Arrival[], order: readonly number[]): number[] {
  const kept: number[] = [];
  for (const index of order) {
    const before = kept.at(-1);
    if (before === undefined || idOf(arrivals, before) !== idOf(arrivals, index)) kept.push(index);
    else if (rankOf(arrivals[index] as Arrival) > rankOf(arrivals[before] as Arrival)) kept[kept.length - 1] = index;
  }
  return kept;
}

function rankOf({ attempt, redelivered }: Arrival): number {
  return attempt * 2 + (redelivered ? 1 : 0);
}

function sizeOf(end: End): number {
  return end.kind === 'completed' && end.result !== undefined ? end.result.length : 0;
}

/** Statements' shares of it. */
function* parts(order: readonly number[], size: (index: number) => number = () => 0): Iterable<number[]> {
  let part: number[] = [];
  let bytes = 0;
  for (const index of order) {
    const more = size(index);
    const full = part.length === LIMITS.storeStatementTasksMax || bytes + more > LIMITS.storeStatementBytesMax;
    if (full && part.length > 0) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(index);
    bytes += more;
  }
  if (part.length > 0) yield part;
}

const ANSWER = `count(*)::integer AS count,
  CASE WHEN count(*) < cardinality($1::text[]) THEN array_to_json(array_agg(n)) END AS taken`;

// Further than the row are messages of lost workers, which the broker has given to somebody before, and those of attempts from
// before a retry, which began anew: they do not come beside what runs.
// A worker was lost while it held a task that is to be cancelled: that ends it.
const BEGIN = `
WITH changed AS (
  UPDATE tasks t SET prior = t.state, state = CASE WHEN t.cancel_requested THEN 4 ELSE 1 END, attempt = a.attempt,
    lease = ($4::bigint[])[1], run_at = NULL, progress = NULL, started = NULL,
    finished_at = CASE WHEN t.cancel_requested THEN now() END
  FROM unnest($1::text[], $2::integer[], $3::boolean[]) WITH ORDINALITY AS a(id, attempt, redelivered, n)
  WHERE t.id = a.id AND t.state < 2 AND a.attempt >= t.attempt
    AND (t.state = 0 OR a.redelivered OR t.lease = ANY ($4::bigint[]))
  RETURNING a.n, t.queue_no, t.seq, t.prior, t.state, ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, active, cancelled, cancelled_total)
  SELECT queue_no, -count(*) FILTER (WHERE prior = 0),
         count(*) FILTER (WHERE state = 1) - count(*) FILTER (WHERE prior = 1),
         count(*) FILTER (WHERE state = 4), count(*) FILTER (WHERE state = 4)
  FROM changed GROUP BY queue_no
), over AS (
  INSERT INTO ended (queue_no, dead, seqs)
  SELECT queue_no, false, array_agg(seq) FROM changed WHERE state = 4 GROUP BY queue_no
)
SELECT ${ANSWER}, (SELECT ${SETTLED} FROM changed WHERE state = 4) AS settled FROM changed WHERE state = 1`;

const ABSENT = `
SELECT a.n FROM unnest($1::text[]) WITH ORDINALITY AS a(id, n)
WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = a.id) AND NOT EXISTS (SELECT FROM tombstones s WHERE s.id = a.id)`;

const BEGIN_FOREIGN = `
WITH made AS (
  INSERT INTO tasks (id, queue_no, kind_no, enqueued_at, attempt, state, prior, lease, payload, headers)
  SELECT a.id, a.queue_no, a.kind_no, to_timestamp(a.enqueued_at / 1000.0), a.attempt, 1, 1, $6::bigint,
         substring($7::bytea FROM a.start FOR a.length), a.headers
  FROM unnest($1::text[], $2::integer[], $3::integer[], $4::float8[], $5::integer[], $8::integer[], $9::integer[], $10::text[])
         AS a(id, queue_no, kind_no, enqueued_at, attempt, start, length, headers)
  ON CONFLICT (id) DO NOTHING
  RETURNING id, queue_no
), counted AS (
  INSERT INTO deltas (queue_no, active, enqueued_total)
  SELECT queue_no, count(*), count(*) FROM made GROUP BY queue_no
)
SELECT ${ANSWER} FROM made JOIN unnest($1::text[]) WITH ORDINALITY AS a(id, n) USING (id)`;

/** Also what waits at that attempt: `begin` was taken back by a crash of the database, and nobody else has begun it. */
const HELD =
  't.id = a.id AND t.attempt = a.attempt AND ((t.state = 1 AND (t.lease >> 32) = ANY ($3::bigint[])) OR t.state = 0)';

const completion = (result: string, source: string): string => `
WITH changed AS (
  UPDATE tasks t SET prior = t.state, state = 2, finished_at = now(), run_at = NULL,
    lease = ($3::bigint[])[1] << 32, progress = NULL${result}
  FROM ${source}
  WHERE ${HELD}
  RETURNING a.n, t.queue_no, t.seq, t.prior, ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, active, completed, completed_total)
  SELECT queue_no, -count(*) FILTER (WHERE prior = 0), -count(*) FILTER (WHERE prior = 1), count(*), count(*)
  FROM changed GROUP BY queue_no
), over AS (
  INSERT INTO ended (queue_no, dead, seqs) SELECT queue_no, false, array_agg(seq) FROM changed GROUP BY queue_no
  RETURNING queue_no
)
SELECT ${ANSWER}, (SELECT array_to_json(array_agg(queue_no)) FROM over) AS queues, ${SETTLED} AS settled FROM changed`;

const COMPLETE = completion('', 'unnest($1::text[], $2::integer[]) WITH ORDINALITY AS a(id, attempt, n)');

const COMPLETE_WITH_RESULTS = completion(
  ', result = substring($4::bytea FROM a.start FOR a.length)',
  `unnest($1::text[], $2::integer[], $5::integer[], $6::integer[]) WITH ORDINALITY AS a(id, attempt, start, length, n)`,
);

const KEPT_BEFORE = LIMITS.attemptsKeptMax - 1;

// What (0 failed, 1 dead, 2 released) becomes: waiting or dead, or cancelled where that was asked for.
const END_OTHERS = `
WITH changed AS (
  UPDATE tasks t SET prior = t.state,
    state = CASE WHEN t.cancel_requested THEN 4 WHEN a.what = 1 THEN 3 ELSE 0 END,
    attempt = t.attempt + CASE WHEN a.what = 0 OR (a.what = 1 AND t.cancel_requested) THEN 1 ELSE 0 END,
    run_at = CASE WHEN NOT t.cancel_requested THEN to_timestamp(a.retry_at / 1000.0) END,
    finished_at = CASE WHEN t.cancel_requested OR a.what = 1 THEN now() END,
    lease = ($3::bigint[])[1] << 32,
    progress = NULL,
    failures = CASE WHEN a.failure IS NULL THEN t.failures
      ELSE t.failures[greatest(1, coalesce(cardinality(t.failures), 0) - ${KEPT_BEFORE - 1}):] || a.failure END
  FROM unnest($1::text[], $2::integer[], $4::integer[], $5::float8[], $6::text[], $7::text[]) WITH ORDINALITY
         AS a(id, attempt, what, retry_at, failure, entry, n)
  WHERE ${HELD}
  RETURNING a.n, a.what, a.entry, t.id, t.queue_no, t.seq, t.prior, t.state, octet_length(t.payload) AS bytes,
    ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, active, dead, cancelled, failed_total, dead_total, cancelled_total)
  SELECT queue_no, count(*) FILTER (WHERE state = 0) - count(*) FILTER (WHERE prior = 0),
         -count(*) FILTER (WHERE prior = 1),
         count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4),
         count(*) FILTER (WHERE what < 2),
         count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4)
  FROM changed GROUP BY queue_no
), over AS (
  INSERT INTO ended (queue_no, dead, seqs)
  SELECT queue_no, state = 3, array_agg(seq) FROM changed WHERE state > 1 GROUP BY 1, 2
  RETURNING queue_no
), unpublished AS (
  INSERT INTO outbox (entry, ids, bytes)
  SELECT entry, array_agg(id), sum(bytes) FROM changed WHERE what = 0 AND state = 0 GROUP BY entry
  ON CONFLICT (entry) DO NOTHING
)
SELECT ${ANSWER}, array_to_json(array_agg(n) FILTER (WHERE state = 4)) AS cancelled,
  (SELECT array_to_json(array_agg(queue_no)) FROM over) AS queues,
  (SELECT ${SETTLED} FROM changed WHERE state > 1) AS settled
FROM changed`;

const LOOK = `
SELECT a.n, t.state, t.attempt, (t.lease >> 32)::integer AS worker_no
FROM unnest($1::text[]) WITH ORDINALITY AS a(id, n) JOIN tasks t ON t.id = a.id`;
