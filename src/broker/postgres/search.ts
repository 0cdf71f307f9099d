import { LIMITS } from '../../limits.ts';
import { containsText, errorKind, groupOf } from '../../protocol/error-kind.ts';
import type { TaskFilter, TaskState } from '../contract.ts';
import type { Database } from './database.ts';
import { textArray } from './encode.ts';
import type { Parameter, Row } from './lane.ts';
import { newestFailureOf, notFound, STATE_NAME, shortFailure } from './task-rows.ts';

export interface Wanted {
  readonly filter: TaskFilter;
  readonly countMax: number;
  /** Only these; undefined: all. */
  readonly states?: readonly TaskState[];
  /** Without those that run and are asked to end already. */
  readonly unasked?: boolean;
}

export interface Hit {
  readonly id: string;
  readonly seq: string;
  readonly payloadBytes: number;
}

export interface Found {
  readonly hits: readonly Hit[];
  /** The last `seq` that was looked at, when there may be more behind it. */
  readonly last: string | undefined;
}

/** Between which positions to look, both outside. */
export interface Range {
  readonly after: string;
  readonly before: string;
}

const SEQ_MAX = String(2n ** 63n - 1n);
const UNENDED: readonly TaskState[] = ['scheduled', 'blocked', 'ready', 'active'];

/**
 * Looks for tasks in the order of `seq`, queue by queue along its index, a bounded number at a time. What errors say is
 * compared here, because PostgreSQL does not take every text in its own JSON; where it can, it leaves out most of the others.
 */
export class Search {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async find(wanted: Wanted, range: Range): Promise<Found> {
    const { filter, countMax } = wanted;
    const workerNo = filter.worker === undefined ? null : await this.#workerNo(filter.worker);
    if (workerNo === undefined) return { hits: [], last: undefined };
    const reads = filter.error !== undefined || filter.errorGroup !== undefined;
    const rowsMax = reads ? LIMITS.listFailuresMax : countMax + 1;
    const isPicky = Object.keys(filter).some((name) => !['queue', 'order', 'after', 'limit'].includes(name));
    const scanMax = scanOf(filter, isPicky || wanted.states !== undefined, rowsMax);
    const isUnended = filter.worker !== undefined || wanted.states?.every((state) => UNENDED.includes(state)) === true;
    const place: Parameter[] = [filter.queue ?? null, range.after, range.before, scanMax, isUnended];
    const newest = filter.order === 'newest';
    const rows = await this.#database.query('calm', newest ? FIND_NEWEST : FIND_OLDEST, [
      ...place,
      rowsMax,
      filter.name ?? null,
      wanted.states === undefined ? null : textArray(wanted.states),
      filter.fromMs ?? null,
      filter.toMs ?? null,
      workerNo,
      reads,
      needleOf(filter.error),
      wanted.unasked === true,
    ]);
    const isFull = rows.length === rowsMax;
    // Queues that were not looked through to their end: what lies beyond the first such place comes later.
    const isCut = scanMax > rowsMax && (filter.queue === undefined || !isFull);
    const cut = isCut ? await this.#cut(newest, place) : undefined;
    const within = cut === undefined ? rows : rows.filter((row) => isUpTo(row.seq as string, cut, newest));
    const isMore = isFull || cut !== undefined;
    const hits: Hit[] = [];
    for (const [index, row] of within.entries()) {
      if (reads && !isWanted(filter, row)) continue;
      hits.push({ id: row.id as string, seq: row.seq as string, payloadBytes: row.payload_bytes as number });
      if (hits.length < countMax) continue;
      const last = isMore || index < within.length - 1 ? (row.seq as string) : undefined;
      return { hits, last };
    }
    return { hits, last: isFull && within.length === rows.length ? (rows.at(-1)?.seq as string) : cut };
  }

  /** Where to begin, or to go on: after an id, or a place that `next` named. Rejects NOT_FOUND for an id that is none. */
  async range({ after, order }: TaskFilter, end: string = SEQ_MAX): Promise<Range> {
    if (after === undefined) return { after: '0', before: end };
    const place = /^~(\d{1,18})(?:~(\d{1,18}))?$/.exec(after);
    const position = place?.[1] ?? (await this.#seqOf(after));
    const before = place?.[2] ?? end;
    return order === 'newest' ? { after: '0', before: position } : { after: position, before };
  }

  /** The first position that no task has yet. */
  async end(): Promise<string> {
    const [row] = await this.#database.query('calm', END);
    return (row as { end: string }).end;
  }

  async #seqOf(id: string): Promise<string> {
    const [row] = await this.#database.query('durable', 'SELECT seq::text AS seq FROM tasks WHERE id = $1', [id]);
    if (row === undefined) throw notFound(id);
    return row.seq as string;
  }

  async #workerNo(id: string): Promise<number | undefined> {
    const [row] = await this.#database.query('calm', 'SELECT no FROM workers WHERE id = $1', [id]);
    return row?.no as number | undefined;
  }

  async #cut(newest: boolean, place: readonly Parameter[]): Promise<string | undefined> {
    const [row] = await this.#database.query('calm', newest ? CUT_NEWEST : CUT_OLDEST, place);
    return (row as { cut: string | null }).cut ?? undefined;
  }
}

