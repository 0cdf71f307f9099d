import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import type { KeyRing } from '../../sealing/key-ring.ts';
import type { Parent } from '../../task/handler.ts';
import { Backlog } from '../backlog.ts';
import type { Execution, ExecutionOptions, RunningTask } from '../execution.ts';
import type { Logger } from '../options.ts';
import { BegunOrder } from './begun-order.ts';
import { Handing } from './handing.ts';
import type { HeldTask } from './held-tasks.ts';
import { Lookout, type LookoutOwner } from './lookout.ts';
import type { ErrorAsData, Report } from './messages.ts';
import { Pace } from './pace.ts';
import { Relay } from './relay.ts';
import type { PoolUser, ThreadPool } from './thread-pool.ts';
import type { CallingHandler, WorkerThread } from './worker-thread.ts';

export interface ThreadsOptions extends ExecutionOptions {
  readonly pool: ThreadPool;
}

/**
 * Carries deliveries to threads, each with a `Runner` of its own, and what these say of them back.
 *
 *   backlog ──group──▶ held by a thread ──begins──▶ runs ──report──▶ settled
 *      ▲                   │ thread is gone, or kept  ├── timeoutMs, crash ──▶ failed, thread replaced
 *      └───────────────────┤                          └── gone for another's sake ──▶ released
 *                          └── and it was cancelled ──▶ released
 *
 * A thread aborts and fails what runs out of time, as any runner does. Here is looked after those that cannot: a handler that
 * keeps its thread beyond its `timeoutMs`, or goes on for LIMITS.threadGraceMs after it was aborted, is ended with the thread.
 */
export class Threads implements Execution, PoolUser, LookoutOwner {
  /** The worker's: handlers run in real time whatever it shows. */
  readonly #clock: Clock;
  readonly #pool: ThreadPool;
  readonly #consumption: Consumption;
  readonly #concurrency: number;
  readonly #parents: (id: string) => Promise<Parent[]>;
  readonly #logger: Logger | undefined;
  /** Payloads are decrypted where their handlers are. */
  readonly #keyRing: KeyRing | undefined;
  readonly #backlog = new Backlog();
  readonly #pace = new Pace();
  readonly #relay: Relay;
  readonly #order: BegunOrder;
  readonly #lookout: Lookout;
  readonly #handing: Handing;
  #handScheduled = false;
  #stopped = false;
  #abandoned: MillraceError | undefined;
  #closing: Promise<void> | undefined;
  #idle: (() => void)[] = [];

