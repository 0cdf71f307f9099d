import { invariant, MillraceError, shown } from '../../errors.ts';
import { checkInteger, LIMITS } from '../../limits.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import type { Outcome, TaskError, TaskFilter, TaskInfo, TaskPage, TaskProgress, TaskState } from '../contract.ts';
import type { Republish } from '../store.ts';
import type { Database } from './database.ts';
import { headersOf, msOf, textArray } from './encode.ts';
import { SPEC_COLUMNS } from './kinds.ts';
import type { Row } from './lane.ts';
import { logOf } from './logs.ts';
import type { Outbox } from './outbox.ts';
import { DEPENDENCIES, readRelatives } from './relatives.ts';
import { STATE } from './schema.ts';
import { failuresOf, notFound, STATE_NAME, shownId } from './task-rows.ts';

const LIST_LIMIT = 100;
const STATES: readonly string[] = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'];

/** Looking at single tasks, and what is done to one of them. */
export class Tasks {
  readonly #database: Database;
  readonly #outbox: Outbox;
  readonly #newEntry: () => string;
  readonly #ended: (queueNos: readonly number[]) => void;
  readonly #settled: (settled: unknown) => void;

  constructor(
    database: Database,
    outbox: Outbox,
    newEntry: () => string,
    ended: (queueNos: readonly number[]) => void,
    settled: (settled: unknown) => void,
  ) {
    this.#settled = settled;
    this.#database = database;
    this.#outbox = outbox;
    this.#newEntry = newEntry;
    this.#ended = ended;
  }

  async outcomes(ids: readonly string[]): Promise<(Outcome | undefined | 'unknown')[]> {
    const outcomes = new Array<Outcome | undefined | 'unknown'>(ids.length).fill(undefined);
    for (let from = 0; from < ids.length; from += LIMITS.storeStatementTasksMax) {
      const part = ids.slice(from, from + LIMITS.storeStatementTasksMax);
      const rows = await this.#database.query('durable', OUTCOMES, [textArray(part)]);
      for (const row of rows) outcomes[from + Number(row.n) - 1] = outcomeOf(row);
    }
    return outcomes;
  }

