import type { Core } from './core.ts';
import type { Queue } from './queue.ts';
import { PRIORITY_COUNT } from './ready-lists.ts';
import { NEXT, NONE, State } from './task-table.ts';

/** So many tasks are put in order for each page at most. */
const SORTED_MAX = 10_000;

/**
 * The ids of tasks among which all of these states are, of this queue or of all, ascending; some others may be among them.
 * Undefined when they are many, or nobody lists them: then they are to be looked for among all tasks.
 */
export function candidatesIn(core: Core, queue: Queue | undefined, states: readonly State[]): Float64Array | undefined {
  const queues = queue === undefined ? [...core.queues.values()] : [queue];
  let countMax = 0;
  for (const state of states) countMax += countIn(core, queues, state);
  if (countMax > SORTED_MAX) return undefined;
  const ids = new Set<number>();
  for (const state of states) for (const slot of slotsIn(core, queues, state)) ids.add(core.table.id(slot));
  return Float64Array.from(ids).sort();
}

/** How many `slotsIn` gives at most; infinite when it cannot. */
function countIn(core: Core, queues: readonly Queue[], state: State): number {
  const sum = (count: (queue: Queue) => number): number => queues.reduce((total, queue) => total + count(queue), 0);
  switch (state) {
    case State.SCHEDULED:
      return sum(({ scheduled }) => scheduled) === 0 ? 0 : core.timers.size;
    case State.BLOCKED:
      return sum(({ blocked }) => blocked) === 0 ? 0 : Number.POSITIVE_INFINITY;
    case State.READY:
      return sum(({ ready }) => ready);
    case State.ACTIVE:
      return sum(({ active }) => active) === 0 ? 0 : core.assignments.leases.count;
    case State.COMPLETED:
    case State.CANCELLED:
      return sum(({ endedCount }) => endedCount.finished);
    case State.DEAD:
      return sum(({ endedCount }) => endedCount.dead);
    default:
      return 0;
  }
}

function* slotsIn(core: Core, queues: readonly Queue[], state: State): Generator<number> {
  if (countIn(core, queues, state) === 0) return;
  switch (state) {
    case State.SCHEDULED:
      yield* core.timers.slots();
      break;
    case State.ACTIVE:
      yield* core.assignments.slots();
      break;
    case State.READY:
      for (const queue of queues) yield* readySlots(core, queue);
      break;
    case State.COMPLETED:
    case State.CANCELLED:
      for (const { finished, held } of queues) yield* [...finished.newest(SORTED_MAX), ...held.newest(SORTED_MAX)];
      break;
    case State.DEAD:
      for (const { dead, heldDead } of queues) yield* [...dead.newest(SORTED_MAX), ...heldDead.newest(SORTED_MAX)];
      break;
    default:
      break;
  }
}

function* readySlots(core: Core, queue: Queue): Generator<number> {
  for (const lists of queue.readyLists()) {
    for (let priority = 0; priority < PRIORITY_COUNT; priority++) {
      for (let slot = lists.head(priority); slot !== NONE; slot = core.table.get(slot, NEXT)) yield slot;
    }
  }
}
