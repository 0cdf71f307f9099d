import { MillraceError, shown } from '../../errors.ts';
import type { TaskInfo } from '../contract.ts';

/** How rows of tasks are read, wherever they are. */
export const STATE_NAME = (t: string): string =>
  `CASE ${t}.state WHEN 0 THEN CASE WHEN ${t}.run_at > now() THEN 'scheduled' ELSE 'ready' END
    WHEN 1 THEN 'active' WHEN 2 THEN 'completed' WHEN 3 THEN 'dead' WHEN 4 THEN 'cancelled' WHEN 5 THEN 'blocked' END`;

export function failuresOf(texts: unknown): TaskInfo['failures'] {
  return ((texts ?? []) as string[]).map((text) => {
    const failure = JSON.parse(text) as TaskInfo['failures'][number];
    return { ...failure, atMs: Math.round(failure.atMs) };
  });
}

/** The newest failure of a task, undefined when it has none. */
export function newestFailureOf(text: unknown): TaskInfo['failures'][number] | undefined {
  return failuresOf(text === null ? [] : [text])[0];
}

/**
 * The newest failure without its stack, which is most of it. Quotes inside of texts are written with a backslash, so that
 * what is looked for is nothing but the end of one member and the begin of the next.
 */
export function shortFailure(t: string): string {
  const text = `${t}.failures[cardinality(${t}.failures)]`;
  const stack = `strpos(${text}, '","stack":"')`;
  return `CASE WHEN ${stack} > 0 THEN left(${text}, ${stack}) || '}}' ELSE ${text} END`;
}

export function notFound(id: string): MillraceError {
  return new MillraceError('NOT_FOUND', `task ${shownId(id)} does not exist, or has ended and is no longer retained`, {
    details: { id },
  });
}

export function shownId(id: string): string {
  return /^[\w.:~-]{1,64}$/.test(id) ? id : shown(id);
}
