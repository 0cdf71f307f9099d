import { LIMITS, NO_LIMITS } from '../../limits.ts';
import type { Percentiles, QueueStatus, WorkerStatus } from '../contract.ts';
import type { StoreStatus, WorkerBeat } from '../store.ts';
import type { Database } from './database.ts';
import { msOf, numberArray } from './encode.ts';
import type { Row } from './lane.ts';
import { retentionOf } from './queues.ts';
import { readSupervisors } from './supervisors.ts';
import { COUNTED } from './upkeep.ts';

/** Counts are exact at one moment; who works is what the workers said last; latencies are those of the last minute. */
export async function readStatus(database: Database): Promise<StoreStatus> {
  const [queues, [rates], beats, supervisors] = await Promise.all([
    database.query('calm', QUEUES),
    database.query('calm', THROUGHPUT, [LIMITS.storeThroughputMs]),
    database.query('calm', BEATS, [LIMITS.storeWorkerStaleMs]),
    readSupervisors(database),
  ]);
  const waiting = queues.filter((row) => (row.waiting as number) > 0).map((row) => row.no as number);
  const oldest = new Map<unknown, number>();
  if (waiting.length > 0) {
    for (const row of await database.query('calm', OLDEST, [numberArray(waiting)])) {
      oldest.set(row.no, row.age_ms as number);
    }
  }
  const workers = beats.map((row) => JSON.parse(row.beat as string) as WorkerBeat);
  return {
    queues: queues.map((row) => queueOf(row, oldest.get(row.no) ?? 0)),
    workers: workers.map((beat, index) => workerOf(beat, beats[index]?.silent_ms as number)),
    supervisors,
    throughput: rates as unknown as StoreStatus['throughput'],
    latencyMs: {
      start: together(workers.map((beat) => beat.latencyMs.start)),
      total: together(workers.map((beat) => beat.latencyMs.total)),
    },
  };
}

function queueOf(row: Row, oldestReadyMs: number): QueueStatus {
  const number = (name: string): number => row[name] as number;
  const ready = Math.max(0, number('waiting') - number('scheduled'));
  return {
    name: row.name as string,
    paused: row.paused as boolean,
    ready,
    active: number('active'),
    scheduled: number('scheduled'),
    blocked: number('blocked'),
    completed: number('completed'),
    dead: number('dead'),
    cancelled: number('cancelled'),
    oldestReadyMs: ready > 0 ? Math.max(0, Math.round(oldestReadyMs)) : 0,
    totals: {
      enqueued: number('enqueued_total'),
      completed: number('completed_total'),
      failed: number('failed_total'),
      dead: number('dead_total'),
      cancelled: number('cancelled_total'),
    },
    retention: retentionOf(row),
    limits: NO_LIMITS,
  };
}

function workerOf(beat: WorkerBeat, silentMs: number): WorkerStatus {
  const { latencyMs, started, ...worker } = beat;
  return { ...worker, queues: [...worker.queues], lastSeenMs: Math.max(0, Math.round(silentMs)) };
}

/** Percentiles cannot be added; weighted by how many each worker saw they are near enough for a glance. */
function together(each: readonly Percentiles[]): Percentiles {
  const count = each.reduce((sum, one) => sum + one.count, 0);
  const mean = (of: (one: Percentiles) => number): number =>
    count === 0 ? 0 : each.reduce((sum, one) => sum + of(one) * one.count, 0) / count;
  return { p50: mean((one) => one.p50), p95: mean((one) => one.p95), p99: mean((one) => one.p99), count };
}

const QUEUES = `
SELECT q.no, q.name, q.paused, q.completed_count_max, q.completed_age_ms, q.dead_count_max, q.dead_age_ms,
       coalesce(s.scheduled, 0)::float8 AS scheduled,
       ${[
         ...['waiting', 'blocked', 'active', 'completed', 'dead', 'cancelled'],
         ...['enqueued_total', 'completed_total', 'failed_total', 'dead_total', 'cancelled_total'],
       ]
         .map((name) => `coalesce(c.${name}, 0) AS ${name}`)
         .join(', ')}
FROM queues q LEFT JOIN ${COUNTED} ON c.queue_no = q.no
LEFT JOIN (SELECT queue_no, count(*) AS scheduled FROM tasks WHERE run_at > now() AND state = 0 GROUP BY queue_no) s
  ON s.queue_no = q.no
ORDER BY q.no`;

const THROUGHPUT = `
SELECT coalesce(sum(enqueued_total), 0)::float8 * 1000 / $1::float8 AS enqueued,
       coalesce(sum(completed_total), 0)::float8 * 1000 / $1::float8 AS completed,
       coalesce(sum(failed_total), 0)::float8 * 1000 / $1::float8 AS failed
FROM deltas WHERE at > now() - $1::float8 * interval '1 millisecond'`;

const BEATS = `
SELECT beat, ${msOf('now()')} - ${msOf('beat_at')} AS silent_ms FROM workers WHERE beat IS NOT NULL AND beat_at > now() - $1::float8 * interval '1 millisecond' ORDER BY no`;

const OLDEST = `
SELECT q.no, ${msOf('now()')} - ${msOf('t.enqueued_at')} AS age_ms
FROM queues q CROSS JOIN LATERAL (
  SELECT enqueued_at FROM tasks
  WHERE queue_no = q.no AND seq >= q.low_seq AND state = 0 AND (run_at IS NULL OR run_at <= now())
  ORDER BY seq LIMIT 1
) t WHERE q.no = ANY ($1::integer[])`;
