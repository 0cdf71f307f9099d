import { LIMITS } from '../../limits.ts';
import type { Republish, Unpublished } from '../store.ts';
import type { Database } from './database.ts';
import { headersOf, msOf, textArray } from './encode.ts';
import { SPEC_COLUMNS, specOf } from './kinds.ts';
import type { Row } from './lane.ts';
import { LazyWrites } from './lazy-writes.ts';

/** Candidates that one sweep looks at: after a crash there may be very many entries of one task each. */
const CANDIDATES = 500;

/**
 * What is to be published and perhaps was not: an entry names tasks, and is deleted when their messages are confirmed.
 *
 *   made with the change ──published──▶ gone
 *        │  older than …                  ▲
 *        └──────────────▶ claimed ────────┘
 *               ▲             │ not published in time
 *               └─────────────┘
 *
 * Publishing twice does no harm, `begin` drops the copy: so an entry need not know which of its tasks were published. What
 * the broker did not take stays in it alone, so that the others are not published again each time.
 */
export class Outbox {
  readonly #database: Database;
  /** With what is left of each. */
  readonly #done: LazyWrites<readonly string[]>;

  constructor(database: Database) {
    this.#database = database;
    this.#done = new LazyWrites(database, async (entries) => {
      const names = textArray([...entries.keys()]);
      const left = [...new Set([...new Set(entries.values())].flat())];
      if (left.length === 0) await database.query('lazy', DELETE, [names]);
      else await database.query('lazy', KEEP, [names, textArray(left)]);
    });
  }

  published({ entries }: Unpublished, left: readonly string[] = NONE): void {
    for (const entry of entries) this.#done.add(entry, left);
  }

  flushed(): Promise<void> {
    return this.#done.flushed();
  }

  /** After an unknown outcome what was claimed waits until the claim is over. */
  async sweep(olderThanMs: number): Promise<Republish> {
    for (;;) {
      const rows = await this.#database.query('lazy', CLAIM, [olderThanMs]);
      if (rows.length === 0) return { entries: [], tasks: [] };
      const entries = rows.map((row) => row.entry as string);
      const tasks = await this.read(rows.flatMap((row) => row.ids as string[]));
      if (tasks.length > 0) return { entries, tasks };
      await this.#database.query('lazy', DELETE, [textArray(entries)]);
    }
  }

  /** As many of the entries as may be published at once; none that are gone. */
  async reread({ entries }: Unpublished): Promise<Republish> {
    const rows = await this.#database.query('durable', REREAD, [textArray(entries)]);
    return {
      entries: rows.map((row) => row.entry as string),
      tasks: await this.read(rows.flatMap((row) => row.ids as string[])),
    };
  }

  /** Those of the tasks that wait to be begun: what has ended, or runs, needs no message. */
  async read(ids: readonly string[]): Promise<Republish['tasks']> {
    const rows = await this.#database.query('durable', READ, [textArray(ids)]);
    return rows.map(republished);
  }
}

function republished(row: Row): Republish['tasks'][number] {
  return {
    id: row.id as string,
    spec: specOf(row),
    payload: row.payload as Buffer,
    headers: headersOf(row.headers),
    attempt: row.attempt as number,
    enqueuedAtMs: Math.round(row.enqueued_at_ms as number),
    runAtMs: row.run_at_ms === null ? undefined : Math.round(row.run_at_ms as number),
  };
}

const NONE: readonly string[] = [];

const DELETE = 'DELETE FROM outbox WHERE entry = ANY ($1::text[])';

const KEEP = `
WITH gone AS (DELETE FROM outbox WHERE entry = ANY ($1::text[]) AND NOT ids && $2::text[])
UPDATE outbox SET ids = ARRAY(SELECT unnest(ids) INTERSECT SELECT unnest($2::text[]))
WHERE entry = ANY ($1::text[]) AND ids && $2::text[]`;

const CLAIM = `
WITH candidates AS (
  SELECT entry, bytes, cardinality(ids) AS tasks, created_at FROM outbox
  WHERE created_at < now() - $1::float8 * interval '1 millisecond' AND (claimed_until IS NULL OR claimed_until < now())
  ORDER BY created_at LIMIT ${CANDIDATES} FOR UPDATE SKIP LOCKED
), counted AS (
  SELECT entry, sum(tasks) OVER (ORDER BY created_at, entry) AS tasks, sum(bytes) OVER (ORDER BY created_at, entry) AS bytes,
         row_number() OVER (ORDER BY created_at, entry) AS n
  FROM candidates
)
UPDATE outbox o SET claimed_until = now() + ${LIMITS.storeClaimMs} * interval '1 millisecond'
FROM counted c
WHERE c.entry = o.entry
  AND (c.n = 1 OR (c.tasks <= ${LIMITS.storePortionTasks} AND c.bytes <= ${LIMITS.storePortionBytes}))
RETURNING o.entry, array_to_json(o.ids) AS ids`;

const REREAD = `
SELECT entry, array_to_json(ids) AS ids FROM (
  SELECT o.entry, o.ids, a.n, row_number() OVER w AS place, sum(cardinality(o.ids)) OVER w AS tasks, sum(o.bytes) OVER w AS bytes
  FROM unnest($1::text[]) WITH ORDINALITY AS a(entry, n) JOIN outbox o ON o.entry = a.entry WINDOW w AS (ORDER BY a.n)
) s WHERE place = 1 OR (tasks <= ${LIMITS.storePortionTasks} AND bytes <= ${LIMITS.storePortionBytes})
ORDER BY n`;

const READ = `
SELECT t.id, t.payload, t.headers, t.attempt, ${msOf('t.enqueued_at')} AS enqueued_at_ms,
       CASE WHEN t.run_at > now() THEN ${msOf('t.run_at')} END AS run_at_ms, ${SPEC_COLUMNS}
FROM unnest($1::text[]) WITH ORDINALITY AS a(id, n)
JOIN tasks t ON t.id = a.id JOIN kinds k ON k.no = t.kind_no JOIN queues q ON q.no = t.queue_no
WHERE t.state = 0 ORDER BY a.n`;