  constructor({ clock, pool, consumption, concurrency, parents, logger, hooks, sealing }: ThreadsOptions) {
    this.#clock = clock;
    this.#pool = pool;
    this.#consumption = consumption;
    this.#concurrency = concurrency;
    this.#parents = parents;
    this.#logger = logger;
    this.#keyRing = sealing?.ring;
    this.#relay = new Relay(consumption, hooks, clock, pool.clock);
    this.#order = new BegunOrder(consumption, this.#backlog);
    this.#lookout = new Lookout(pool.clock, () => pool.threads, this);
    this.#handing = new Handing({
      clock: pool.clock,
      consumption,
      backlog: this.#backlog,
      order: this.#order,
      pace: this.#pace,
      handlers: pool.handlers,
      threads: () => pool.threads,
      handed: (timeoutMs) => this.#lookout.handed(timeoutMs),
    });
    pool.user = this;
    for (const thread of this.#working()) this.joined(thread);
  }

  get running(): number {
    return this.#begunAndHeld().length;
  }

  get completed(): number {
    return this.#relay.completed;
  }

  get failed(): number {
    return this.#relay.failed;
  }

  attempts(): RunningTask[] {
    const ahead = this.#clock.steadyMs() - this.#pool.clock.steadyMs();
    return this.#begunAndHeld().map(({ thread, parcel, number }) => {
      const startedMs = thread.startOf(number, this.#pool.clock.steadyMs());
      const deadlineMs = startedMs + parcel.run.spec.timeoutMs + ahead;
      return { run: parcel.run, index: parcel.indexOf(number), deadlineMs };
    });
  }

  deliver(run: DeliveryRun): void {
    this.#backlog.push(run);
    if (this.#stopped) this.stopStarting();
    else this.#handSoon();
  }

  pause(): void {
    this.#handing.paused = true;
  }

  resume(): void {
    this.#handing.paused = false;
    this.#handing.hand();
  }

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): boolean {
    if (this.#backlog.revoke(run, index)) {
      if (reason === 'cancelled') this.#consumption.release(run, index);
      return true;
    }
    for (const thread of this.#pool.threads) {
      const task = thread.held.locate(run, index);
      if (task === undefined) continue;
      const { parcel, number } = task;
      thread.tell({ type: 'revoke', number, reason });
      if (reason === 'cancelled') parcel.cancel(number);
      else parcel.lose(number);
      this.#checkIdle();
      return true;
    }
    return false;
  }

  stopStarting(): void {
    if (!this.#stopped) {
      this.#pool.stopReplacing();
      for (const thread of this.#working()) this.recall(thread);
    }
    this.#stopped = true;
    this.#backlog.drain((run, index) => this.#consumption.release(run, index));
  }

  idle(): Promise<void> {
    if (this.#nothingHeld) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  abandon(reason: MillraceError): number {
    this.#abandoned = reason;
    let count = 0;
    for (const thread of this.#pool.threads) {
      this.#relay.begin(thread);
      for (const { parcel, number } of thread.held.tasks()) {
        this.#consumption.release(parcel.run, parcel.indexOf(number));
        if (number <= thread.begun) count++;
      }
      thread.held.clear();
      thread.close(reason);
    }
    this.#lookout.end();
    this.#checkIdle();
    return count;
  }

  close(): Promise<void> {
    this.#closing ??= this.#pool.close(this.#abandoned);
    return this.#closing;
  }

  // ── What threads say ──────────────────────────────────────────────────────────────────────────────────────────────

  joined(thread: WorkerThread): void {
    const { threads } = this.#pool;
    const place = threads.indexOf(thread);
    const base = Math.floor(this.#concurrency / threads.length);
    thread.work(base + (place < this.#concurrency % threads.length ? 1 : 0), this.#keyRing);
    this.#handing.hand();
  }

  reported(thread: WorkerThread, report: Report): void {
    this.#relay.report(thread, report);
    thread.quietSinceMs = this.#pool.clock.steadyMs();
    this.#pace.learn(report.costs);
    thread.held.prune();
    this.#order.tell();
    this.#handing.hand();
    this.#checkIdle();
  }

  parents(thread: WorkerThread, call: number, id: string): void {
    const answer = (parents: Parent[] | ErrorAsData): void => {
      if (thread.state !== 'over') thread.tell({ type: 'parents', call, parents });
    };
    this.#parents(id).then(answer, (error: unknown) => {
      const known = error instanceof MillraceError ? error : new MillraceError('CLOSED', String(error));
      answer({ ...known.toJSON(), details: {} });
    });
  }

  warned(details: object, message: string): void {
    this.#logger?.warn(details, message);
  }

  crashed(thread: WorkerThread, cause: unknown): void {
    this.#relay.begin(thread);
    const blamed = new Set<number>();
    for (const { first, length } of thread.running.values()) addRange(blamed, first, length);
    if (thread.begun > thread.returned) {
      const { length } = thread.marks;
      addRange(blamed, thread.begun - length + 1, length);
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `the worker thread ended while it ran the task: ${reason}`;
    this.#logger?.error({ err: cause, tasks: blamed.size }, 'a worker thread crashed; it is replaced');
    this.#retire(thread, blamed, new MillraceError('THREAD_CRASHED', message, { cause }));
    this.#pool.replace(thread, true);
  }

  // ── What the lookout sees ─────────────────────────────────────────────────────────────────────────────────────────

  begin(thread: WorkerThread): void {
    this.#relay.begin(thread);
  }

  /** Takes back what the thread has not begun. */
  recall(thread: WorkerThread): void {
    thread.recall(this.#pool.clock.steadyMs());
    this.#relay.begin(thread);
    this.#takeBack(thread.held.tasks().filter(({ number }) => number > thread.begun));
    thread.held.keepTo(thread.begun);
    thread.held.prune();
    this.#handSoon();
  }

  expired(thread: WorkerThread, { first, length, timeoutMs }: CallingHandler): void {
    const message = `the attempt ran longer than its timeoutMs, ${timeoutMs} ms, and did not stop: its thread was ended`;
    const blamed = new Set<number>();
    addRange(blamed, first, length);
    this.#logger?.warn({ timeoutMs, tasks: length }, 'a worker thread was ended with a task that ran for too long');
    this.#retire(thread, blamed, new MillraceError('TASK_TIMEOUT', message, { details: { timeoutMs } }));
    this.#pool.replace(thread, false);
  }

  looked(): void {
    this.#order.tell();
    this.#checkIdle();
  }

  // ── Threads that are to end ───────────────────────────────────────────────────────────────────────────────────────

  /** What a thread did not begin goes to other threads; what is cancelled goes back, as it would have from the backlog. */
  #takeBack(tasks: readonly HeldTask[]): void {
    const wanted: HeldTask[] = [];
    for (const task of tasks) {
      const { parcel, number } = task;
      if (parcel.isCancelled(number)) this.#consumption.release(parcel.run, parcel.indexOf(number));
      else wanted.push(task);
      parcel.end(number);
    }
    // The last ones first, so that the first end up before them; what belongs together, together.
    for (let at = wanted.length - 1; at >= 0; at--) {
      const { parcel, number: last } = wanted[at] as HeldTask;
      let number = last;
      while (wanted[at - 1]?.parcel === parcel && wanted[at - 1]?.number === number - 1) {
        at--;
        number--;
      }
      this.#backlog.putBack(parcel.run, parcel.indexOf(number), parcel.indexOf(last) + 1, parcel.order);
    }
  }

  /**
   * The thread is gone, or is ended: those blamed have failed, the others that had begun are handed back, as they did nothing
   * wrong, and what had not begun goes to other threads.
   */
  #retire(thread: WorkerThread, blamed: ReadonlySet<number>, error: MillraceError): void {
    thread.terminate();
    const nowMs = this.#pool.clock.steadyMs();
    const waiting: HeldTask[] = [];
    for (const task of thread.held.tasks()) {
      const { parcel, number } = task;
      if (blamed.has(number)) this.#relay.fail(parcel, number, error, thread.startOf(number, nowMs));
      else if (number <= thread.begun || this.#stopped) this.#consumption.release(parcel.run, parcel.indexOf(number));
      else waiting.push(task);
    }
    this.#takeBack(waiting);
    thread.held.clear();
    thread.running.clear();
    this.#order.remove(thread);
    this.#handSoon();
    this.#checkIdle();
  }

  // ── Helpers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What comes in one turn is handed over together. */
  #handSoon(): void {
    if (this.#handScheduled) return;
    this.#handScheduled = true;
    this.#pool.clock.defer(() => {
      this.#handScheduled = false;
      this.#handing.hand();
    });
  }

  #working(): WorkerThread[] {
    return this.#pool.threads.filter(({ state }) => state === 'working');
  }

  get #nothingHeld(): boolean {
    return this.#pool.threads.every((thread) => thread.held.held === 0);
  }

  #checkIdle(): void {
    if (this.#idle.length === 0 || !this.#nothingHeld) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #begunAndHeld(): (HeldTask & { thread: WorkerThread })[] {
    return this.#pool.threads.flatMap((thread) => {
      this.#relay.begin(thread);
      const begun = thread.held.tasks().filter(({ number }) => number <= thread.begun);
      return begun.map((task) => ({ thread, ...task }));
    });
  }
}

function addRange(set: Set<number>, first: number, length: number): void {
  for (let number = first; number < first + length; number++) set.add(number);
}
