import type { TaskFilter, TaskState } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkInteger, checkName, LIMITS } from '../limits.ts';

export type { TaskFilter };

/** What of a filter only says where to go on, and how far. */
const PAGING = ['order', 'after', 'limit'];
const NAMES = ['queue', 'name', 'state', 'error', 'errorGroup', 'fromMs', 'toMs', 'worker', ...PAGING];
const STATES: readonly string[] = ['scheduled', 'blocked', 'ready', 'active', 'completed', 'dead', 'cancelled'];
const ORDERS: readonly string[] = ['oldest', 'newest'];
/** The last moment that a Date can be. */
const WALL_MS_MAX = 8.64e15;

/** A change of many tasks, and the states in which it can be done. */
export type BulkAct = keyof typeof BULK_STATES;
export const BULK_STATES = {
  retried: ['dead', 'scheduled'],
  cancelled: ['scheduled', 'blocked', 'ready', 'active'],
} as const satisfies Record<string, readonly TaskState[]>;

/** Of whoever looks for tasks. What is undefined is left out. Throws INVALID_ARGUMENT. */
export function parseTaskFilter(given: object): TaskFilter {
  const named = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of named) check(name, value);
  const filter = Object.fromEntries(named) as TaskFilter;
  const { fromMs, toMs } = filter;
  if (fromMs === undefined || toMs === undefined || fromMs < toMs) return filter;
  throw new MillraceError('INVALID_ARGUMENT', `fromMs is ${fromMs} and toMs is ${toMs}, which must be later`, {
    details: { fromMs, toMs },
  });
}

/** Of whoever changes what it names. Throws INVALID_ARGUMENT, also for a filter that names nothing. */
export function parseBulkFilter(given: object, act: BulkAct): TaskFilter {
  const filter = parseTaskFilter(given);
  if (Object.keys(filter).every((name) => PAGING.includes(name))) {
    const message = `a filter for what is to be ${act} must name something beside ${PAGING.join(', ')}: with fromMs 0 it names all tasks`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const states: readonly string[] = BULK_STATES[act];
  if (filter.state !== undefined && !states.includes(filter.state)) {
    const message = `state is ${shown(filter.state)}; only tasks that are ${states.join(' or ')} can be ${act}`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  return filter;
}

function check(name: string, value: unknown): void {
  switch (name) {
    case 'queue':
    case 'name':
    case 'errorGroup':
    case 'worker':
      checkText(name, value);
      break;
    case 'after':
      checkName(name, value, LIMITS.taskIdBytesMax);
      break;
    case 'error':
      checkText(name, value);
      checkInteger('the number of characters of error', value.length, 1, LIMITS.errorTextCharactersMax);
      break;
    case 'state':
      checkChoice(name, value, STATES);
      break;
    case 'order':
      checkChoice(name, value, ORDERS);
      break;
    case 'fromMs':
    case 'toMs':
      checkInteger(name, value, 0, WALL_MS_MAX);
      break;
    case 'limit':
      checkInteger(name, value, 1, LIMITS.listPageMax);
      break;
    default:
      throw new MillraceError('INVALID_ARGUMENT', `there is no filter ${shown(name)}; there are ${NAMES.join(', ')}`);
  }
}

function checkText(what: string, value: unknown): asserts value is string {
  if (typeof value === 'string') return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} must be text, not ${shown(value)}`);
}

function checkChoice(what: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.includes(value as string)) return;
  throw new MillraceError('INVALID_ARGUMENT', `${what} is ${shown(value)}; allowed are ${allowed.join(', ')}`);
}