function scanOf({ error }: TaskFilter, isPicky: boolean, rowsMax: number): number {
  if (!isPicky) return rowsMax;
  return needleOf(error) === null ? LIMITS.storeListScanMax : LIMITS.storeErrorScanMax;
}

/** As it must stand in the JSON of a failure, in lower case. Only of ASCII the database and JavaScript have the same idea. */
function needleOf(error: string | undefined): string | null {
  if (error === undefined || !/^[ -~]*$/.test(error)) return null;
  return JSON.stringify(error).slice(1, -1).toLowerCase();
}

function isUpTo(seq: string, cut: string, newest: boolean): boolean {
  return newest ? BigInt(seq) >= BigInt(cut) : BigInt(seq) <= BigInt(cut);
}

function isWanted({ error: text, errorGroup }: TaskFilter, row: Row): boolean {
  const error = newestFailureOf(row.failure)?.error;
  if (error === undefined) return false;
  if (text !== undefined && !containsText(error, text.toLowerCase())) return false;
  return errorGroup === undefined || groupOf(errorKind(row.queue as string, row.name as string, error)) === errorGroup;
}

/** The tasks of one queue `e` that may be looked at, along `tasks_in_order`. */
const walk = (columns: string, direction: 'ASC' | 'DESC'): string => `
  SELECT ${columns} FROM tasks s
  WHERE s.queue_no = e.no AND s.seq > $2::bigint AND s.seq < $3::bigint
    AND s.seq >= CASE WHEN $5::boolean THEN e.low_seq ELSE 0 END
  ORDER BY s.seq ${direction} LIMIT $4::bigint`;

const QUEUES = '(SELECT eq.no, eq.low_seq FROM queues eq WHERE $1::text IS NULL OR eq.name = $1) e';

const find = (direction: 'ASC' | 'DESC'): string => `
SELECT t.id, t.seq::text AS seq, t.payload_bytes, t.failure, q.name AS queue, k.name
FROM (
  SELECT f.* FROM ${QUEUES}
  CROSS JOIN LATERAL (
    SELECT s.id, s.seq, s.queue_no, s.kind_no, octet_length(s.payload) AS payload_bytes,
      CASE WHEN $12::boolean THEN ${shortFailure('s')} END AS failure
    FROM (${walk('*', direction)}) s
    WHERE ($7::text IS NULL OR EXISTS (SELECT FROM kinds n WHERE n.no = s.kind_no AND n.name = $7))
      AND ($8::text[] IS NULL OR ${STATE_NAME('s')} = ANY ($8::text[]))
      AND ($9::float8 IS NULL OR s.enqueued_at >= to_timestamp($9::float8 / 1000))
      AND ($10::float8 IS NULL OR s.enqueued_at < to_timestamp($10::float8 / 1000))
      AND ($11::integer IS NULL OR (s.state = 1 AND (s.lease >> 32) = $11::integer))
      AND (NOT $12::boolean OR s.failures IS NOT NULL)
      AND ($13::text IS NULL OR strpos(lower(s.failures[cardinality(s.failures)] COLLATE "C"), $13::text) > 0)
      AND NOT ($14::boolean AND s.state = 1 AND s.cancel_requested)
    ORDER BY s.seq ${direction} LIMIT $6::bigint
  ) f
  ORDER BY f.seq ${direction} LIMIT $6::bigint
) t JOIN kinds k ON k.no = t.kind_no JOIN queues q ON q.no = t.queue_no ORDER BY t.seq ${direction}`;

export const FIND_OLDEST = find('ASC');
export const FIND_NEWEST = find('DESC');

const cutOf = (direction: 'ASC' | 'DESC', first: string, last: string): string => `
SELECT ${first}(s.last)::text AS cut FROM ${QUEUES}
CROSS JOIN LATERAL (SELECT ${last}(seq) AS last, count(*) AS count FROM (${walk('s.seq', direction)}) s) s
WHERE s.count = $4::bigint`;

export const CUT_OLDEST = cutOf('ASC', 'min', 'max');
export const CUT_NEWEST = cutOf('DESC', 'max', 'min');

const END = `
SELECT (coalesce(max(l.seq), 0) + 1)::text AS end FROM queues q
CROSS JOIN LATERAL (SELECT max(seq) AS seq FROM tasks t WHERE t.queue_no = q.no) l`;
