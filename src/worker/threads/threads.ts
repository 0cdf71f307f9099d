import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import { MillraceError } from '../../errors.ts';
import type { Clock, Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { KeyRing } from '../../sealing/key-ring.ts';
import type { Parent } from '../../task/handler.ts';
import { Backlog } from '../backlog.ts';
import { type Execution, type ExecutionOptions, type RunningTask, SETTLEMENT_REFUSED } from '../execution.ts';
import type { Logger } from '../options.ts';
import { BegunOrder } from './begun-order.ts';
import { Handing } from './handing.ts';
import type { Parcel } from './held-tasks.ts';
import type { ErrorAsData, Report } from './messages.ts';
import { Pace } from './pace.ts';
import { Relay } from './relay.ts';
import type { PoolUser, ThreadPool } from './thread-pool.ts';
import { type CallingHandler, isDeaf, isStuck, type WorkerThread } from './worker-thread.ts';

export interface ThreadsOptions extends ExecutionOptions {
  readonly pool: ThreadPool;
}

/** How soon after something was handed over, and how often at least, it is looked how far the threads are. */
const LOOK_MS_MIN = 25;
const LOOK_MS_MAX = 250;

/**
 * Carries deliveries to threads, each with a `Runner` of its own, and what these say of them back.
 *
 *   backlog ──group──▶ held by a thread ──begins──▶ runs ──report──▶ settled
 *      ▲                   │ thread is gone           ├── timeoutMs, crash ──▶ failed, thread replaced
 *      └───────────────────┘                          └── gone for another's sake ──▶ released
 *
 * A thread aborts and fails what runs out of time, as any runner does. Here is looked after those that cannot: a handler that
 * keeps its thread beyond its `timeoutMs`, or goes on for LIMITS.threadGraceMs after it was aborted, is ended with the thread.
 */
export class Threads implements Execution, PoolUser {
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
  readonly #handing: Handing;
  #handScheduled = false;
  #stopped = false;
  #abandoned: MillraceError | undefined;
  #lookTimer: Timer | undefined;
  #lookAtMs = Number.POSITIVE_INFINITY;
  #lookMs = LOOK_MS_MIN;
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
    this.#handing = new Handing({
      clock: pool.clock,
      consumption,
      backlog: this.#backlog,
      order: this.#order,
      pace: this.#pace,
      handlers: pool.handlers,
      threads: () => pool.threads,
      handed: (timeoutMs) => this.#lookSoon(timeoutMs),
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
      const deadlineMs = startOf(thread, number, this.#pool.clock.steadyMs()) + parcel.run.spec.timeoutMs + ahead;
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

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): void {
    if (this.#backlog.revoke(run, index)) {
      // It goes back, and its server ends it.
      if (reason === 'cancelled') this.#consumption.release(run, index);
      return;
    }
    for (const thread of this.#pool.threads) {
      const number = thread.held.locate(run, index);
      if (number === -1) continue;
      thread.tell({ type: 'revoke', number, reason });
      if (reason === 'lease-lost') thread.held.find(number)?.lose(number);
      this.#checkIdle();
      return;
    }
    this.#logger?.warn({ task: run.id(index) }, SETTLEMENT_REFUSED);
  }

  stopStarting(): void {
    if (!this.#stopped) {
      this.#pool.stopReplacing();
      for (const thread of this.#working()) this.#recall(thread);
    }
    this.#stopped = true;
    this.#backlog.drain((run, index) => this.#consumption.release(run, index));
  }

  idle(timeoutMs: number): Promise<void> {
    if (timeoutMs <= 0 || this.#nothingHeld) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(timeoutMs, resolve);
      this.#idle.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  abandon(reason: MillraceError): number {
    this.#abandoned = reason;
    let count = 0;
    for (const thread of this.#pool.threads) {
      this.#relay.begin(thread);
      for (const { parcel, number } of held(thread)) {
        this.#consumption.release(parcel.run, parcel.indexOf(number));
        if (number <= thread.begun) count++;
      }
      thread.held.clear();
      thread.close(reason);
    }
    this.#lookTimer?.cancel();
    return count;
  }

  close(): Promise<void> {
    return this.#pool.close(this.#abandoned);
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

  // ── Threads that are to end ───────────────────────────────────────────────────────────────────────────────────────

  /** Takes back what the thread has not begun. */
  #recall(thread: WorkerThread): void {
    thread.recall(this.#pool.clock.steadyMs());
    this.#relay.begin(thread);
    this.#putBack(held(thread).filter(({ number }) => number > thread.begun));
    thread.held.keepTo(thread.begun);
    thread.held.prune();
  }

  #putBack(tasks: readonly { parcel: Parcel; number: number }[]): void {
    // The last ones first, so that the first end up before them; what belongs together, together.
    for (let at = tasks.length - 1; at >= 0; at--) {
      const { parcel, number: last } = tasks[at] as { parcel: Parcel; number: number };
      let number = last;
      parcel.end(number);
      while (tasks[at - 1]?.parcel === parcel && tasks[at - 1]?.number === number - 1) {
        at--;
        number--;
        parcel.end(number);
      }
      this.#backlog.putBack(parcel.run, parcel.indexOf(number), parcel.indexOf(last) + 1, parcel.order);
    }
  }

  /** Looks how far threads are, and ends those that a handler keeps for too long. */
  #look(): void {
    const nowMs = this.#pool.clock.steadyMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const thread of this.#working()) {
      this.#relay.begin(thread);
      let overdue = overdueOf(thread, nowMs);
      if (overdue !== undefined || isDeaf(thread, nowMs)) {
        // It may have said something, while this thread was busy.
        thread.drain();
        overdue = overdueOf(thread, nowMs);
      }
      if (overdue !== undefined) this.#expire(thread, overdue);
      else if (isDeaf(thread, nowMs, LIMITS.threadStartMs) && thread.running.size === 0) {
        this.crashed(thread, new Error(`no handler ran in it, and it did nothing for ${LIMITS.threadStartMs} ms`));
      } else if (thread.hasWaiting && (isStuck(thread, nowMs) || isDeaf(thread, nowMs))) {
        this.#recall(thread);
        this.#handSoon();
      }
      if (thread.state === 'working') nextMs = Math.min(nextMs, nextLookMs(thread, nowMs));
    }
    this.#order.tell();
    this.#checkIdle();
    this.#lookMs = Math.min(this.#lookMs * 2, LOOK_MS_MAX);
    if (nextMs < Number.POSITIVE_INFINITY) this.#lookBy(Math.min(nextMs, nowMs + this.#lookMs));
  }

  /** What was handed over begins at once, or soon. */
  #lookSoon(timeoutMs: number): void {
    this.#lookMs = LOOK_MS_MIN;
    this.#lookBy(this.#pool.clock.steadyMs() + Math.min(LOOK_MS_MIN, timeoutMs));
  }

  #lookBy(atMs: number): void {
    if (this.#lookAtMs <= atMs) return;
    this.#lookTimer?.cancel();
    this.#lookAtMs = atMs;
    this.#lookTimer = this.#pool.clock.setTimer(atMs - this.#pool.clock.steadyMs(), () => {
      this.#lookAtMs = Number.POSITIVE_INFINITY;
      this.#look();
    });
    this.#lookTimer.unref();
  }

  #expire(thread: WorkerThread, { first, length, timeoutMs }: CallingHandler): void {
    const message = `the attempt ran longer than its timeoutMs, ${timeoutMs} ms, and did not stop: its thread was ended`;
    const blamed = new Set<number>();
    addRange(blamed, first, length);
    this.#logger?.warn({ timeoutMs, tasks: length }, 'a worker thread was ended with a task that ran for too long');
    this.#retire(thread, blamed, new MillraceError('TASK_TIMEOUT', message, { details: { timeoutMs } }));
    this.#pool.replace(thread, false);
  }

  /**
   * The thread is gone, or is ended: those blamed have failed, the others that had begun are handed back, as they did nothing
   * wrong, and what had not begun goes to other threads.
   */
  #retire(thread: WorkerThread, blamed: ReadonlySet<number>, error: MillraceError): void {
    thread.terminate();
    const nowMs = this.#pool.clock.steadyMs();
    const waiting: { parcel: Parcel; number: number }[] = [];
    for (const { parcel, number } of held(thread)) {
      if (blamed.has(number)) this.#relay.fail(parcel, number, error, startOf(thread, number, nowMs));
      else if (number <= thread.begun || this.#stopped) this.#consumption.release(parcel.run, parcel.indexOf(number));
      else waiting.push({ parcel, number });
    }
    this.#putBack(waiting);
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

  #begunAndHeld(): { thread: WorkerThread; parcel: Parcel; number: number }[] {
    return this.#pool.threads.flatMap((thread) => {
      this.#relay.begin(thread);
      return [...held(thread)].filter(({ number }) => number <= thread.begun).map((each) => ({ thread, ...each }));
    });
  }
}

