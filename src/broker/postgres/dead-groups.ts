import { LIMITS } from '../../limits.ts';
import { DeadTally } from '../../protocol/dead-tally.ts';
import { errorKind } from '../../protocol/error-kind.ts';
import type { DeadGroups } from '../contract.ts';
import type { Database } from './database.ts';
import { msOf, numberArray } from './encode.ts';
import { newestFailureOf, shortFailure } from './task-rows.ts';
import { COUNTED } from './upkeep.ts';

/**
 * As the contract's: by what is listed of the dead for retention, those that died last first. Some of the list may have been
 * retried since: these are looked at in vain.
 */
export async function readDeadGroups(database: Database, queue: string | undefined): Promise<DeadGroups> {
  const queues = (await database.query('calm', COUNTS, [queue ?? null])) as {
    no: number;
    dead: number;
    listed: number;
  }[];
  const shares: number[] = [];
  let left: number = LIMITS.deadGroupTasksMax;
  // Those with fewest come first: what they do not need of their share, others get.
  for (const [index, { listed }] of queues.entries()) {
    const share = Math.min(listed, Math.floor(left / (queues.length - index)));
    shares.push(share);
    left -= share;
  }
  const nos = numberArray(queues.map(({ no }) => no));
  const rows = await database.query('calm', NEWEST, [nos, numberArray(shares), LIMITS.deadGroupTasksMax]);
  const tally = new DeadTally();
  for (const row of rows) {
    const error = newestFailureOf(row.failure)?.error ?? { name: 'Error', message: '', code: 'HANDLER_FAILED' };
    const kind = errorKind(row.queue as string, row.name as string, error);
    tally.add(row.id as string, Math.round(row.at_ms as number), kind);
  }
  return tally.report(rows.length >= queues.reduce((sum, { dead }) => sum + dead, 0));
}

const COUNTS = `
SELECT q.no, c.dead, coalesce(l.listed, 0)::integer AS listed FROM queues q JOIN ${COUNTED} ON c.queue_no = q.no
CROSS JOIN LATERAL (SELECT sum(cardinality(seqs)) AS listed FROM ended WHERE queue_no = q.no AND dead) l
WHERE c.dead > 0 AND ($1::text IS NULL OR q.name = $1) ORDER BY listed, q.no`;

// Entries of which those before already have as many tasks as there may be are not opened.
export const NEWEST = `
SELECT d.id, ${msOf('d.finished_at')} AS at_ms, d.failure, q.name AS queue, k.name
FROM unnest($1::integer[], $2::integer[]) AS a(no, share) JOIN queues q ON q.no = a.no
CROSS JOIN LATERAL (
  SELECT t.id, t.finished_at, t.kind_no, ${shortFailure('t')} AS failure FROM (
    SELECT b.no, b.at, s.seq, s.n FROM (
      SELECT l.no, l.at, l.seqs, sum(cardinality(l.seqs)) OVER (ORDER BY l.no DESC) - cardinality(l.seqs) AS before
      FROM (SELECT no, at, seqs FROM ended WHERE queue_no = a.no AND dead ORDER BY no DESC LIMIT a.share) l
    ) b CROSS JOIN unnest(b.seqs) WITH ORDINALITY AS s(seq, n)
    WHERE b.before < a.share ORDER BY b.no DESC, s.n DESC LIMIT a.share
  ) m
  CROSS JOIN LATERAL (
    SELECT * FROM tasks t WHERE t.queue_no = a.no AND t.seq = m.seq AND t.state = 3 AND t.finished_at = m.at OFFSET 0
  ) t
  UNION ALL
  SELECT t.id, t.finished_at, t.kind_no, ${shortFailure('t')} AS failure
  FROM (SELECT id, at FROM held WHERE queue_no = a.no AND dead LIMIT $3::integer) h
  CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.id = h.id AND t.state = 3 AND t.finished_at = h.at OFFSET 0) t
) d JOIN kinds k ON k.no = d.kind_no LIMIT $3::integer`;
