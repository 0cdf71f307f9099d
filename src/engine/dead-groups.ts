import type { Queue } from '../core/queue.ts';
import { NONE, State } from '../core/task-table.ts';
import { timeOf } from '../core/views.ts';
import { formatTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { DeadTally } from '../protocol/dead-tally.ts';
import { errorKind } from '../protocol/error-kind.ts';
import type { Engine } from './engine.ts';
import { FailureBudget } from './failure-reader.ts';

/** Failures that are read in one turn of the event loop. */
const TURN_FAILURES_MAX = 200;

/** The contract's DeadGroups: what the dead tasks of a queue, or of all, have died of, those that died last first. */
export async function deadGroups(
  engine: Engine,
  queueName: string | undefined,
): Promise<ReturnType<DeadTally['report']>> {
  const { core } = engine;
  const queues = queueName === undefined ? [...core.queues.values()] : [core.queues.get(queueName)];
  const { ids, isAll } = newestDead(
    engine,
    queues.filter((queue) => queue !== undefined),
  );
  const budget = new FailureBudget({ failures: LIMITS.deadGroupTasksMax, loads: LIMITS.deadGroupLoadsMax });
  const tally = new DeadTally();
  for (const [index, id] of ids.entries()) {
    if (budget.left === 0) return tally.report(false);
    if (index > 0 && index % TURN_FAILURES_MAX === 0) {
      await engine.turns.next();
    }
    const failure = await budget.newest(engine, id);
    const slot = core.index.get(id);
    // Retried or forgotten meanwhile.
    if (failure === undefined || slot === NONE || core.table.state(slot) !== State.DEAD) continue;
    const { queue, name } = core.kindOf(slot).spec;
    tally.add(formatTaskId(id), Math.round(timeOf(core, slot)), errorKind(queue, name, failure.error));
  }
  return tally.report(isAll);
}

/** Of each queue its share of what may be looked at: what one does not need, others get. */
function newestDead(engine: Engine, queues: readonly Queue[]): { ids: number[]; isAll: boolean } {
  const { table } = engine.core;
  const ids: number[] = [];
  const fewestFirst = [...queues].sort((a, b) => a.endedCount.dead - b.endedCount.dead);
  let isAll = true;
  for (const [index, { dead, heldDead, endedCount }] of fewestFirst.entries()) {
    const share = Math.floor((LIMITS.deadGroupTasksMax - ids.length) / (fewestFirst.length - index));
    if (endedCount.dead > share) isAll = false;
    const slots = [...dead.newest(share), ...heldDead.newest(share)].slice(0, share);
    for (const slot of slots) ids.push(table.id(slot));
  }
  return { ids, isAll };
}
