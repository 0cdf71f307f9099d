import type { Kinds } from './kinds.ts';
import { Leases } from './leases.ts';
import { FLAG_DEFERRED, NEXT, NONE, type TaskTable } from './task-table.ts';
import type { CoreWorker } from './worker.ts';

/**
 * Which worker has which tasks, and which of them have begun: only these run out of time, and only these are charged when
 * the worker is lost.
 *
 * A worker says up to which task it has begun. It cannot say so while a handler keeps its processor busy; so while it has
 * a handler free, the first task that it did not mention is presumed to be the one that it is busy with.
 */
export class Assignments {
  readonly leases = new Leases();
  readonly workers = new Map<number, CoreWorker>();
  /** Every how many tasks the time to start is sampled. */
  sampleEvery = 1;
  readonly #table: TaskTable;
  readonly #kinds: Kinds;
  readonly #graceMs: number;
  readonly #startedAfter: (ms: number) => void;
  readonly #touched: CoreWorker[] = [];
  #untilSample = 1;

  constructor(table: TaskTable, kinds: Kinds, options: { graceMs: number; startedAfter: (ms: number) => void }) {
    this.#table = table;
    this.#kinds = kinds;
    this.#graceMs = options.graceMs;
    this.#startedAfter = options.startedAfter;
  }

  /** Adds to what the worker holds; call `touch` when all are added. Returns the lease. */
  add(worker: CoreWorker, slot: number, tokenHigh: number, tokenLow: number): number {
    const lease = this.leases.create(worker, slot, tokenHigh, tokenLow);
    if (worker.firstWaiting === NONE) worker.firstWaiting = lease;
    return lease;
  }

  /** What the worker holds has changed: `presume` will look at it. */
  touch(worker: CoreWorker): void {
    if (worker.touched) return;
    worker.touched = true;
    this.#touched.push(worker);
  }

  /** The worker says that it has begun everything up to the task with this token. */
  begin(worker: CoreWorker, token: number, nowMs: number): void {
    const { presumed } = worker;
    if (presumed !== NONE && this.leases.token(presumed) <= token) {
      // Its time counts from now: it was only presumed to run.
      const { timeoutClass } = this.#kinds.at(this.#table.kind(this.leases.slot(presumed)));
      this.leases.stop(presumed, timeoutClass);
      this.leases.start(presumed, timeoutClass, nowMs + timeoutClass.timeoutMs + this.#graceMs);
      worker.presumed = NONE;
    }
    while (worker.firstWaiting !== NONE && this.leases.token(worker.firstWaiting) <= token) {
      this.#beginNext(worker, nowMs);
    }
    this.touch(worker);
  }

  /** Call once a turn, and before asking which tasks of a worker have begun. */
  presume(nowMs: number): void {
    for (const worker of this.#touched) {
      worker.touched = false;
      if (worker.presumed !== NONE || worker.firstWaiting === NONE || worker.begun >= worker.concurrency) continue;
      worker.presumed = worker.firstWaiting;
      this.#beginNext(worker, nowMs);
    }
    this.#touched.length = 0;
  }

  #beginNext(worker: CoreWorker, nowMs: number): void {
    const lease = worker.firstWaiting;
    const slot = this.leases.slot(lease);
    const { timeoutClass } = this.#kinds.at(this.#table.kind(slot));
    this.leases.start(lease, timeoutClass, nowMs + timeoutClass.timeoutMs + this.#graceMs);
    worker.begun++;
    worker.firstWaiting = this.leases.next(lease);
    if (--this.#untilSample <= 0) this.#sample(slot, nowMs);
  }

  #sample(slot: number, nowMs: number): void {
    if (this.#table.hasFlag(slot, FLAG_DEFERRED) || this.#table.attempts(slot) > 0) return;
    this.#untilSample = this.sampleEvery;
    this.#startedAfter(nowMs - this.#table.enqueuedAtMs(slot));
  }

  /** An active task leaves its worker. */
  end(slot: number, nowMs: number): void {
    const lease = this.#table.get(slot, NEXT);
    const worker = this.workers.get(this.leases.workerIndex(lease)) as CoreWorker;
    worker.account(nowMs);
    if (this.leases.running(lease)) {
      this.leases.stop(lease, this.#kinds.at(this.#table.kind(slot)).timeoutClass);
      worker.begun--;
      if (worker.presumed === lease) worker.presumed = NONE;
    }
    this.leases.drop(worker, lease);
    this.touch(worker);
  }

  /** Who has an active task, and under which token. */
  of(slot: number): { worker: CoreWorker; token: number } {
    const lease = this.#table.get(slot, NEXT);
    return { worker: this.workers.get(this.leases.workerIndex(lease)) as CoreWorker, token: this.leases.token(lease) };
  }

  /** Infinity when nothing runs. */
  nextDeadlineMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { head } of this.#kinds.timeoutClasses.values()) {
      if (head !== NONE) next = Math.min(next, this.leases.deadlineMs(head));
    }
    return next;
  }

  /** Running tasks that are past their deadline: the first of each timeout; look again when these have ended. */
  overdue(steadyMs: number): number[] {
    const slots: number[] = [];
    for (const { head } of this.#kinds.timeoutClasses.values()) {
      if (head !== NONE && this.leases.deadlineMs(head) <= steadyMs) slots.push(this.leases.slot(head));
    }
    return slots;
  }
}
