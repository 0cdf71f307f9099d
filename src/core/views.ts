import type { Core } from './core.ts';
import type { FailureOutcome } from './effects.ts';
import { backoffMs } from './kind.ts';
import { NONE, State } from './task-table.ts';

/** Questions about a core that change nothing. */

/** Where a completed task's result lies. */
export function resultOf(core: Core, slot: number): { segment: number; offset: number } | undefined {
  if (core.table.state(slot) !== State.COMPLETED) return undefined;
  const history = core.ended.historyOf(slot);
  const segment = history.resultSegment(slot);
  return segment === NONE ? undefined : { segment, offset: history.resultOffset(slot) };
}

/** When a scheduled task is due, or when a finished one ended; 0 for others. */
export function timeOf(core: Core, slot: number): number {
  const state = core.table.state(slot);
  if (state === State.SCHEDULED) return core.dueMs(slot);
  if (state < State.COMPLETED) return 0;
  return core.ended.historyOf(slot).finishedAtMs(slot);
}

/**
 * The ready, scheduled and blocked tasks of a queue in the order of their ids, among the `countMax` tasks of all queues from `from`
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
  if (queue === undefined || queue.ready + queue.scheduled + queue.blocked === 0) return { ids, next };
  core.index.scan(from, (id, slot) => {
    if (count++ >= countMax) {
      next = id;
      return false;
    }
    const state = core.table.state(slot);
    const isWaiting = state === State.READY || state === State.SCHEDULED || state === State.BLOCKED;
    if (isWaiting && core.kindOf(slot).queue === queue) ids.push(id);
    return true;
  });
  return { ids, next };
}

/** The dead tasks of a queue, longest dead first. */
export function deadIds(core: Core, name: string): number[] {
  const ids: number[] = [];
  const { dead, heldDead } = core.queue(name);
  for (const history of [dead, heldDead]) {
    history.forEach((slot) => {
      ids.push(core.table.id(slot));
    });
  }
  return ids;
}

/** What a failure of this attempt leads to. `retryDelayMs` -1: as the kind's backoff says. */
export function decideFailure(
  core: Core,
  slot: number,
  options: { final: boolean; retryDelayMs: number; random: number },
): { outcome: FailureOutcome; attempt: number; delayMs: number } {
  const { spec } = core.kindOf(slot);
  const attempt = core.table.attempts(slot) + 1;
  if (core.cancelRequested(slot)) return { outcome: 'cancelled', attempt, delayMs: 0 };
  if (options.final || attempt >= spec.maxAttempts) return { outcome: 'dead', attempt, delayMs: 0 };
  const delayMs = options.retryDelayMs >= 0 ? options.retryDelayMs : backoffMs(spec.backoff, attempt, options.random);
  return { outcome: 'retry', attempt, delayMs };
}
