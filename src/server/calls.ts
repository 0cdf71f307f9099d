import type { Grant } from '../access/grant.ts';
import { cancelTasks, retryTasks } from '../engine/bulk.ts';
import { deadGroups } from '../engine/dead-groups.ts';
import type { Engine } from '../engine/engine.ts';
import type { ActiveDetails } from '../engine/inspect.ts';
import { inspectTask, listTasks, readParents, stateOf } from '../engine/inspect.ts';
import { MillraceError, shown } from '../errors.ts';
import { parseTaskId } from '../ids.ts';
import { LIMITS, parseQueueLimits, parseRetention } from '../limits.ts';
import { parseScalingReport } from '../protocol/scaling-report.ts';
import { parseBulkFilter, parseTaskFilter } from '../protocol/task-filter.ts';
import { parseInteger, parseQueueName } from './messages.ts';
import { scheduleMethods } from './schedule-calls.ts';
import type { Supervisors } from './supervisors.ts';

/** A CALL frame: a method by name, with its parameters in one object. */
export interface Call {
  method: string;
  params: Record<string, unknown>;
  /** Of its frame. */
  bytes: number;
}

export function call(message: Record<string, unknown>, bytes: number): Call {
  const { method, params = {} } = message;
  if (typeof method !== 'string') throw new MillraceError('INVALID_ARGUMENT', 'a CALL must name its method');
  if (typeof params !== 'object' || params === null || Array.isArray(params)) {
    throw new MillraceError('INVALID_ARGUMENT', `the params of ${shown(method)} must be an object`);
  }
  return { method, params: params as Record<string, unknown>, bytes };
}

/** `grant` is that of whoever calls, who may call it. */
export type Method = (params: Record<string, unknown>, grant: Grant) => unknown;

/** The methods of CALL; docs/protocol.md lists them. */
export function createMethods(
  engine: Engine,
  details: ActiveDetails,
  supervisors: Supervisors,
  status: (grant: Grant) => unknown,
): Map<string, Method> {
  const { commands } = engine;
  return new Map<string, Method>([
    ['status', (_params, grant) => status(grant)],
    ['task.get', ({ id }) => inspectTask(engine, parseTaskId(id), details)],
    ['task.state', ({ id }) => stateOf(engine, parseTaskId(id))],
    [
      'task.parents',
      ({ id, from }) => readParents(engine, parseTaskId(id), parseInteger('from', from, 0, LIMITS.dependenciesMax)),
    ],
    ['task.list', (params) => listTasks(engine, parseTaskFilter(params), details)],
    ['task.retryMany', (params) => retryTasks(engine, parseBulkFilter(params, 'retried'), details)],
    ['task.cancelMany', (params) => cancelTasks(engine, parseBulkFilter(params, 'cancelled'), details)],
    ['task.deadGroups', (params) => deadGroups(engine, parseQueueFilter(params))],
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
    [
      'scaling.report',
      (params, grant) => {
        supervisors.heard(parseScalingReport(params), grant);
      },
    ],
    ...scheduleMethods(engine.scheduler),
  ]);
}

export function runMethod(methods: ReadonlyMap<string, Method>, { method, params }: Call, grant: Grant): unknown {
  const run = methods.get(method);
  if (run === undefined) {
    throw new MillraceError(
      'INVALID_ARGUMENT',
      `there is no method ${shown(method)}; there are: ${[...methods.keys()].join(', ')}`,
    );
  }
  return run(params, grant);
}

function parseQueueFilter({ queue, ...others }: Record<string, unknown>): string | undefined {
  const [other] = Object.keys(others);
  if (other !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', `there is no filter ${shown(other)}; there is queue`);
  }
  return queue === undefined ? undefined : parseQueueName(queue);
}