/** The handler for whose sake the thread is to end. */
function overdueOf(thread: WorkerThread, nowMs: number): CallingHandler | undefined {
  const { calling } = thread;
  if (calling !== undefined && thread.marks.startedMs(nowMs) + calling.timeoutMs <= nowMs) return calling;
  for (const handler of thread.running.values()) {
    if (handler.startedMs + handler.timeoutMs + LIMITS.threadGraceMs <= nowMs) return handler;
  }
  return undefined;
}

/** When something in the thread can be overdue; never when it has nothing. */
function nextLookMs(thread: WorkerThread, nowMs: number): number {
  let nextMs = Number.POSITIVE_INFINITY;
  const { calling } = thread;
  if (calling !== undefined) nextMs = thread.marks.startedMs(nowMs) + calling.timeoutMs;
  for (const { startedMs, timeoutMs } of thread.running.values()) {
    nextMs = Math.min(nextMs, startedMs + timeoutMs + LIMITS.threadGraceMs);
  }
  if (thread.recalling) nextMs = Math.min(nextMs, nowMs + LOOK_MS_MAX);
  // What waits may begin at any time.
  for (const { held, lastKept, run } of thread.held.parcels) {
    if (held > 0 && lastKept > thread.begun)
      nextMs = Math.min(nextMs, nowMs + Math.min(LOOK_MS_MIN, run.spec.timeoutMs));
  }
  return nextMs;
}

/** When the handler of a task began that has begun. */
function startOf(thread: WorkerThread, number: number, nowMs: number): number {
  for (const { first, length, startedMs } of thread.running.values()) {
    if (number >= first && number < first + length) return startedMs;
  }
  return thread.marks.startedMs(nowMs);
}

/** The tasks of a thread that are to be settled. A copy: they may be settled while it is walked. */
function held(thread: WorkerThread): { parcel: Parcel; number: number }[] {
  const tasks: { parcel: Parcel; number: number }[] = [];
  for (const parcel of thread.held.parcels) {
    for (let number = parcel.first; number <= parcel.last; number++) {
      if (parcel.isHeld(number)) tasks.push({ parcel, number });
    }
  }
  return tasks;
}

function addRange(set: Set<number>, first: number, length: number): void {
  for (let number = first; number < first + length; number++) set.add(number);
}
