import type { Kinds } from './kinds.ts';
import { Leases, type TimeoutClass } from './leases.ts';
import { Sampling } from './sampling.ts';
import { FLAG_DEFERRED, NEXT, NONE, type TaskTable } from './task-table.ts';
import { CoreWorker } from './worker.ts';

const ASIDE_INDEX = 0xffff_ffff;

/** An attempt under way: its worker's name, and when that said that it began, as steady time. */
export interface Run {
  readonly worker: string;
  readonly begunMs: number | undefined;
}

/**
 * Which worker has which tasks, and which of them have begun: only these run out of time, and only these are charged when
 * the worker is lost.
 *
 * A worker says up to which task it has begun. It cannot say so while a handler keeps its processor busy; so while it has
 * a handler free, the first task that it did not mention is presumed to be the one that it is busy with. When the time of
 * that one is over, the worker is asked for a sign of life: one that answers has not begun it; one that does not is silent,
 * and what it has not begun is better left to others. Nobody is charged on a presumption.
 *
 * A task that lost its worker in its last attempt is set aside for a while: if the worker comes back, it goes on.
 */
export class Assignments {
  readonly leases = new Leases();
  readonly workers = new Map<number, CoreWorker>();
  /** Of the times of tasks. */
  readonly sampling = new Sampling();
  readonly #table: TaskTable;
  readonly #kinds: Kinds;
  readonly #graceMs: number;
  readonly #startedAfter: (ms: number, count: number) => void;
  readonly #touched: CoreWorker[] = [];
  /** Deadlines of presumed leases whose workers were asked. */
  readonly #probes: TimeoutClass = { timeoutMs: 0, kindCount: 1, head: NONE, tail: NONE };
  /** Holds what is set aside. */
  readonly #aside = new CoreWorker(ASIDE_INDEX, [], 1, 0, 0);
  readonly #asides: TimeoutClass = { timeoutMs: 0, kindCount: 1, head: NONE, tail: NONE };
  readonly #lostRuns = new Map<number, Run>();
  #untilSample = 1;
  /** Starts from one sample to the next. */
  #sampledFrom = 1;

