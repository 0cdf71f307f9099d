import { candidatesIn } from '../core/candidates.ts';
import type { Queue } from '../core/queue.ts';
import { FLAG_FAILURES, NONE, STATE_NAMES, State } from '../core/task-table.ts';
import { formatTaskId, parseTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { containsText, errorKind, groupOf } from '../protocol/error-kind.ts';
import type { AttemptFailure } from '../protocol/task-error.ts';
import type { TaskFilter } from '../protocol/task-filter.ts';
import type { Engine } from './engine.ts';
import { FailureBudget } from './failure-reader.ts';

/** Tasks that are looked at in one turn of the event loop, and failures that are read in one. */
const TURN_TASKS_MAX = 25_000;
const TURN_FAILURES_MAX = 200;

export interface Wanted {
  readonly filter: TaskFilter;
  /** At most so many. */
  readonly countMax: number;
  /** Only these states, … */
  readonly states: readonly State[];
  /** … and of these tasks only some. */
  readonly also?: (slot: number) => boolean;
  /** Of the worker with that id. */
  readonly workerIndex: (workerId: string) => number | undefined;
  /** Only ids below. */
  readonly endId?: number;
}

export interface Found {
  readonly ids: number[];
  /** The last one that was looked at, when there may be more behind it. */
  readonly last: number | undefined;
}

/** Calls `visit` with the ids from `from` on, in the order that is asked for. */
type Scan = (from: number, visit: (id: number, slot: number) => boolean) => void;

/**
 * Looks for tasks in the order of their ids, a bounded number at a time: there may be fewer than `countMax`, or none, and more
 * all the same. Others have their turn in between.
 */
export async function searchTasks(engine: Engine, wanted: Wanted): Promise<Found> {
  const search = new Search(engine, wanted);
  return search.isFutile ? { ids: [], last: undefined } : await search.run();
}

/** Every state that a task can be in, or the one that is named. */
export function statesOf({ state, errorGroup }: TaskFilter, among: readonly State[] = ALL_STATES): readonly State[] {
  return among.filter((each) => {
    if (errorGroup !== undefined && each !== State.DEAD) return false;
    return state === undefined || STATE_NAMES[each] === state;
  });
}

const ALL_STATES = Object.values(State).filter((state) => state !== State.FREE);

class Search {
  readonly #engine: Engine;
  readonly #wanted: Wanted;
  readonly #matches: (slot: number) => boolean;
  readonly #scan: Scan;
  readonly #text: string | undefined;
  readonly #step: 1 | -1;
  readonly #budget = new FailureBudget({ failures: LIMITS.listFailuresMax, loads: LIMITS.listLoadsMax });
  readonly #ids: number[] = [];
  #from: number;
  #left: number = LIMITS.listScanMax;

  constructor(engine: Engine, wanted: Wanted) {
    this.#engine = engine;
    this.#wanted = wanted;
    const { order, after, error } = wanted.filter;
    this.#text = error?.toLowerCase();
    this.#step = order === 'newest' ? -1 : 1;
    const begin = this.#step > 0 ? 0 : (wanted.endId ?? Number.MAX_SAFE_INTEGER) - 1;
    this.#from = after === undefined ? begin : parseTaskId(after) + this.#step;
    this.#matches = this.#matcher();
    this.#scan = this.#scanner();
  }

  /** No task can be what is wanted. */
  get isFutile(): boolean {
    const { filter, states, workerIndex } = this.#wanted;
    const isUnknown = filter.queue !== undefined && !this.#engine.core.queues.has(filter.queue);
    const hasNoWorker = filter.worker !== undefined && workerIndex(filter.worker) === undefined;
    return isUnknown || hasNoWorker || states.length === 0 || this.#from < 0;
  }

  async run(): Promise<Found> {
    const { countMax, filter } = this.#wanted;
    const reads = this.#text !== undefined || filter.errorGroup !== undefined;
    for (let turn = 0; ; turn++) {
      if (turn > 0) await this.#engine.turns.next();
      const room = countMax - this.#ids.length;
      const { ids, last, more } = this.#turn(reads ? Math.min(TURN_FAILURES_MAX, this.#budget.left) : room);
      if (!reads) this.#ids.push(...ids);
      else {
        const stoppedAt = await this.#readAll(ids);
        if (stoppedAt !== undefined) return { ids: this.#ids, last: stoppedAt };
      }
      if (!more) return { ids: this.#ids, last: undefined };
      this.#from = last + this.#step;
      const isOver = this.#ids.length >= countMax || this.#left <= 0 || (reads && this.#budget.left <= 0);
      if (isOver) return { ids: this.#ids, last };
    }
  }

  /** What the core can tell of one turn's tasks. `more`: there are others behind the `last` one that was looked at. */
  #turn(countMax: number): { ids: number[]; last: number; more: boolean } {
    const ids: number[] = [];
    const endId = this.#wanted.endId ?? Number.POSITIVE_INFINITY;
    let last = this.#from - this.#step;
    let left = Math.min(TURN_TASKS_MAX, this.#left);
    let more = false;
    this.#scan(this.#from, (id, slot) => {
      if (id >= endId) return false;
      if (ids.length >= countMax || left <= 0) {
        more = true;
        return false;
      }
      left--;
      this.#left--;
      last = id;
      if (this.#matches(slot)) ids.push(id);
      return true;
    });
    return { ids, last, more };
  }

  /** Adds those whose failure is what is wanted; returns where that ended before the last of them. */
  async #readAll(ids: readonly number[]): Promise<number | undefined> {
    for (const [index, id] of ids.entries()) {
      const failure = await this.#budget.newest(this.#engine, id);
      if (failure !== undefined && this.#isWanted(id, failure)) this.#ids.push(id);
      const isOver = this.#ids.length >= this.#wanted.countMax || this.#budget.left <= 0;
      if (isOver && index < ids.length - 1) return id;
    }
    return undefined;
  }

  #isWanted(id: number, { error }: AttemptFailure): boolean {
    const { core } = this.#engine;
    const slot = core.index.get(id);
    // Forgotten, or something else, meanwhile.
    if (slot === NONE || !this.#matches(slot)) return false;
    if (this.#text !== undefined && !containsText(error, this.#text)) return false;
    const { errorGroup } = this.#wanted.filter;
    if (errorGroup === undefined) return true;
    const { queue, name } = core.kindOf(slot).spec;
    return groupOf(errorKind(queue, name, error)) === errorGroup;
  }

  /** Among few tasks, where these are known. */
  #scanner(): Scan {
    const { core } = this.#engine;
    const { filter, workerIndex } = this.#wanted;
    const workerOf = filter.worker === undefined ? undefined : workerIndex(filter.worker);
    const worker = workerOf === undefined ? undefined : core.assignments.workers.get(workerOf);
    const queue = filter.queue === undefined ? undefined : core.queues.get(filter.queue);
    const few =
      worker === undefined
        ? this.#candidates(queue)
        : Float64Array.from(core.assignments.slotsOf(worker), (slot) => core.table.id(slot)).sort();
    if (few === undefined) {
      return (from, visit) => (this.#step > 0 ? core.index.scan(from, visit) : core.index.scanBack(from, visit));
    }
    const ordered = this.#step > 0 ? few : few.reverse();
    return (from, visit) => {
      for (const id of ordered) {
        if ((id - from) * this.#step < 0) continue;
        const slot = core.index.get(id);
        if (slot !== NONE && !visit(id, slot)) return;
      }
    };
  }

  /** Where any task will do, those that come first are found soonest among all. */
  #candidates(queue: Queue | undefined): Float64Array | undefined {
    const { states } = this.#wanted;
    return states.length === ALL_STATES.length ? undefined : candidatesIn(this.#engine.core, queue, states);
  }

  #matcher(): (slot: number) => boolean {
    const { core } = this.#engine;
    const { table } = core;
    const { filter, states, also, workerIndex } = this.#wanted;
    const { queue, name, fromMs = Number.NEGATIVE_INFINITY, toMs = Number.POSITIVE_INFINITY } = filter;
    const isTimed = filter.fromMs !== undefined || filter.toMs !== undefined;
    const hasFailed = filter.error !== undefined || filter.errorGroup !== undefined;
    const worker = filter.worker === undefined ? undefined : workerIndex(filter.worker);
    let wantedStates = 0;
    for (const state of states) wantedStates |= 1 << state;
    return (slot) => {
      if ((wantedStates & (1 << table.state(slot))) === 0) return false;
      if (hasFailed && !table.hasFlag(slot, FLAG_FAILURES)) return false;
      const { spec } = core.kindOf(slot);
      if (queue !== undefined && spec.queue !== queue) return false;
      if (name !== undefined && spec.name !== name) return false;
      if (isTimed) {
        const enqueuedAtMs = table.enqueuedAtMs(slot);
        if (enqueuedAtMs < fromMs || enqueuedAtMs >= toMs) return false;
      }
      if (filter.worker !== undefined) {
        if (table.state(slot) !== State.ACTIVE || core.assignments.of(slot).worker.index !== worker) return false;
      }
      return also === undefined || also(slot);
    };
  }
}

// ── Places to go on from ────────────────────────────────────────────────────────────────────────────────────────────

/** Of a change of many tasks: the last one looked at, and the first id that was not there yet when it began. */
export function formatPlace(last: number, endId: number): string {
  return `${formatTaskId(last)}${PLACE_SEPARATOR}${formatTaskId(endId)}`;
}

/** Throws INVALID_ARGUMENT. A plain id will do, too. */
export function parsePlace(place: string): { after: string; endId: number | undefined } {
  const [after = '', end] = place.split(PLACE_SEPARATOR);
  parseTaskId(after);
  return { after, endId: end === undefined ? undefined : parseTaskId(end) };
}

const PLACE_SEPARATOR = '~';
