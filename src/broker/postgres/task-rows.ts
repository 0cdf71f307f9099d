import { MillraceError, shown } from '../../errors.ts';
import type { TaskInfo } from '../contract.ts';

/** How rows of tasks are read, wherever they are. */
export const STATE_NAME = (t: string): string =>
  `CASE ${t}.state WHEN 0 THEN CASE WHEN ${t}.run_at > now() THEN 'scheduled' ELSE 'ready' END
    WHEN 1 THEN 'active' WHEN 2 THEN 'completed' WHEN 3 THEN 'dead' WHEN 4 THEN 'cancelled' WHEN 5 THEN 'blocked' END`;

export function failuresOf(texts: unknown): TaskInfo['failures'] {
  return ((texts ?? []) as string[]).map((text) => {
    const { attempt, atMs, error } = JSON.parse(text) as TaskInfo['failures'][number];
    return { attempt, atMs: Math.round(atMs), error };
  });
}

export function notFound(id: string): MillraceError {
  return new MillraceError('NOT_FOUND', `task ${shownId(id)} does not exist, or has ended and is no longer retained`, {
    details: { id },
  });
}

export function shownId(id: string): string {
  return /^[\w.:~-]{1,64}$/.test(id) ? id : shown(id);
}
