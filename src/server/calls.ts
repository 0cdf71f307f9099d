import { STATE_NAMES } from '../core/task-table.ts';
import type { Engine } from '../engine/engine.ts';
import type { ActiveDetails } from '../engine/inspect.ts';
import { inspectTask, listTasks, readParents } from '../engine/inspect.ts';
import { MillraceError, shown } from '../errors.ts';
import { parseTaskId } from '../ids.ts';
import { LIMITS, parseQueueLimits, parseRetention } from '../limits.ts';
import { parseInteger, parseQueueName } from './messages.ts';
import { scheduleMethods } from './schedule-calls.ts';

/** A CALL frame: a method by name, with its parameters in one object. */
export interface Call {
  method: string;
  params: Record<string, unknown>;
}

export function call(message: Record<string, unknown>): Call {
  const { method, params = {} } = message;
  if (typeof method !== 'string') throw new MillraceError('INVALID_ARGUMENT', 'a CALL must name its method');
  if (typeof params !== 'object' || params === null || Array.isArray(params)) {
    throw new MillraceError('INVALID_ARGUMENT', `the params of ${shown(method)} must be an object`);
  }
  return { method, params: params as Record<string, unknown> };
}

export type Method = (params: Record<string, unknown>) => unknown;

const STATES: readonly string[] = STATE_NAMES.slice(1);

/** The methods of CALL; docs/protocol.md lists them. */
export function createMethods(engine: Engine, details: ActiveDetails, status: () => unknown): Map<string, Method> {
  const { commands } = engine;
  return new Map<string, Method>([
    ['status', () => status()],
    ['task.get', ({ id }) => inspectTask(engine, parseTaskId(id), details)],
    [
      'task.parents',
      ({ id, from }) => readParents(engine, parseTaskId(id), parseInteger('from', from, 0, LIMITS.dependenciesMax)),
    ],
    ['task.list', (params) => listTasks(engine, parseFilter(params), details)],
    ['task.cancel', ({ id }) => ({ outcome: commands.cancel(parseTaskId(id)) })],
    [
      'task.retry',
      ({ id }) => {
        commands.retry(parseTaskId(id));
      },
    ],
    [
      'queue.pause',
      ({ queue }) => {
        commands.pauseQueue(parseQueueName(queue));
      },
    ],
    [
      'queue.resume',
      ({ queue }) => {
        commands.resumeQueue(parseQueueName(queue));
      },
    ],
    ['queue.purge', async ({ queue }) => ({ count: await commands.purgeQueue(parseQueueName(queue)) })],
    ['queue.redrive', async ({ queue }) => ({ count: await commands.redriveQueue(parseQueueName(queue)) })],
    ['queue.limit', ({ queue, ...change }) => commands.setLimits(parseQueueName(queue), parseQueueLimits(change))],
    ['queue.retention', ({ queue, ...change }) => commands.setRetention(parseQueueName(queue), parseRetention(change))],
    ...scheduleMethods(engine.scheduler),
  ]);
}

export function runMethod(methods: ReadonlyMap<string, Method>, { method, params }: Call): unknown {
  const run = methods.get(method);
  if (run === undefined) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `there is no method ${shown(method)}; there are: ${[...methods.keys()].join(', ')}`,
    );
  }
  return run(params);
}

function parseFilter(params: Record<string, unknown>): Parameters<typeof listTasks>[1] {
  const { queue, name, state, after, limit, ...others } = params;
  const [other] = Object.keys(others);
  if (other !== undefined) {
    const message = `there is no filter ${shown(other)}; there are queue, name, state, after, limit`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (state !== undefined && !STATES.includes(state as string)) {
    throw new MillraceError('INVALID_ARGUMENT', `state is ${shown(state)}; allowed are ${STATES.join(', ')}`);
  }
  return {
    queue: optionalText('queue', queue),
    name: optionalText('name', name),
    state: state as string | undefined,
    after: optionalText('after', after),
    limit: limit === undefined ? undefined : parseInteger('limit', limit, 1, LIMITS.listPageMax),
  };
}

function optionalText(what: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  throw new MillraceError('INVALID_ARGUMENT', `${what} must be text, not ${shown(value)}`);
}
