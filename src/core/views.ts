import type { Core } from './core.ts';
import { NONE, State } from './task-table.ts';

/** Questions about a core that change nothing. */

/** Where a completed task's result lies. */
export function resultOf(core: Core, slot: number): { segment: number; offset: number } | undefined {
  if (core.table.state(slot) !== State.COMPLETED) return undefined;
  const { finished } = core.kindOf(slot).queue;
  const segment = finished.resultSegment(slot);
  return segment === NONE ? undefined : { segment, offset: finished.resultOffset(slot) };
}

/** When a scheduled task is due, or when a finished one ended; 0 for others. */
export function timeOf(core: Core, slot: number): number {
  const state = core.table.state(slot);
  if (state === State.SCHEDULED) return core.dueMs(slot);
  if (state < State.COMPLETED) return 0;
  const { dead, finished } = core.kindOf(slot).queue;
  return (state === State.DEAD ? dead : finished).finishedAtMs(slot);
}

/**
 * The ready and scheduled tasks of a queue in the order of their ids, among the `countMax` tasks of all queues from `from`
 * on; `next` is where to go on, if there is more.
 */
export function waitingIds(
  core: Core,
  name: string,
  from: number,
  countMax: number,
): { ids: number[]; next: number | undefined } {
  const queue = core.queues.get(name);
  const ids: number[] = [];
  let next: number | undefined;
  let count = 0;
  if (queue === undefined || queue.ready + queue.scheduled === 0) return { ids, next };
  core.index.scan(from, (id, slot) => {
    if (count++ >= countMax) {
      next = id;
      return false;
    }
    const state = core.table.state(slot);
    if ((state === State.READY || state === State.SCHEDULED) && core.kindOf(slot).queue === queue) ids.push(id);
    return true;
  });
  return { ids, next };
}

/** The dead tasks of a queue, longest dead first. */
export function deadIds(core: Core, name: string): number[] {
  const ids: number[] = [];
  core.queue(name).dead.forEach((slot) => {
    ids.push(core.table.id(slot));
  });
  return ids;
}
