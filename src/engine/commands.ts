import type { Core } from '../core/core.ts';
import type { RetentionPolicy } from '../core/queue.ts';
import type { Consequences } from '../core/relations.ts';
import { NONE, STATE_NAMES, State } from '../core/task-table.ts';
import { deadIds, waitingIds } from '../core/views.ts';
import { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import type { Clock } from '../io/clock.ts';
import type { Journal } from '../journal/journal.ts';
import { NO_LIMITS, type QueueLimits } from '../limits.ts';
import { type Command, forEachId, idRuns, RECORD, readLimits } from './records.ts';
import type { Turns } from './turns.ts';

/** First ids and counts in one record, which then stays far below what the journal takes. */
const RUN_NUMBERS_MAX = 100_000;
/** Tasks that one command looks at in one turn of the event loop. */
const TURN_TASKS_MAX = 50_000;

/** What operators and clients ask for beside enqueueing: each is journaled as JSON, then applied. */
export class Commands {
  readonly #core: Core;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #turns: Turns;
  readonly #changed: () => void;

  /** `changed` is called after each command: something may be ready now. */
  constructor(parts: { core: Core; journal: Journal; clock: Clock; turns: Turns; changed: () => void }) {
    this.#core = parts.core;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#turns = parts.turns;
    this.#changed = parts.changed;
  }

  /** Throws NOT_FOUND, or CONFLICT for a task that has ended. */
  cancel(id: number): 'cancelled' | 'requested' {
    const slot = this.find(id);
    const state = this.#core.table.state(slot);
    if (state >= State.COMPLETED) throw conflict(id, state, 'cancelled');
    if (!this.#isWithWorker(slot)) {
      this.cancelNow(slot);
      return 'cancelled';
    }
    if (!this.#core.cancelRequested(slot)) this.run({ op: 'requestCancel', id, at: this.#clock.steadyMs() });
    return 'requested';
  }

  cancelNow(slot: number): void {
    this.run({ op: 'cancel', id: this.#core.table.id(slot), at: this.#clock.steadyMs() });
  }

  /** Throws NOT_FOUND, or CONFLICT for a task that is neither dead nor scheduled. */
  retry(id: number): void {
    const state = this.#core.table.state(this.find(id));
    if (!isRetriable(state)) throw conflict(id, state, 'retried');
    this.run({ op: 'retry', ids: [id, 1], at: this.#clock.steadyMs() });
  }

  /** Retries those that can be now, in one record; returns how many. At most LIMITS.bulkTasksMax. */
  retryMany(ids: readonly number[]): number {
    const retried = ids.filter((id) => isRetriable(this.#stateOf(id)));
    this.#runAll('retry', retried);
    return retried.length;
  }

  /** Cancels those that wait, and asks those that run to end, in one record; returns how many. At most LIMITS.bulkTasksMax. */
  cancelMany(ids: readonly number[]): number {
    const waiting: number[] = [];
    const running: number[] = [];
    for (const id of ids) {
      const slot = this.#core.index.get(id);
      if (!this.isCancellable(slot)) continue;
      (this.#isWithWorker(slot) ? running : waiting).push(id);
    }
    const count = waiting.length + running.length;
    const at = this.#clock.steadyMs();
    if (count > 0) this.run({ op: 'cancelMany', ids: idRuns(waiting), requested: idRuns(running), at });
    return count;
  }

  /** One that has not ended, and that nobody has asked to end. */
  isCancellable(slot: number): boolean {
    if (slot === NONE || hasEnded(this.#core, slot)) return false;
    return !this.#isWithWorker(slot) || !this.#core.cancelRequested(slot);
  }

  /** Nobody is there to be told when it is set aside. */
  #isWithWorker(slot: number): boolean {
    return this.#core.table.state(slot) === State.ACTIVE && !this.#core.assignments.isAside(slot);
  }

  #stateOf(id: number): State {
    const slot = this.#core.index.get(id);
    return slot === NONE ? State.FREE : this.#core.table.state(slot);
  }

  /** Workers that came back still run these: the attempt that was counted when they were lost is taken back. */
  kept(ids: readonly number[]): void {
    this.#runAll('kept', ids);
  }

  // What is as it was is not journaled: whoever says it again and again must not fill the disk.

  pauseQueue(name: string): void {
    if (!this.#core.queue(name).paused) this.run({ op: 'pause', queue: name });
  }

  resumeQueue(name: string): void {
    if (this.#core.queue(this.#known(name)).paused) this.run({ op: 'resume', queue: name });
  }

  /** Resolves with how many. With very many others have their turn in between; what is enqueued then stays. */
  async purgeQueue(name: string): Promise<number> {
    this.#known(name);
    const endId = this.#core.ids.reserveIds(0);
    let count = 0;
    for (let from: number | undefined = 0; from !== undefined && from < endId; ) {
      if (from > 0) await this.#turns.next();
      const { ids, next } = waitingIds(this.#core, name, from, TURN_TASKS_MAX);
      const old = ids.filter((id) => id < endId);
      this.#runAll('purge', old);
      count += old.length;
      from = next;
    }
    return count;
  }

  /** Resolves with how many. With very many others have their turn in between; what dies then stays dead. */
  async redriveQueue(name: string): Promise<number> {
    const ids = deadIds(this.#core, this.#known(name));
    let count = 0;
    for (let from = 0; from < ids.length; from += TURN_TASKS_MAX) {
      if (from > 0) await this.#turns.next();
      const dead = ids.slice(from, from + TURN_TASKS_MAX).filter((id) => this.#stateOf(id) === State.DEAD);
      this.#runAll('retry', dead);
      count += dead.length;
    }
    return count;
  }

  setRetention(name: string, change: Partial<RetentionPolicy>): RetentionPolicy {
    const queue = this.#core.queue(name);
    const retention = { ...queue.retention, ...change };
    const isSame = queue.hasOwnRetention && JSON.stringify(retention) === JSON.stringify(queue.retention);
    if (!isSame) this.run({ op: 'retention', queue: name, retention });
    return queue.retention;
  }

  setLimits(name: string, change: Partial<QueueLimits>): QueueLimits {
    const queue = this.#core.queue(name);
    const limits: QueueLimits = { ...NO_LIMITS, ...queue.limits, ...change };
    if (JSON.stringify(limits) === JSON.stringify({ ...NO_LIMITS, ...queue.limits })) return limits;
    this.run({ op: 'limits', queue: name, limits, at: this.#clock.steadyMs() });
    return limits;
  }

  /** Call once a turn, before anything is delivered. */
  keepConsequences(): void {
    const taken = this.#core.relations.takeConsequences();
    if (taken === undefined) return;
    const at = this.#clock.steadyMs();
    for (const each of portions(taken)) this.#append({ op: 'related', ...each, at });
  }

  /** Call before segments are given up: records that follow them may count tasks that replay no longer meets. */
  keepTotals(): void {
    const queues = [...this.#core.queues.values()].map(({ name, totals }) => ({ name, totals }));
    this.#append({ op: 'totals', queues });
  }

  /** The task's slot. Throws NOT_FOUND. */
  find(id: number): number {
    const slot = this.#core.index.get(id);
    if (slot !== NONE) return slot;
    throw new MillraceError(
      'NOT_FOUND',
      `task ${formatTaskId(id)} does not exist, or has ended and is no longer retained`,
    );
  }

  #known(name: string): string {
    if (this.#core.queues.has(name)) return name;
    // Which there are is not for everybody who may name one.
    const message = `queue ${JSON.stringify(name)} has never been used: client.status() lists those that have`;
    throw new MillraceError('NOT_FOUND', message);
  }

  /** In as many records as it takes. */
  #runAll(op: 'kept' | 'purge' | 'retry', ids: readonly number[]): void {
    const runs = idRuns(ids);
    const at = this.#clock.steadyMs();
    for (let from = 0; from < runs.length; from += RUN_NUMBERS_MAX) {
      this.run({ op, ids: runs.slice(from, from + RUN_NUMBERS_MAX), at });
    }
  }

  #append(command: Command): void {
    this.#journal.append(RECORD.COMMAND, Buffer.from(JSON.stringify(command)));
  }

  /** Throws STORAGE_FAILED and CLOSED. */
  run(command: Command): void {
    this.#append(command);
    applyCommand(this.#core, command);
    this.#changed();
  }
}

/** In pieces that fit into a record. */
function* portions({ unblocked, cancelled, closed }: Consequences): Generator<Consequences> {
  const size = RUN_NUMBERS_MAX;
  const longest = Math.max(unblocked.length, cancelled.length, closed.length);
  // The children of one parent come in any order: as runs they would be no shorter.
  for (let from = 0; from < longest; from += size) {
    const piece = (list: readonly number[], numbers: number): number[] =>
      list.slice(from * numbers, (from + size) * numbers);
    yield { unblocked: piece(unblocked, 1), cancelled: piece(cancelled, 1), closed: piece(closed, 3) };
  }
}

function conflict(id: number, state: State, what: string): MillraceError {
  return new MillraceError('CONFLICT', `task ${formatTaskId(id)} is ${STATE_NAMES[state]} and cannot be ${what}`, {
    details: { state: STATE_NAMES[state] },
  });
}

function isRetriable(state: State): boolean {
  return state === State.DEAD || state === State.SCHEDULED;
}

function hasEnded(core: Core, slot: number): boolean {
  return core.table.state(slot) >= State.COMPLETED;
}

/** Also replays: a task that a later record has finished and forgotten is passed over. */
export function applyCommand(core: Core, command: Command): void {
  const each = (ids: readonly number[], act: (slot: number) => void): void =>
    forEachId(ids, (id) => {
      const slot = core.index.get(id);
      if (slot !== NONE) act(slot);
    });
  switch (command.op) {
    case 'cancel':
      each([command.id, 1], (slot) => {
        if (!hasEnded(core, slot)) core.cancel(slot, command.at);
      });
      break;
    case 'requestCancel':
      each([command.id, 1], (slot) => core.requestCancel(slot));
      break;
    case 'cancelMany':
      // One that depended on another of them was cancelled with it.
      each(command.ids, (slot) => {
        if (!hasEnded(core, slot)) core.cancel(slot, command.at);
      });
      each(command.requested, (slot) => core.requestCancel(slot));
      break;
    case 'retry':
      each(command.ids, (slot) => core.retry(slot, command.at));
      break;
    case 'kept':
      each(command.ids, (slot) => core.uncharge(slot));
      break;
    case 'purge':
      // One that depended on another of them was cancelled with it.
      each(command.ids, (slot) => {
        if (!hasEnded(core, slot)) core.purge(slot, command.at);
      });
      break;
    case 'related':
      core.relations.applyConsequences(command, command.at);
      break;
    case 'pause':
      core.queue(command.queue).paused = true;
      break;
    case 'resume': {
      const queue = core.queue(command.queue);
      queue.paused = false;
      core.queues.mark(queue);
      break;
    }
    case 'schedule':
      core.schedules.set(command.schedule);
      break;
    case 'moveSchedule':
      core.schedules.move(command.name, command.paused, command.nextMs);
      break;
    case 'removeSchedule':
      core.schedules.remove(command.name);
      break;
    case 'totals':
      for (const { name, totals } of command.queues) Object.assign(core.queue(name).totals, totals);
      break;
    case 'limits':
      core.queues.setLimits(core.queue(command.queue), readLimits(command.limits), command.at);
      break;
    case 'retention': {
      const queue = core.queue(command.queue);
      queue.retention = command.retention;
      core.enforceRetention(queue);
      break;
    }
    default:
      command satisfies never;
  }
}
