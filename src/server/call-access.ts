import type { Grant, Role } from '../access/grant.ts';
import { visibleStatus } from '../access/visible.ts';
import { SCHEDULE_OVERHEAD_BYTES } from '../core/schedules.ts';
import type { Engine } from '../engine/engine.ts';
import { MillraceError, shown } from '../errors.ts';
import { parseTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { checkTask } from './admission.ts';
import type { Call } from './calls.ts';
import { parseQueueName } from './messages.ts';
import { Room } from './room.ts';
import { parseScheduleName } from './schedule-calls.ts';

/**
 * What a call is about, and so whose queue is looked at:
 *
 * - `queue`: of the queue that it names.
 * - `task`: of the task that it names.
 * - `filter`: of the queue of its filter; without one all queues.
 * - `schedule`: of the queue into which the schedule enqueues, and would by what is set now.
 * - `queues`: of all queues that it names, and of all that there are when it names none.
 * - `each`: of all; the answer shows what the caller may see.
 */
type Subject = 'queue' | 'queues' | 'task' | 'filter' | 'schedule' | 'each';

interface Need {
  readonly roles: readonly Role[];
  readonly of: Subject;
}

const READ: readonly Role[] = ['read'];
const OPERATE: readonly Role[] = ['operate'];
const operate = (of: Subject): Need => ({ roles: OPERATE, of });

/** Of every method of CALL; one that is missing here is refused to all but those who may operate everything. */
export const CALL_NEEDS: Readonly<Record<string, Need>> = {
  // A worker, and a supervisor of workers, look at how their queues are doing.
  status: { roles: ['read', 'work'], of: 'each' },
  'task.get': { roles: READ, of: 'task' },
  'task.state': { roles: ['produce', 'work', 'read'], of: 'task' },
  // A handler asks for the results of what its task depends on.
  'task.parents': { roles: ['read', 'work'], of: 'task' },
  'task.list': { roles: READ, of: 'filter' },
  'task.deadGroups': { roles: READ, of: 'filter' },
  'task.cancel': operate('task'),
  'task.retry': operate('task'),
  'task.cancelMany': operate('filter'),
  'task.retryMany': operate('filter'),
  'queue.pause': operate('queue'),
  'queue.resume': operate('queue'),
  'queue.purge': operate('queue'),
  'queue.redrive': operate('queue'),
  'queue.limit': operate('queue'),
  'queue.retention': operate('queue'),
  'schedule.get': { roles: READ, of: 'schedule' },
  'schedule.list': { roles: READ, of: 'each' },
  'schedule.set': operate('schedule'),
  'schedule.pause': operate('schedule'),
  'schedule.resume': operate('schedule'),
  'schedule.remove': operate('schedule'),
  'schedule.run': operate('schedule'),
  'scaling.report': { roles: ['work'], of: 'queues' },
};

/**
 * Throws FORBIDDEN, NOT_FOUND for a task or schedule that is not there, or of another queue, and INVALID_ARGUMENT for what should name
 * one and does not. What else is wrong with a call its method says.
 */
export function checkCall(grant: Grant, engine: Engine, { method, params, bytes }: Call): void {
  const need = Object.hasOwn(CALL_NEEDS, method) ? CALL_NEEDS[method] : undefined;
  if (need === undefined) {
    grant.checkWhole(OPERATE, 'a call');
    return;
  }
  const { roles, of } = need;
  grant.checkRole(roles, method);
  if (grant.ofAllQueues) return;
  const named = queueNamed(params);
  switch (of) {
    case 'queue':
    case 'filter':
      if (named === undefined) grant.checkWhole(roles, method);
      else {
        grant.check(roles, named, method);
        // What is set of a queue that is not there makes it.
        if (of === 'queue') new Room(engine.core).checkQueues(grant, [named]);
      }
      break;
    case 'queues':
      checkQueues(grant, roles, params.queues, method);
      break;
    case 'task':
      checkTask(grant, engine, roles, parseTaskId(params.id), method);
      break;
    case 'schedule':
      if (named !== undefined) grant.check(roles, named, method);
      checkSchedule(grant, engine, parseScheduleName(params.name), method);
      if (method === 'schedule.set') checkScheduleRoom(grant, engine, params, bytes);
      break;
    default:
      break;
  }
  // What is kept for outcomes is for everybody: whoever changes things again and again must not use it up.
  if (roles === OPERATE && !FREEING.includes(method) && !engine.journal.hasRoom(LIMITS.callBytesMax, 'task')) {
    throw new MillraceError('DISK_FULL', `the disk is full: ${method} waits until there is room`);
  }
}

/** As often as there is something that they end. */
const FREEING = ['task.cancel', 'task.cancelMany', 'queue.purge', 'queue.resume', 'schedule.remove'];

function checkQueues(grant: Grant, roles: readonly Role[], queues: unknown, method: string): void {
  if (!Array.isArray(queues) || queues.length === 0) grant.checkWhole(roles, method);
  else for (const queue of queues) grant.check(roles, parseQueueName(queue), method);
}

/** That a name is taken is told to who would take it: all schedules share them. */
function checkSchedule(grant: Grant, engine: Engine, name: string, method: string): void {
  const queue = engine.core.schedules.get(name)?.spec.queue;
  if (queue !== undefined ? grant.covers(queue) : method === 'schedule.set') return;
  if (method === 'schedule.set') throw grant.taken(`schedule ${shown(name)}`);
  throw grant.unseen(`schedule ${shown(name)}`);
}

/** What it takes is at most what its call took. */
function checkScheduleRoom(grant: Grant, engine: Engine, params: Record<string, unknown>, callBytes: number): void {
  const room = new Room(engine.core);
  const queue = queueNamed(params);
  if (queue !== undefined) room.checkQueues(grant, [queue]);
  const bytes = callBytes + SCHEDULE_OVERHEAD_BYTES;
  room.checkSchedule(grant, parseScheduleName(params.name), bytes, engine.scheduler.bytesMax);
}

function queueNamed({ queue }: Record<string, unknown>): string | undefined {
  return queue === undefined ? undefined : parseQueueName(queue);
}

interface ScheduleList {
  readonly schedules: readonly { readonly queue: string }[];
}

/** What of the answer of a call about all queues is the caller's to see. */
export function visibleTo(grant: Grant, { method }: Call, value: unknown): unknown {
  if (grant.ofAllQueues) return value;
  if (method === 'status') return visibleStatus(value as Parameters<typeof visibleStatus>[0], grant);
  if (method !== 'schedule.list') return value;
  return { schedules: (value as ScheduleList).schedules.filter(({ queue }) => grant.covers(queue)) };
}
