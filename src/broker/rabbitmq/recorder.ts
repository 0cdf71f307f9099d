import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { TaskError } from '../contract.ts';
import type { EndReport } from '../store.ts';
import { Ends, type TaskEnd } from './ends.ts';
import type { HeldTask } from './held-task.ts';
import type { Shared } from './shared.ts';
import type { WorkerMemory } from './worker-memory.ts';

/** Whose tasks have ended. */
export interface RecorderOwner {
  /** Everything that must come before its acknowledgement is done. */
  done(task: HeldTask): void;
  /** It goes back to the broker as it came. */
  giveBack(task: HeldTask): void;
  /** A handler has run, and what came of it is not taken: whoever has the task now has another message of it. */
  refused(task: HeldTask): void;
  /** Its end will never be taken: the worker cannot go on. */
  failed(error: MillraceError): void;
}

/**
 * How a worker's tasks ended, on its way to where that is remembered: the ends of one turn go to the store together, if there is
 * one, and what it has taken to the broker.
 */
export class Recorder {
  completed = 0;
  failed = 0;
  readonly #clock: Clock;
  readonly #memory: WorkerMemory | undefined;
  readonly #owner: RecorderOwner;
  readonly #ends: Ends;
  /** What is given back while the broker still delivers. */
  #postponed: TaskEnd[] | undefined;

  constructor(shared: Shared, memory: WorkerMemory | undefined, owner: RecorderOwner) {
    this.#clock = shared.clock;
    this.#memory = memory;
    this.#owner = owner;
    this.#ends = new Ends(
      shared,
      (task) => owner.done(task),
      (task) => owner.giveBack(task),
      (error) => owner.failed(error),
    );
  }

  record(settled: readonly TaskEnd[]): void {
    let ended = settled;
    if (this.#postponed !== undefined) {
      for (const end of settled) if (end.kind === 'released') this.#postponed.push(end);
      ended = settled.filter(({ kind }) => kind !== 'released');
    }
    if (ended.length === 0) return;
    for (const { kind } of ended) {
      if (kind === 'completed') this.completed++;
      else if (kind !== 'released') this.failed++;
    }
    if (this.#memory === undefined) this.#ends.record(ended);
    else this.#recordIn(this.#memory, ended);
  }

  /** What is given back from now on would come again at once: it waits. */
  postponeReleases(): void {
    this.#postponed ??= [];
  }

  recordPostponed(): void {
    const postponed = this.#postponed ?? [];
    this.#postponed = undefined;
    this.record(postponed);
  }

  /** The store will never take the task: it is kept where messages are that are no tasks. */
  bury(task: HeldTask, error: MillraceError): void {
    this.#ends.bury(task, asTaskError(error, 'the store does not take the task'), Math.floor(this.#clock.wallMs()));
  }

  #recordIn(memory: WorkerMemory, ended: readonly TaskEnd[]): void {
    memory.end(ended, (ends, report) => {
      if (!(report instanceof MillraceError)) this.#recorded(ends, report);
      else for (const end of ends) this.#cannotEnd(memory, end, report);
    });
  }

  /** The store will never take that it ended so: it is dead for that reason, or, where not even this is taken, the worker ends. */
  #cannotEnd(memory: WorkerMemory, { kind, task }: TaskEnd, error: MillraceError): void {
    const { id, spec } = task.message;
    if (kind === 'completed' || kind === 'failed') {
      const reason = asTaskError(error, `the task ${kind}, and the store does not take with what`);
      this.#recordIn(memory, [{ kind: 'dead', task, error: reason, atMs: Math.floor(this.#clock.wallMs()) }]);
      return;
    }
    const text = `the worker ends: the store does not take how task ${id} of queue ${spec.queue} ended, which is with the broker as it was: ${error.message}`;
    this.#owner.failed(new MillraceError(error.code, text, { cause: error, details: error.details }));
  }

  #recorded(ends: readonly TaskEnd[], { verdicts, unpublished }: EndReport): void {
    const taken: TaskEnd[] = [];
    const cancelled: TaskEnd[] = [];
    const refused: TaskEnd[] = [];
    ends.forEach((end, index) => {
      const verdict = verdicts[index];
      (verdict === 'taken' ? taken : verdict === 'cancelled' ? cancelled : refused).push(end);
    });
    this.#ends.record(taken, unpublished);
    this.#ends.cancelled(cancelled);
    for (const { task, kind } of refused) {
      this.#owner.done(task);
      if (kind !== 'released') this.#owner.refused(task);
    }
  }
}

function asTaskError({ name, message, code }: MillraceError, what: string): TaskError {
  return { name, message: `${what}: ${message}`, code };
}
