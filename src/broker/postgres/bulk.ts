import { LIMITS } from '../../limits.ts';
import { BULK_STATES, type BulkAct, parseBulkFilter } from '../../protocol/task-filter.ts';
import type { BulkReport, TaskFilter, TaskState } from '../contract.ts';
import type { Store } from '../store.ts';
import { textArray } from './encode.ts';
import type { Found, Wanted } from './search.ts';
import { RELATED, SETTLED } from './settling.ts';
import type { TaskParts } from './tasks.ts';

type Retried = Awaited<ReturnType<Store['retryTasks']>>;
type Cancelled = Awaited<ReturnType<Store['cancelTasks']>>;

/** Changes of many tasks: a step looks for some, and changes those of them that are still so in one statement. */
export class Bulk {
  readonly #parts: TaskParts;

  constructor(parts: TaskParts) {
    this.#parts = parts;
  }

  /** May be repeated: the entry in the outbox tells what was retried. */
  async retry(given: TaskFilter): Promise<Retried> {
    const { found, next } = await this.#find(given, 'retried', LIMITS.storePortionTasks, publishable);
    if (found.hits.length === 0) return { count: 0, ...next(found), due: { entries: [], tasks: [] } };
    const entry = this.#parts.newEntry();
    const [row] = await this.#parts.database.query('durable', RETRY, [
      textArray(found.hits.map(({ id }) => id)),
      entry,
    ]);
    const ids = (row as { ids: string[] | null }).ids ?? [];
    const due =
      ids.length === 0 ? { entries: [], tasks: [] } : { entries: [entry], tasks: await this.#parts.outbox.read(ids) };
    return { count: ids.length, ...next(found), due };
  }

  /** Repeated after an unknown outcome, it does not count what the first one has cancelled. */
  async cancel(given: TaskFilter): Promise<Cancelled> {
    const { found, next } = await this.#find(given, 'cancelled', LIMITS.storeCancelTasksMax);
    if (found.hits.length === 0) return { count: 0, ...next(found), cancelled: [], requested: [] };
    const ids = textArray(found.hits.map(({ id }) => id));
    const [row] = await this.#parts.database.query('durable', CANCEL, [ids, this.#parts.database.settings.schema]);
    const { cancelled, requested, queues, settled } = row as {
      cancelled: string[] | null;
      requested: string[] | null;
      queues: number[] | null;
      settled: unknown;
    };
    if (queues !== null) this.#parts.ended(queues);
    this.#parts.settled(settled);
    const count = (cancelled?.length ?? 0) + (requested?.length ?? 0);
    return { count, ...next(found), cancelled: cancelled ?? [], requested: requested ?? [] };
  }

  async #find(
    given: TaskFilter,
    act: BulkAct,
    countMax: number,
    cut: (found: Found) => Found = (found) => found,
  ): Promise<{ found: Found; next: (found: Found) => Pick<BulkReport, 'next'> }> {
    const filter = parseBulkFilter(given, act);
    // What is enqueued after the first step stays as it is.
    const end = /~(\d{1,18})$/.exec(filter.after?.slice(1) ?? '')?.[1] ?? (await this.#parts.search.end());
    const wanted: Wanted = {
      filter,
      countMax: Math.min(filter.limit ?? countMax, countMax),
      states: statesOf(filter, BULK_STATES[act]),
      unasked: true,
    };
    const found = cut(await this.#parts.search.find(wanted, await this.#parts.search.range(filter, end)));
    return { found, next: ({ last }) => (last === undefined ? {} : { next: `~${last}~${end}` }) };
  }
}

function statesOf({ state, errorGroup }: TaskFilter, among: readonly TaskState[]): readonly TaskState[] {
  return among.filter(
    (each) => (state === undefined || each === state) && (errorGroup === undefined || each === 'dead'),
  );
}

/** As many of them as may be published at once. */
function publishable({ hits, last }: Found): Found {
  let bytes = 0;
  const count = hits.findIndex(({ payloadBytes }, index) => {
    bytes += payloadBytes;
    return index > 0 && bytes > LIMITS.storePortionBytes;
  });
  if (count === -1) return { hits, last };
  return { hits: hits.slice(0, count), last: hits[count - 1]?.seq };
}

const CHOSEN = 'SELECT t.id FROM tasks t WHERE t.id = ANY ($1::text[]) ORDER BY t.id FOR UPDATE';

// As for a single task.
const RETRY = `
WITH chosen AS (
  ${CHOSEN}
), changed AS (
  UPDATE tasks t SET prior = t.state, state = 0, run_at = NULL, finished_at = NULL,
    attempt = CASE WHEN t.state = 3 THEN 1 ELSE t.attempt END
  FROM chosen c WHERE t.id = c.id AND (t.state = 3 OR (t.state = 0 AND t.run_at > now()))
  RETURNING t.id, t.queue_no, t.seq, t.prior, octet_length(t.payload) AS bytes
), counted AS (
  INSERT INTO deltas (queue_no, waiting, dead)
  SELECT queue_no, count(*), -count(*) FROM changed WHERE prior = 3 GROUP BY queue_no
), lowered AS (
  UPDATE queues q SET low_seq = c.seq FROM (SELECT queue_no, min(seq) AS seq FROM changed GROUP BY queue_no) c
  WHERE q.no = c.queue_no AND q.low_seq > c.seq
), unpublished AS (
  INSERT INTO outbox (entry, ids, bytes, claimed_until)
  SELECT $2::text, array_agg(id ORDER BY seq), sum(bytes), now() + ${LIMITS.storeClaimMs} * interval '1 millisecond'
  FROM changed HAVING count(*) > 0 ON CONFLICT (entry) DO NOTHING
)
SELECT coalesce((SELECT array_to_json(array_agg(id ORDER BY seq)) FROM changed),
  (SELECT array_to_json(ids) FROM outbox WHERE entry = $2::text)) AS ids`;

const CANCEL = `
WITH chosen AS (
  ${CHOSEN}
), changed AS (
  UPDATE tasks t SET prior = t.state, cancel_requested = true,
    state = CASE WHEN t.state = 1 THEN 1 ELSE 4 END, finished_at = CASE WHEN t.state <> 1 THEN now() END
  FROM chosen c WHERE t.id = c.id AND (t.state IN (0, 5) OR (t.state = 1 AND NOT t.cancel_requested))
  RETURNING t.id, t.queue_no, t.seq, t.prior, t.state, ${RELATED}
), counted AS (
  INSERT INTO deltas (queue_no, waiting, blocked, cancelled, cancelled_total)
  SELECT queue_no, -count(*) FILTER (WHERE prior = 0), -count(*) FILTER (WHERE prior = 5), count(*), count(*)
  FROM changed WHERE state = 4 GROUP BY queue_no
), over AS (
  INSERT INTO ended (queue_no, dead, seqs)
  SELECT queue_no, false, array_agg(seq) FROM changed WHERE state = 4 GROUP BY queue_no
), asked AS (
  INSERT INTO cancels (id) SELECT id FROM changed WHERE state = 1 ON CONFLICT (id) DO NOTHING
)
SELECT array_to_json(array_agg(id) FILTER (WHERE state = 4)) AS cancelled,
  array_to_json(array_agg(id) FILTER (WHERE state = 1)) AS requested,
  array_to_json(array_agg(DISTINCT queue_no) FILTER (WHERE state = 4)) AS queues,
  count(pg_notify($2::text, 'cancel ' || id)::text) FILTER (WHERE state = 1) AS told,
  (SELECT ${SETTLED} FROM changed WHERE state = 4) AS settled
FROM changed`;
