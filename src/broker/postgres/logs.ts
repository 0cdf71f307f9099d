import { LIMITS } from '../../limits.ts';
import type { TaskLog } from '../contract.ts';
import type { Database } from './database.ts';
import { textArray } from './encode.ts';
import { LazyWrites } from './lazy-writes.ts';

/** As stored: the last lines, each with who has logged it, and how many each worker has. */
interface StoredLog {
  lines: (TaskLog['lines'][number] & { by: string })[];
  counts: Record<string, number>;
}

/**
 * Attempts may run on any worker, and each knows what it has logged itself: that is written in place of what it has written
 * before, and beside what others have.
 */
export class Logs {
  readonly #writes: LazyWrites<{ worker: string; id: string; read: () => TaskLog | undefined }>;

  constructor(database: Database) {
    this.#writes = new LazyWrites(database, async (items) => {
      const logs = new Map<string, StoredLog>();
      for (const { worker, id, read } of items.values()) {
        const log = read();
        if (log === undefined) continue;
        const stored = logs.get(id) ?? { lines: [], counts: {} };
        for (const line of log.lines) stored.lines.push({ ...line, text: storable(line.text), by: worker });
        stored.counts[worker] = log.dropped + log.lines.length;
        logs.set(id, stored);
      }
      const ids = [...logs.keys()].sort();
      const values = ids.map((id) => JSON.stringify(logs.get(id)));
      await database.query('lazy', LOG, [textArray(ids), textArray(values)]);
    });
  }

  add(worker: string, id: string, read: () => TaskLog | undefined): void {
    this.#writes.add(`${id} ${worker}`, { worker, id, read });
  }

  flushed(): Promise<void> {
    return this.#writes.flushed();
  }
}

export function logOf(text: string): TaskLog {
  const { lines, counts } = JSON.parse(text) as StoredLog;
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return { lines: lines.map(({ atMs, attempt, text }) => ({ atMs, attempt, text })), dropped: total - lines.length };
}

/** PostgreSQL's JSON has no NUL and no half of a surrogate pair. */
function storable(text: string): string {
  return text.replaceAll('\0', '\ufffd').replaceAll(/\p{Cs}/gu, '\ufffd');
}

// The last lines of a task may be written after its end.
const LOG = `
UPDATE tasks t SET log = (
  SELECT jsonb_build_object(
    'lines', jsonb_agg(l.line ORDER BY l.back DESC) FILTER (WHERE l.back <= ${LIMITS.taskLogLinesMax}),
    'counts', coalesce(t.log::jsonb -> 'counts', '{}') || (a.value::jsonb -> 'counts')
  )::text FROM (
    SELECT e.line, row_number() OVER (ORDER BY (e.line ->> 'atMs')::float8 DESC, e.later DESC, e.n DESC) AS back FROM (
      SELECT o.line, o.n, false AS later FROM jsonb_array_elements(t.log::jsonb -> 'lines') WITH ORDINALITY AS o(line, n)
      WHERE NOT (a.value::jsonb -> 'counts') ? (o.line ->> 'by')
      UNION ALL
      SELECT w.line, w.n, true FROM jsonb_array_elements(a.value::jsonb -> 'lines') WITH ORDINALITY AS w(line, n)
    ) e
  ) l
)
FROM unnest($1::text[], $2::text[]) AS a(id, value) WHERE t.id = a.id`;
