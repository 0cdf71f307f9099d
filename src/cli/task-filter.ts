import type { TaskFilter } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';
import { choice, type Flag, flag, MOMENT, momentMs, text, toggle, type Values } from './flags.ts';
import { formatTime } from './units.ts';

const STATES = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'] as const;

/** Of every command that looks for tasks. */
export const FILTER_FLAGS = {
  queue: flag(text('queue'), 'only of this queue'),
  name: flag(text('name'), 'only with this task name'),
  state: flag(choice(...STATES), 'only in this state'),
  error: flag(
    text('text'),
    `only with this text in the newest error’s name, message or code (at most ${LIMITS.errorTextCharactersMax} characters)`,
  ),
  errorGroup: flag(text('group'), 'only of this group of "millrace task dead"'),
  from: flag(MOMENT, 'only those enqueued then or later'),
  to: flag(MOMENT, 'only those enqueued before'),
  worker: flag(text('id'), 'only what this worker runs; "millrace status --json" has the ids'),
  newest: toggle('the newest first'),
} satisfies Record<string, Flag<unknown>>;

/** As the client takes it; what is not given is left out. */
export function taskFilter(values: Values<typeof FILTER_FLAGS>, nowMs: number): Omit<TaskFilter, 'after' | 'limit'> {
  const { queue, name, state, error, errorGroup, from, to, worker, newest } = values;
  const filter = {
    ...{ queue, name, state, error, errorGroup, worker },
    fromMs: from === undefined ? undefined : momentMs(from, nowMs),
    toMs: to === undefined ? undefined : momentMs(to, nowMs),
    order: newest ? ('newest' as const) : undefined,
  };
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));
}

/** What a filter names, for a question: `queue "mail", error "timeout"`. */
export function describeFilter(filter: Omit<TaskFilter, 'after' | 'limit'>): string {
  const { order: _, fromMs, toMs, ...texts } = filter;
  const parts = Object.entries(texts).map(([what, value]) => `${WORDS[what] ?? what} ${JSON.stringify(value)}`);
  if (fromMs !== undefined) parts.push(`enqueued from ${formatTime(fromMs)} on`);
  if (toMs !== undefined) parts.push(`enqueued before ${formatTime(toMs)}`);
  return parts.join(', ');
}

const WORDS: Readonly<Record<string, string>> = { errorGroup: 'error group' };
