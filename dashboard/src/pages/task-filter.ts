import type { Status } from '../api/types.ts';
import type { BulkFilter } from './bulk.ts';

/** What the address of the page says about which tasks; times in milliseconds since 1970, as text. */
export type TaskQuery = Readonly<Record<string, string | undefined>>;

export const PAGE_TASKS = 100;

/** What both a list and a change of many are asked with. */
export function filterOf({ queue, name, state, error, errorGroup, worker, from, to }: TaskQuery): BulkFilter {
  const filter = {
    queue,
    name,
    state,
    error,
    errorGroup,
    worker,
    fromMs: from === undefined ? undefined : Number(from),
    toMs: to === undefined ? undefined : Number(to),
  };
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined && value !== ''));
}

/** A change of many must name something; all that there are were enqueued since 1970. */
export function bulkFilterOf(query: TaskQuery): BulkFilter {
  const filter = filterOf(query);
  return Object.keys(filter).length === 0 ? { fromMs: 0 } : filter;
}

/**
 * How a page is asked for. `after` and `before` are cursors in the order that is shown; a page before one is asked for in
 * the other order and turned around.
 */
export function pageQueryOf(query: TaskQuery, canSearch: boolean): Record<string, string | number | undefined> {
  const { after, before, order = 'newest' } = query;
  const isTurned = before !== undefined;
  const asked = isTurned ? (order === 'newest' ? 'oldest' : 'newest') : order;
  return {
    ...filterOf(query),
    ...(canSearch ? { order: asked } : {}),
    after: isTurned ? before : after,
    limit: PAGE_TASKS,
  };
}

/** How many a filter of queue and state names; undefined when only the server could count them. */
export function countOf(query: TaskQuery, status: Status | undefined): number | undefined {
  const { queue, state, ...others } = filterOf(query);
  if (status === undefined || Object.keys(others).length > 0) return undefined;
  const states = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'] as const;
  const counted = states.filter((one) => state === undefined || one === state);
  return status.queues
    .filter(({ name }) => queue === undefined || name === queue)
    .reduce((sum, row) => sum + counted.reduce((part, one) => part + row[one], 0), 0);
}
