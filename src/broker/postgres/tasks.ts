import { invariant, MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { encodeBytes } from '../../protocol/encoded-bytes.ts';
import { parseTaskFilter } from '../../protocol/task-filter.ts';
import type { Outcome, TaskError, TaskFilter, TaskInfo, TaskPage, TaskProgress, TaskState } from '../contract.ts';
import type { Republish, WorkerBeat } from '../store.ts';
import type { Database } from './database.ts';
import { headersOf, msOf, numberArray, textArray } from './encode.ts';
import { SPEC_COLUMNS } from './kinds.ts';
import type { Row } from './lane.ts';
import { logOf } from './logs.ts';
import type { Outbox } from './outbox.ts';
import { DEPENDENCIES, readRelatives } from './relatives.ts';
import { STATE } from './schema.ts';
import type { Search } from './search.ts';
import { failuresOf, notFound, STATE_NAME, shownId } from './task-rows.ts';

const LIST_LIMIT = 100;

/** What it takes to look at tasks and change what becomes of them. */
export interface TaskParts {
  readonly database: Database;
  readonly search: Search;
  readonly outbox: Outbox;
  readonly newEntry: () => string;
  readonly ended: (queueNos: readonly number[]) => void;
  readonly settled: (settled: unknown) => void;
}

/** Looking at single tasks, and what is done to one of them. */
export class Tasks {
  readonly #parts: TaskParts;

  constructor(parts: TaskParts) {
    this.#parts = parts;
  }

  async outcomes(ids: readonly string[]): Promise<(Outcome | undefined | 'unknown')[]> {
    const outcomes = new Array<Outcome | undefined | 'unknown'>(ids.length).fill(undefined);
    for (let from = 0; from < ids.length; from += LIMITS.storeStatementTasksMax) {
      const part = ids.slice(from, from + LIMITS.storeStatementTasksMax);
      const rows = await this.#parts.database.query('durable', OUTCOMES, [textArray(part)]);
      for (const row of rows) outcomes[from + Number(row.n) - 1] = outcomeOf(row);
    }
    return outcomes;
  }

  /** Rejects NOT_FOUND. */
  async get(id: string): Promise<TaskInfo> {
    const [row] = await this.#parts.database.query('durable', GET, [id]);
    if (row === undefined) throw notFound(id);
    const { failures, ...info } = infoOf(row, await this.#runners([row]));
    const result = row.result as Buffer | null;
    const headers = headersOf(row.headers);
    return {
      ...info,
      ...(row.children === null ? {} : await readRelatives(this.#parts.database, id, info.dependencies)),
      payload: encodeBytes(row.payload as Buffer),
      ...(headers === undefined ? {} : { headers }),
      ...(result === null ? {} : { result: encodeBytes(result) }),
      ...(row.log === null ? {} : { log: logOf(row.log as string) }),
      failures,
    };
  }

  /** A page may be short, or empty, when there is a `next`: so much was looked at. Rejects INVALID_ARGUMENT, and NOT_FOUND for an `after` that is none. */
  async list(given: TaskFilter): Promise<TaskPage> {
    const filter = parseTaskFilter(given);
    const state = filter.errorGroup === undefined ? filter.state : 'dead';
    // A group is of dead tasks.
    if (filter.state !== undefined && filter.state !== state) return { tasks: [] };
    const wanted = {
      filter,
      countMax: filter.limit ?? LIST_LIMIT,
      ...(state === undefined ? {} : { states: [state] }),
    };
    const { hits, last } = await this.#parts.search.find(wanted, await this.#parts.search.range(filter));
    const rows =
      hits.length === 0 ? [] : await this.#parts.database.query('calm', INFOS, [textArray(hits.map(({ id }) => id))]);
    const runners = await this.#runners(rows);
    const tasks = rows.map((row) => infoOf(row, runners));
    return last === undefined ? { tasks } : { tasks, next: `~${last}` };
  }

  /** Repeated after an unknown outcome, it takes a task that is cancelled for one that it has cancelled itself. */
  async cancel(id: string): Promise<'cancelled' | 'requested'> {
    const { row, again } = await this.#parts.database.run('durable', async (session, repeated) => {
      const [changed] = await session.query(CANCEL, [id, this.#parts.database.settings.schema]);
      return { row: changed, again: repeated };
    });
    if (row !== undefined) {
      if (row.state === STATE.ACTIVE) return 'requested';
      this.#parts.ended([row.queue_no as number]);
      this.#parts.settled(row.settled);
      return 'cancelled';
    }
    const state = await this.#state(id);
    if (again && state === 'cancelled') return 'cancelled';
    throw conflict(id, state, 'cancelled');
  }

  /** May be repeated: the entry in the outbox shows that it was done. */
  async retry(id: string): Promise<Republish> {
    const entry = this.#parts.newEntry();
    const [row] = await this.#parts.database.query('durable', RETRY, [id, entry]);
    invariant(row !== undefined, 'a count always has a row');
    if (row.count === 0) throw conflict(id, await this.#state(id), 'retried');
    return { entries: [entry], tasks: await this.#parts.outbox.read([id]) };
  }

  async #state(id: string): Promise<TaskState> {
    return (await this.get(id)).state;
  }

  /** The workers of those that run. */
  async #runners(rows: readonly Row[]): Promise<Runners> {
    const numbers = new Set(rows.map((row) => row.worker_no as number | null));
    numbers.delete(null);
    if (numbers.size === 0) return new Map();
    const workers = await this.#parts.database.query('calm', RUNNERS, [numberArray([...numbers])]);
    return new Map(
      workers.map(({ no, id, beat }) => {
        const { name, started } = beat === null ? {} : (JSON.parse(beat as string) as Partial<WorkerBeat>);
        return [no as number, { id: id as string, name: name ?? (id as string), started: started ?? {} }];
      }),
    );
  }
}

/** What running tasks are shown with, by the number of their worker. */
type Runners = ReadonlyMap<number, Pick<WorkerBeat, 'id' | 'name' | 'started'>>;

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

function infoOf(row: Row, runners: Runners): TaskInfo {
  const state = row.state_name as TaskState;
  const active = state === 'active';
  const runner = runners.get(row.worker_no as number);
  const startedAtMs = runner?.started[row.id as string];
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
    ...(startedAtMs === undefined ? {} : { startedAtMs }),
    ...(runner === undefined ? {} : { worker: runner.name, workerId: runner.id }),
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
  CASE WHEN t.state = 1 THEN (t.lease >> 32)::integer END AS worker_no, t.unique_key, CASE WHEN t.children IS NOT NULL THEN ${DEPENDENCIES} END AS dependencies, t.progress, t.cancel_requested, octet_length(t.payload) AS payload_bytes,
  array_to_json(${failures}) AS failures, ${SPEC_COLUMNS}`;

const JOINS = 'JOIN kinds k ON k.no = t.kind_no JOIN queues q ON q.no = t.queue_no';

// In the order of the ids that are asked for.
const INFOS = `
SELECT ${INFO('t.failures[cardinality(t.failures):]')}
FROM unnest($1::text[]) WITH ORDINALITY AS a(id, n) JOIN tasks t ON t.id = a.id ${JOINS} ORDER BY a.n`;

const RUNNERS = 'SELECT no, id, beat FROM workers WHERE no = ANY ($1::integer[])';

const GET = `SELECT ${INFO('t.failures')}, t.children, t.payload, t.headers, t.result, t.log FROM tasks t ${JOINS} WHERE t.id = $1`;

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