  constructor(
    table: TaskTable,
    kinds: Kinds,
    options: { graceMs: number; startedAfter: (ms: number, count: number) => void },
  ) {
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
      this.#restart(worker, nowMs);
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
      worker.presumedAtMs = nowMs;
      this.#beginNext(worker, nowMs);
    }
    this.#touched.length = 0;
  }

  /** Whether nobody has said that the task has begun. */
  isPresumed(worker: CoreWorker, slot: number): boolean {
    return worker.presumed === this.#table.get(slot, NEXT);
  }

  /** Whether the worker of an active task has said that it has begun it, or was lost with it. */
  hasBegun(slot: number): boolean {
    const lease = this.#table.get(slot, NEXT);
    return this.leases.running(lease) && this.#holder(lease).presumed !== lease;
  }

  /** When the worker of an active task said that it began it; undefined when it has not, or is gone. */
  begunMs(slot: number): number | undefined {
    if (!this.hasBegun(slot) || this.isAside(slot)) return undefined;
    const { timeoutMs } = this.#kinds.at(this.#table.kind(slot)).timeoutClass;
    return this.leases.deadlineMs(this.#table.get(slot, NEXT)) - timeoutMs - this.#graceMs;
  }

  /** Who has an active task, and since when it runs; of one that is set aside, who had it. */
  runOf(slot: number): Run {
    const lost = this.#lostRuns.get(slot);
    if (lost !== undefined) return lost;
    return { worker: this.of(slot).worker.name, begunMs: this.begunMs(slot) };
  }

  /** The tasks that `begin` with this token says to have begun. */
  *beginning(worker: CoreWorker, token: number): Generator<number> {
    const { presumed } = worker;
    if (presumed !== NONE && this.leases.token(presumed) <= token) yield this.leases.slot(presumed);
    for (let lease = worker.firstWaiting; lease !== NONE; lease = this.leases.next(lease)) {
      if (this.leases.token(lease) > token) return;
      yield this.leases.slot(lease);
    }
  }

  /** The worker is being asked for a sign of life; its presumed task is overdue again when none comes. */
  probe(worker: CoreWorker, nowMs: number): void {
    this.leases.stop(worker.presumed, this.#classOf(worker, worker.presumed));
    worker.probed = true;
    this.leases.start(worker.presumed, this.#probes, nowMs + this.#graceMs);
  }

  /** The sign of life has come. Returns whether the worker may get tasks again. */
  heard(worker: CoreWorker, nowMs: number): boolean {
    if (worker.probed) this.#restart(worker, nowMs);
    const wasSilent = worker.silent;
    worker.silent = false;
    return wasSilent;
  }

  /** Its time begins anew. */
  #restart(worker: CoreWorker, nowMs: number): void {
    const lease = worker.presumed;
    this.leases.stop(lease, this.#classOf(worker, lease));
    worker.probed = false;
    const timeoutClass = this.#classOf(worker, lease);
    this.leases.start(lease, timeoutClass, nowMs + timeoutClass.timeoutMs + this.#graceMs);
  }

  /** Whose deadlines a lease is among. */
  #classOf(worker: CoreWorker, lease: number): TimeoutClass {
    if (worker === this.#aside) return this.#asides;
    if (worker.probed && lease === worker.presumed) return this.#probes;
    return this.#kinds.at(this.#table.kind(this.leases.slot(lease))).timeoutClass;
  }

  /** Takes an active task from its worker and keeps it for that one to come back; it is overdue when none has. */
  setAside(slot: number, nowMs: number, graceMs: number): void {
    const run = this.runOf(slot);
    this.end(slot, nowMs);
    this.#lostRuns.set(slot, run);
    const lease = this.leases.create(this.#aside, slot, 0, 0);
    this.#table.set(slot, NEXT, lease);
    this.#aside.begun++;
    this.leases.start(lease, this.#asides, nowMs + graceMs);
  }

  /** Tasks with their workers, and those set aside; in no order. */
  *slots(): Generator<number> {
    for (const worker of [...this.workers.values(), this.#aside]) yield* this.slotsOf(worker);
  }

  /** In the order of their delivery. */
  *slotsOf(worker: CoreWorker): Generator<number> {
    for (let lease = worker.leaseHead; lease !== NONE; lease = this.leases.next(lease)) yield this.leases.slot(lease);
  }

  /** How many tasks are set aside. */
  get asideCount(): number {
    return this.#aside.held;
  }

  #holder(lease: number): CoreWorker {
    const index = this.leases.workerIndex(lease);
    return index === ASIDE_INDEX ? this.#aside : (this.workers.get(index) as CoreWorker);
  }

  isAside(slot: number): boolean {
    return this.leases.workerIndex(this.#table.get(slot, NEXT)) === ASIDE_INDEX;
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
    const count = this.#sampledFrom;
    // Also when it is none that counts: among those that are looked at, they are as frequent as among all.
    this.#untilSample = this.#sampledFrom = this.sampling.next(nowMs);
    if (this.#table.hasFlag(slot, FLAG_DEFERRED) || this.#table.attempts(slot) > 0) return;
    this.#startedAfter(nowMs - this.#table.enqueuedAtMs(slot), count);
  }

  /**
   * How long an active task has run; one that is set aside, until now too. Undefined: nobody has said that it began; what
   * begins and ends in one turn of the worker's event loop is not told one by one, and the first of it, which is presumed to
   * run, bears the time of all.
   */
  ranForMs(slot: number, nowMs: number): number | undefined {
    const lease = this.#table.get(slot, NEXT);
    if (!this.leases.running(lease)) return undefined;
    const worker = this.#holder(lease);
    const begunMs = lease === worker.presumed ? worker.presumedAtMs : this.runOf(slot).begunMs;
    return Math.max(0, nowMs - (begunMs ?? nowMs));
  }

  /** An active task leaves its worker. */
  end(slot: number, nowMs: number): void {
    const lease = this.#table.get(slot, NEXT);
    const worker = this.#holder(lease);
    worker.account(nowMs);
    if (this.leases.running(lease)) {
      this.leases.stop(lease, this.#classOf(worker, lease));
      worker.begun--;
      if (worker.presumed === lease) {
        worker.presumed = NONE;
        worker.probed = false;
      }
    }
    if (worker === this.#aside) this.#lostRuns.delete(slot);
    this.leases.drop(worker, lease);
    this.touch(worker);
  }

  /** Who has an active task, and under which token. */
  of(slot: number): { worker: CoreWorker; token: number } {
    const lease = this.#table.get(slot, NEXT);
    return { worker: this.#holder(lease), token: this.leases.token(lease) };
  }

  /** The earliest deadline of a class; infinite when it has none. */
  #firstDeadlineMs({ head }: TimeoutClass): number {
    return head === NONE ? Number.POSITIVE_INFINITY : this.leases.deadlineMs(head);
  }

  /** Infinity when nothing runs. */
  nextDeadlineMs(): number {
    let next = Math.min(this.#firstDeadlineMs(this.#probes), this.#firstDeadlineMs(this.#asides));
    for (const each of this.#kinds.timeoutClasses.values()) next = Math.min(next, this.#firstDeadlineMs(each));
    return next;
  }

  /**
   * Tasks that are past their deadline: the first of each timeout; look again when these have ended, or been put off by
   * `probe`. Some are only presumed to run, or set aside.
   */
  overdue(steadyMs: number): number[] {
    return [...this.#kinds.timeoutClasses.values(), this.#probes, this.#asides]
      .filter((each) => this.#firstDeadlineMs(each) <= steadyMs)
      .map(({ head }) => this.leases.slot(head));
  }
}
