import { State } from '../core/task-table.ts';
import { LIMITS } from '../limits.ts';
import type { TaskFilter } from '../protocol/task-filter.ts';
import type { Engine } from './engine.ts';
import type { ActiveDetails } from './inspect.ts';
import { formatPlace, parsePlace, searchTasks, statesOf, type Wanted } from './search.ts';

/** The contract's BulkReport. */
export interface Report {
  count: number;
  next?: string;
}

/**
 * One step of a change of many tasks: looks for some and changes them in one record, so that a crash leaves all of a step or
 * nothing. Where the next goes on is kept by whoever asks, with the first id that was not there yet when the first step began.
 */
export function retryTasks(engine: Engine, filter: TaskFilter, details: ActiveDetails): Promise<Report> {
  const states = statesOf(filter, [State.DEAD, State.SCHEDULED]);
  return step(engine, filter, { states }, details, (ids) => engine.commands.retryMany(ids));
}

export function cancelTasks(engine: Engine, filter: TaskFilter, details: ActiveDetails): Promise<Report> {
  const states = statesOf(filter, [State.SCHEDULED, State.BLOCKED, State.READY, State.ACTIVE]);
  const also = (slot: number): boolean => engine.commands.isCancellable(slot);
  return step(engine, filter, { states, also }, details, (ids) => engine.commands.cancelMany(ids));
}

async function step(
  engine: Engine,
  filter: TaskFilter,
  wanted: Pick<Wanted, 'states' | 'also'>,
  { workerIndex }: ActiveDetails,
  change: (ids: readonly number[]) => number,
): Promise<Report> {
  const place = filter.after === undefined ? undefined : parsePlace(filter.after);
  // Whoever goes on in the same process would leave no turn to others.
  if (place !== undefined) await engine.turns.next();
  const endId = place?.endId ?? engine.core.ids.reserveIds(0);
  const { ids, last } = await searchTasks(engine, {
    ...{ ...wanted, workerIndex, endId },
    filter: { ...filter, after: place?.after },
    countMax: filter.limit ?? LIMITS.bulkTasksMax,
  });
  const count = change(ids);
  return last === undefined ? { count } : { count, next: formatPlace(last, endId) };
}