  /** Rejects NOT_FOUND. */
  async get(id: string): Promise<TaskInfo> {
    const [row] = await this.#database.query('durable', GET, [id]);
    if (row === undefined) throw notFound(id);
    const { failures, ...info } = infoOf(row);
    const result = row.result as Buffer | null;
    const headers = headersOf(row.headers);
    return {
      ...info,
      ...(row.children === null ? {} : await readRelatives(this.#database, id, info.dependencies)),
      payload: encodeBytes(row.payload as Buffer),
      ...(headers === undefined ? {} : { headers }),
      ...(result === null ? {} : { result: encodeBytes(result) }),
      ...(row.log === null ? {} : { log: logOf(row.log as string) }),
      failures,
    };
  }

  /** A page may be short, or empty, when there is a `next`: so much was looked at. Rejects INVALID_ARGUMENT, and NOT_FOUND for an `after` that is none. */
  async list(filter: TaskFilter): Promise<TaskPage> {
    const limit = filter.limit ?? LIST_LIMIT;
    checkInteger('limit', limit, 1, LIMITS.listPageMax);
    checkState(filter.state);
    const after = await this.#position(filter.after);
    const picky = filter.name !== undefined || filter.state !== undefined;
    const scan = picky ? LIMITS.listScanMax : limit + 1;
    const { queue = null, name = null, state = null } = filter;
    const rows = await this.#database.query('calm', LIST, [queue, after, scan, name, state, limit + 1]);
    if (rows.length > limit) {
      const shownRows = rows.slice(0, limit);
      return { tasks: shownRows.map(infoOf), next: `~${(shownRows.at(-1) as Row).seq}` };
    }
    if (!picky) return { tasks: rows.map(infoOf) };
    // Queues that were not looked through to their end: what lies beyond the first such place comes later.
    const [scanned] = await this.#database.query('calm', SCANNED, [queue, after, scan]);
    const cut = (scanned as { cut: string | null }).cut;
    if (cut === null) return { tasks: rows.map(infoOf) };
    return { tasks: rows.filter((row) => BigInt(row.seq as string) <= BigInt(cut)).map(infoOf), next: `~${cut}` };
  }

  /** Repeated after an unknown outcome, it takes a task that is cancelled for one that it has cancelled itself. */
  async cancel(id: string): Promise<'cancelled' | 'requested'> {
    const { row, again } = await this.#database.run('durable', async (session, repeated) => {
      const [changed] = await session.query(CANCEL, [id, this.#database.settings.schema]);
      return { row: changed, again: repeated };
    });
    if (row !== undefined) {
      if (row.state === STATE.ACTIVE) return 'requested';
      this.#ended([row.queue_no as number]);
      this.#settled(row.settled);
      return 'cancelled';
    }
    const state = await this.#state(id);
    if (again && state === 'cancelled') return 'cancelled';
    throw conflict(id, state, 'cancelled');
  }

  /** May be repeated: the entry in the outbox shows that it was done. */
  async retry(id: string): Promise<Republish> {
    const entry = this.#newEntry();
    const [row] = await this.#database.query('durable', RETRY, [id, entry]);
    invariant(row !== undefined, 'a count always has a row');
    if (row.count === 0) throw conflict(id, await this.#state(id), 'retried');
    return { entries: [entry], tasks: await this.#outbox.read([id]) };
  }

  async #state(id: string): Promise<TaskState> {
    return (await this.get(id)).state;
  }

  async #position(after: string | undefined): Promise<string> {
    if (after === undefined) return '0';
    // What `next` says: the task there may be forgotten when the next page is asked for.
    if (/^~\d{1,18}$/.test(after)) return after.slice(1);
    const [row] = await this.#database.query('durable', 'SELECT seq FROM tasks WHERE id = $1', [after]);
    if (row === undefined) throw notFound(after);
    return row.seq as string;
  }
}

function checkState(state: string | undefined): void {
  if (state === undefined || STATES.includes(state)) return;
  throw new MillraceError('INVALID_ARGUMENT', `there is no state ${shown(state)}; there are ${STATES.join(', ')}`);
}

function conflict(id: string, state: TaskState, what: string): MillraceError {
  return new MillraceError('CONFLICT', `task ${shownId(id)} is ${state} and cannot be ${what}`, { details: { state } });
}

function outcomeOf(row: Row): Outcome | 'unknown' {
  switch (row.state) {
    case STATE.COMPLETED:
      return { state: 'completed', result: (row.result as Buffer | null) ?? undefined };
    case STATE.DEAD:
      return { state: 'dead', error: failuresOf(row.failures).at(-1)?.error ?? UNKNOWN_ERROR };
    case STATE.CANCELLED:
      return { state: 'cancelled' };
    default:
      return 'unknown';
  }
}

/** Of a row that another program made dead without saying why. */
const UNKNOWN_ERROR: TaskError = { name: 'Error', message: 'no error was recorded', code: 'HANDLER_FAILED' };

function infoOf(row: Row): TaskInfo {
  const state = row.state_name as TaskState;
  const active = state === 'active';
  return {
    id: row.id as string,
    queue: row.queue as string,
    name: row.name as string,
    state,
    priority: row.priority as number,
    // The row has the attempt that comes next; it counts when it runs, and when it ended the task.
    attempt: (row.attempt as number) - (row.state === STATE.ACTIVE || isOver(row.state) ? 0 : 1),
    maxAttempts: row.max_attempts as number,
    timeoutMs: Number(row.timeout_ms),
    enqueuedAtMs: Math.round(row.enqueued_at_ms as number),
    ...(state === 'scheduled' ? { runAtMs: Math.round(row.run_at_ms as number) } : {}),
    ...(row.finished_at_ms === null ? {} : { finishedAtMs: Math.round(row.finished_at_ms as number) }),
    ...(active && row.worker !== null ? { worker: row.worker as string } : {}),
    ...(active && row.progress !== null ? { progress: JSON.parse(row.progress as string) as TaskProgress } : {}),
    ...(active && row.cancel_requested === true ? { cancelRequested: true } : {}),
    ...(row.dependencies === null ? {} : { dependencies: row.dependencies as NonNullable<TaskInfo['dependencies']> }),
    ...(row.unique_key === null ? {} : { uniqueKey: row.unique_key as string }),
    payloadBytes: row.payload_bytes as number,
    failures: failuresOf(row.failures),
  };
}

function isOver(state: unknown): boolean {
  return state === STATE.COMPLETED || state === STATE.DEAD;
}

const OUTCOMES = `
SELECT a.n, t.state, t.result, CASE WHEN t.state = 3 THEN array_to_json(t.failures) END AS failures
FROM unnest($1::text[]) WITH ORDINALITY AS a(id, n) LEFT JOIN tasks t ON t.id = a.id
WHERE t.id IS NULL OR t.state IN (2, 3, 4)`;

const INFO = (failures: string): string => `t.id, t.seq, t.state, ${STATE_NAME('t')} AS state_name, t.attempt,
  ${msOf('t.enqueued_at')} AS enqueued_at_ms, ${msOf('t.run_at')} AS run_at_ms, ${msOf('t.finished_at')} AS finished_at_ms,
  w.id AS worker, t.unique_key, CASE WHEN t.children IS NOT NULL THEN ${DEPENDENCIES} END AS dependencies, t.progress, t.cancel_requested, octet_length(t.payload) AS payload_bytes,
  array_to_json(${failures}) AS failures, ${SPEC_COLUMNS}`;

const JOINS = `JOIN kinds k ON k.no = t.kind_no JOIN queues q ON q.no = t.queue_no
  LEFT JOIN workers w ON t.state = 1 AND w.no = (t.lease >> 32)`;

const GET = `SELECT ${INFO('t.failures')}, t.children, t.payload, t.headers, t.result, t.log FROM tasks t ${JOINS} WHERE t.id = $1`;

/** One queue after the other in its order, as far as a page may look. */
const QUEUES = 'FROM queues eq WHERE $1::text IS NULL OR eq.name = $1';

const LIST = `
SELECT ${INFO('t.failures[cardinality(t.failures):]')}
FROM (
  SELECT f.* FROM (SELECT eq.no ${QUEUES}) e
  CROSS JOIN LATERAL (
    SELECT * FROM (SELECT * FROM tasks s WHERE s.queue_no = e.no AND s.seq > $2::bigint ORDER BY s.seq LIMIT $3::bigint) s
    WHERE ($4::text IS NULL OR EXISTS (SELECT FROM kinds n WHERE n.no = s.kind_no AND n.name = $4))
      AND ($5::text IS NULL OR ${STATE_NAME('s')} = $5)
    ORDER BY s.seq LIMIT $6::bigint
  ) f
  ORDER BY f.seq LIMIT $6::bigint
) t ${JOINS} ORDER BY t.seq`;

const SCANNED = `
SELECT min(s.last)::text AS cut FROM (SELECT eq.no ${QUEUES}) e
CROSS JOIN LATERAL (
  SELECT max(seq) AS last, count(*) AS count FROM (
    SELECT s.seq FROM tasks s WHERE s.queue_no = e.no AND s.seq > $2::bigint ORDER BY s.seq LIMIT $3::bigint) s
) s WHERE s.count = $3::bigint`;

// `run_at` stays: it says until when its message may come.
const CANCEL = `
WITH changed AS (
  UPDATE tasks t SET prior = t.state, cancel_requested = true,
    state = CASE WHEN t.state = 1 THEN 1 ELSE 4 END, finished_at = CASE WHEN t.state <> 1 THEN now() END
  WHERE t.id = $1 AND t.state IN (0, 1, 5)
  RETURNING t.id, t.queue_no, t.seq, t.prior, t.state, t.children
), counted AS (
  INSERT INTO deltas (queue_no, waiting, blocked, cancelled, cancelled_total)
  SELECT queue_no, CASE WHEN prior = 0 THEN -1 ELSE 0 END, CASE WHEN prior = 5 THEN -1 ELSE 0 END, 1, 1
  FROM changed WHERE state = 4
), over AS (
  INSERT INTO ended (queue_no, dead, seqs) SELECT queue_no, false, ARRAY[seq] FROM changed WHERE state = 4
), asked AS (
  INSERT INTO cancels (id) SELECT id FROM changed WHERE state = 1 ON CONFLICT (id) DO NOTHING
)
SELECT queue_no, state, CASE WHEN state = 1 THEN pg_notify($2::text, 'cancel ' || id)::text END,
  CASE WHEN state = 4 AND children IS NOT NULL THEN settle(ARRAY[id]) END AS settled
FROM changed`;

// A task that pauses between two attempts keeps its count; one that is dead begins anew, and keeps its errors.
const RETRY = `
WITH changed AS (
  UPDATE tasks t SET prior = t.state, state = 0, run_at = NULL, finished_at = NULL,
    attempt = CASE WHEN t.state = 3 THEN 1 ELSE t.attempt END
  WHERE t.id = $1 AND (t.state = 3 OR (t.state = 0 AND t.run_at > now()))
  RETURNING t.id, t.queue_no, t.seq, t.prior, octet_length(t.payload) AS bytes
), counted AS (
  INSERT INTO deltas (queue_no, waiting, dead) SELECT queue_no, 1, -1 FROM changed WHERE prior = 3
), lowered AS (
  UPDATE queues q SET low_seq = c.seq FROM changed c WHERE q.no = c.queue_no AND q.low_seq > c.seq
), unpublished AS (
  INSERT INTO outbox (entry, ids, bytes, claimed_until)
  SELECT $2::text, ARRAY[id], bytes, now() + ${LIMITS.storeClaimMs} * interval '1 millisecond' FROM changed
  ON CONFLICT (entry) DO NOTHING RETURNING entry
)
SELECT ((SELECT count(*) FROM changed) + (SELECT count(*) FROM outbox WHERE entry = $2::text))::integer AS count`;
