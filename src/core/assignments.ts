import type { Kinds } from './kinds.ts';
import { Leases } from './leases.ts';
import { FLAG_DEFERRED, NEXT, NONE, type TaskTable } from './task-table.ts';
import type { CoreWorker } from './worker.ts';

/**
 * Which worker has which tasks, and which of them it runs: of what a worker holds, in the order of delivery, the first
 * `concurrency` tasks run, and their time counts from when they came to do so.
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
  #untilSample = 1;

  constructor(table: TaskTable, kinds: Kinds, options: { graceMs: number; startedAfter: (ms: number) => void }) {
    this.#table = table;
    this.#kinds = kinds;
    this.#graceMs = options.graceMs;
    this.#startedAfter = options.startedAfter;
  }

  /** Adds to what the worker holds; call `startWaiting` when all are added. Returns the lease. */
  add(worker: CoreWorker, slot: number, tokenHigh: number, tokenLow: number): number {
    const lease = this.leases.create(worker, slot, tokenHigh, tokenLow);
    if (worker.firstWaiting === NONE) worker.firstWaiting = lease;
    return lease;
  }

  /** Counts the next waiting tasks as running while the worker has handlers free. */
  startWaiting(worker: CoreWorker, nowMs: number): void {
    if (worker.running >= worker.concurrency || worker.firstWaiting === NONE) return;
    worker.account(nowMs);
    while (worker.running < worker.concurrency && worker.firstWaiting !== NONE) {
      const lease = worker.firstWaiting;
      const slot = this.leases.slot(lease);
      const { timeoutClass } = this.#kinds.at(this.#table.kind(slot));
      this.leases.start(lease, timeoutClass, nowMs + timeoutClass.timeoutMs + this.#graceMs);
      worker.running++;
      worker.firstWaiting = this.leases.next(lease);
      if (--this.#untilSample <= 0) this.#sample(slot, nowMs);
    }
  }

  #sample(slot: number, nowMs: number): void {
    if (this.#table.hasFlag(slot, FLAG_DEFERRED) || this.#table.attempts(slot) > 0) return;
    this.#untilSample = this.sampleEvery;
    this.#startedAfter(nowMs - this.#table.enqueuedAtMs(slot));
  }

  /** An active task leaves its worker, which starts the next. */
  end(slot: number, nowMs: number): void {
    const lease = this.#table.get(slot, NEXT);
    const worker = this.workers.get(this.leases.workerIndex(lease)) as CoreWorker;
    if (this.leases.running(lease)) {
      this.leases.stop(lease, this.#kinds.at(this.#table.kind(slot)).timeoutClass);
      worker.account(nowMs);
      worker.running--;
    }
    this.leases.drop(worker, lease);
    this.startWaiting(worker, nowMs);
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
