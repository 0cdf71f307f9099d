import type { Grant } from '../access/grant.ts';
import { shareOf } from '../access/share.ts';
import type { Core } from '../core/core.ts';
import type { Queue } from '../core/queue.ts';
import { scheduleBytes } from '../core/schedules.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/** Of what the server holds, how much there may be, is, and is of one queue. */
interface Held {
  readonly what: string;
  readonly limit: number;
  total(core: Core): number;
  of(core: Core, queue: Queue): number;
}

const HELD = {
  tasks: {
    what: 'tasks',
    limit: LIMITS.tasksMax,
    total: ({ table }) => table.count,
    of: (_core, { ready, active, scheduled, blocked, endedCount: { finished, dead } }) =>
      ready + active + scheduled + blocked + finished + dead,
  },
  kinds: {
    what: 'different combinations of queue, name and options',
    limit: LIMITS.kindsMax,
    total: ({ kindCount }) => kindCount,
    of: (_core, { kindCount }) => kindCount,
  },
  dependencies: {
    what: 'dependencies',
    limit: LIMITS.relationsMax,
    total: ({ relations }) => relations.edgeCount,
    of: ({ relations }, { name }) => relations.edgesOf(name),
  },
  uniqueKeys: {
    what: 'unique keys',
    limit: LIMITS.uniqueKeysMax,
    total: ({ relations }) => relations.uniqueCount,
    of: ({ relations }, { name }) => relations.uniquesOf(name),
  },
} as const satisfies Record<string, Held>;

export type HeldKind = keyof typeof HELD;

/**
 * What of the server who may use some queues only may fill: half of each limit, by what is in his queues. As long as all
 * together have not filled half of it, nothing is counted. Whoever may use all queues has the limits themselves.
 */
export class Room {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Throws QUEUE_FULL when so much more would be more than is for the grant. */
  check(grant: Grant, kind: HeldKind, more: number): void {
    const { what, limit, total, of }: Held = HELD[kind];
    const bound = shareOf(limit);
    if (grant.ofAllQueues || more === 0 || total(this.#core) + more <= bound) return;
    let own = more;
    for (const queue of this.#core.queues.values()) if (grant.covers(queue.name)) own += of(this.#core, queue);
    if (own > bound) throw full(own, what, bound);
  }

  /** Queues that are to be there from now on, or once a schedule fires. Throws QUEUE_FULL. */
  checkQueues(grant: Grant, names: Iterable<string>): void {
    if (grant.ofAllQueues) return;
    const { queues, schedules } = this.#core;
    const own = new Set<string>();
    for (const name of names) if (!queues.has(name)) own.add(name);
    const bound = shareOf(LIMITS.queuesMax);
    if (own.size === 0 || queues.size + schedules.count + own.size <= bound) return;
    for (const queue of queues.values()) if (!queue.unused && grant.covers(queue.name)) own.add(queue.name);
    for (const { spec } of schedules.values()) if (grant.covers(spec.queue)) own.add(spec.queue);
    if (own.size > bound) throw full(own.size, 'queues', bound);
  }

  /** A schedule that is to be set, and takes so many bytes; `bytesMax` is for all schedules. Throws QUEUE_FULL. */
  checkSchedule(grant: Grant, name: string, bytes: number, bytesMax: number): void {
    const { schedules } = this.#core;
    const [countBound, bytesBound] = [shareOf(LIMITS.schedulesMax), shareOf(bytesMax)];
    if (grant.ofAllQueues || (schedules.count < countBound && schedules.bytes + bytes <= bytesBound)) return;
    let count = 1;
    let sum = bytes;
    for (const schedule of schedules.values()) {
      if (schedule.name === name || !grant.covers(schedule.spec.queue)) continue;
      count++;
      sum += scheduleBytes(schedule);
    }
    if (count > countBound) throw full(count, 'schedules', countBound);
    if (sum > bytesBound) throw full(sum, 'bytes of schedules', bytesBound);
  }
}

function full(count: number, what: string, bound: number): MillraceError {
  const message = `the queues of these credentials would have ${count} ${what}; at most ${bound} are for those who may use some queues only: use fewer, or let tasks end and lower the retention of their queues`;
  return new MillraceError('QUEUE_FULL', message, { details: { count, bound } });
}
