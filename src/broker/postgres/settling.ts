/** What followed from ends that one statement recorded: see relations-schema.ts. */
export interface Settled {
  /** Queues in which something has ended, or may be forgotten. */
  readonly queues: readonly number[];
  /** Of the outbox, with the tasks that wait no longer. */
  readonly entries: readonly string[];
  /** Pairs of queue and how many. */
  readonly cancelled: readonly (readonly (readonly [number, number])[])[];
}

/** For what a statement returns of each task `t` that it changed: nothing for a task without relatives. */
export const RELATED = 'CASE WHEN t.children IS NOT NULL THEN t.id END AS related';

/** Over the rows of tasks that have ended; null when none of them has relatives. */
export const SETTLED =
  'CASE WHEN count(related) > 0 THEN settle(array_agg(related) FILTER (WHERE related IS NOT NULL)) END';

export function settledOf(settled: unknown): Settled | undefined {
  return settled === null || settled === undefined ? undefined : (settled as Settled);
}

/** How many tasks of the queue were cancelled because of what they depended on. */
export function cancelledIn(settled: unknown, queueNo: number): number {
  let count = 0;
  for (const [queue, more] of settledOf(settled)?.cancelled.flat() ?? []) if (queue === queueNo) count += more;
  return count;
}
