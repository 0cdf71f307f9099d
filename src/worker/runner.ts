import type { Consumption, DeliveryRun } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { BatchHandler, SingleHandler, TaskHandler } from '../task/handler.ts';
import type { TracedAttempt, Tracing } from '../task/tracing.ts';
import { ActiveTasks } from './active-tasks.ts';
import { Attempt, type Reach, type RunningTasks } from './attempt.ts';
import { Backlog } from './backlog.ts';
import { BatchAttempt } from './batch-attempt.ts';
import { call, pendingOf } from './calling.ts';
import type { Execution, ExecutionOptions, RunningTask } from './execution.ts';
import type { AttemptHooks } from './hooks.ts';
import { ANY_NAME } from './options.ts';
import { Outcomes } from './outcomes.ts';

export interface RunnerOptions extends ExecutionOptions {
  readonly handlers: ReadonlyMap<string, TaskHandler>;
  readonly gate?: AttemptGate | undefined;
}

/** Whoever has to know exactly what runs. */
export interface AttemptGate {
  /** Asked before a handler is called; false: the tasks are no longer to be begun, nor settled. */
  begins(run: DeliveryRun, from: number, length: number, nowMs: number): boolean;
  /** A handler did not end at once, … */
  entered(task: RunningTasks): void;
  /** … and has ended now, though its tasks may have been over before. */
  ended(task: RunningTasks): void;
}

/** Handlers that do not wait for anything may keep the event loop so long before it gets a turn. */
const TURN_MS_MAX = 10;

/**
 * Runs handlers: starts deliveries in their order while slots are free, and settles each task once.
 *
 *   backlog ──a slot is free──▶ running ──handler ends──▶ completed | failed
 *      │                          ├── timeoutMs ─────────▶ failed (TASK_TIMEOUT), signal aborted
 *      │                          ├── lease lost ────────▶ signal aborted, nothing settled
 *      └── revoked, stopped ──────┴── stop is over ──────▶ released
 *
 * A handler that ends at once is settled at once: it never enters the active tasks and costs no timer, no promise and no
 * AbortController.
 */
export class Runner implements Execution {
  /** Tasks that hold a slot. */
  running = 0;
  readonly #active: ActiveTasks<Attempt | BatchAttempt>;
  readonly #clock: Clock;
  readonly #consumption: Consumption;
  readonly #reach: Reach;
  readonly #handlers: ReadonlyMap<string, TaskHandler>;
  readonly #concurrency: number;
  readonly #hooks: AttemptHooks | undefined;
  readonly #tracing: Tracing | undefined;
  readonly #gate: AttemptGate | undefined;
  readonly #outcomes: Outcomes;
  readonly #backlog = new Backlog();
  /** When the task that is being started began: the clock is read once a task. */
  #nowMs = 0;
  #starting = false;
  /** The event loop has its turn before anything else starts. */
  #yielding = false;
  #paused = false;
  #stopped = false;

  constructor(options: RunnerOptions) {
    this.#clock = options.clock;
    this.#consumption = options.consumption;
    this.#reach = { consumption: options.consumption, parents: options.parents, sealing: options.sealing };
    this.#handlers = options.handlers;
    this.#concurrency = options.concurrency;
    this.#hooks = options.hooks;
    this.#tracing = options.tracing;
    this.#gate = options.gate;
    this.#outcomes = new Outcomes(options);
    this.#active = new ActiveTasks(options.clock, (task) => this.#expire(task));
  }

  get completed(): number {
    return this.#outcomes.completed;
  }

  get failed(): number {
    return this.#outcomes.failed;
  }

  deliver(run: DeliveryRun): void {
    this.#backlog.push(run);
    if (this.#stopped) this.stopStarting();
    else this.#start();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#start();
  }

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): boolean {
    if (this.#backlog.revoke(run, index)) {
      // It goes back, and its server ends it.
      if (reason === 'cancelled') this.#consumption.release(run, index);
      return true;
    }
    const task = this.#active.find(run, index);
    if (task === undefined) return false;
    task.revoke(index, reason);
    // A batch goes on for as long as one of its tasks is wanted.
    if (!task.isUnwanted) return true;
    const id = run.id(index);
    const cancelled = reason === 'cancelled';
    const message = cancelled ? `task ${id} was cancelled` : `task ${id} is no longer leased to this worker`;
    const error = new MillraceError(cancelled ? 'TASK_CANCELLED' : 'LEASE_LOST', message, { details: { id } });
    task.abort(error);
    // Nobody waits for what its handler still does; others may have its slots.
    if (!task.isLost || !this.#leave(task)) return true;
    task.trace?.failed(error);
    this.#start();
    return true;
  }

  stopStarting(): void {
    this.#stopped = true;
    this.#backlog.drain((run, index) => this.#consumption.release(run, index));
  }

  idle(): Promise<void> {
    return this.#active.empty();
  }

  attempts(): RunningTask[] {
    return this.#active
      .all()
      .flatMap(({ run, from, length, deadlineMs }) =>
        Array.from({ length }, (_, offset) => ({ run, index: from + offset, deadlineMs })),
      );
  }

  /** What handlers still do cannot be ended from their own event loop. */
  async close(): Promise<void> {}

  abandon(reason: MillraceError): number {
    let count = 0;
    for (const task of this.#active.all()) {
      task.abort(reason);
      for (let index = 0; index < task.length; index++) this.#consumption.release(task.run, task.from + index);
      count += task.length;
      this.#leave(task);
      task.trace?.failed(reason);
    }
    this.#active.close();
    return count;
  }

  #start(): void {
    // A handler's end inside the loop below does not begin a second one.
    if (this.#starting || this.#yielding) return;
    this.#starting = true;
    const turnMs = this.#clock.steadyMs();
    this.#nowMs = turnMs;
    const backlog = this.#backlog;
    for (let run = backlog.run; run !== undefined && !this.#paused && !this.#stopped; run = backlog.run) {
      const handler = this.#handlers.get(run.spec.name) ?? this.#handlers.get(ANY_NAME);
      const free = this.#concurrency - this.running;
      const together = handler?.kind === 'batch' && !run.suspect ? Math.min(handler.batchSize, this.#concurrency) : 1;
      const wanted = backlog.available(together);
      if (free < wanted) break;
      const { index } = backlog;
      backlog.take(wanted);
      if (this.#gate !== undefined && !this.#gate.begins(run, index, wanted, this.#nowMs)) continue;
      if (run.suspect) this.#consumption.begun(run, index + wanted - 1, true);
      if (handler === undefined)
        this.#outcomes.unhandled({ run, startedMs: this.#nowMs }, index, this.#handlers.keys());
      else if (handler.kind === 'single') this.#startSingle(run, index, handler);
      else this.#startBatch(run, index, wanted, handler);
      this.#nowMs = this.#clock.steadyMs();
      // One that ended a worker before may do so again: what was settled is on its way first.
      if (run.suspect || this.#nowMs - turnMs > TURN_MS_MAX) {
        this.#yielding = true;
        this.#clock.deferPastInput(() => {
          this.#yielding = false;
          this.#start();
        });
        break;
      }
    }
    this.#starting = false;
  }

  // ── Single tasks ──────────────────────────────────────────────────────────────────────────────────────────────────

  #startSingle(run: DeliveryRun, index: number, handler: SingleHandler): void {
    const attempt = new Attempt(this.#reach, run, index, handler, this.#nowMs);
    if (this.#tracing !== undefined) attempt.trace = this.#tracing.attempt(tracedOf(attempt, false));
    let input: unknown;
    try {
      input = attempt.decode();
    } catch (error) {
      this.#outcomes.unread(attempt, error);
      return;
    }
    this.#hooks?.started?.(run, index, 1);
    let returned: unknown;
    let pending: Promise<unknown> | undefined;
    try {
      const { trace } = attempt;
      returned = trace === undefined ? call(handler, input, attempt) : trace.run(() => call(handler, input, attempt));
      pending = pendingOf(returned);
    } catch (error) {
      this.#outcomes.fail(attempt, error);
      return;
    }
    if (pending === undefined) {
      this.#outcomes.complete(attempt, returned);
      return;
    }
    this.#enter(attempt);
    pending.then(
      (value) => {
        this.#gate?.ended(attempt);
        if (!this.#leave(attempt)) return;
        this.#outcomes.complete(attempt, value);
        this.#start();
      },
      (error: unknown) => {
        this.#gate?.ended(attempt);
        if (!this.#leave(attempt)) return;
        this.#outcomes.fail(attempt, error);
        this.#start();
      },
    );
  }

  // ── Batches ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #startBatch(run: DeliveryRun, from: number, length: number, handler: BatchHandler): void {
    const batch = new BatchAttempt(this.#reach, run, from, length, handler, this.#nowMs);
    if (this.#tracing !== undefined) batch.trace = this.#tracing.attempt(tracedOf(batch, true));
    this.#hooks?.started?.(run, from, length);
    let returned: unknown;
    let pending: Promise<unknown> | undefined;
    try {
      returned = batch.trace === undefined ? handler.run(batch) : batch.trace.run(() => handler.run(batch));
      pending = pendingOf(returned);
    } catch (error) {
      this.#outcomes.failBatch(batch, error);
      return;
    }
    if (pending === undefined) {
      this.#outcomes.completeBatch(batch, returned);
      return;
    }
    this.#enter(batch);
    pending.then(
      (value) => {
        this.#gate?.ended(batch);
        if (!this.#leave(batch)) return;
        this.#outcomes.completeBatch(batch, value);
        this.#start();
      },
      (error: unknown) => {
        this.#gate?.ended(batch);
        if (!this.#leave(batch)) return;
        this.#outcomes.failBatch(batch, error);
        this.#start();
      },
    );
  }

  // ── Ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #expire(task: Attempt | BatchAttempt): void {
    const { timeoutMs } = task.run.spec;
    const error = new MillraceError(
      'TASK_TIMEOUT',
      `the attempt ran longer than its timeoutMs, ${timeoutMs} ms: raise it, or stop when ctx.signal is aborted`,
      { details: { timeoutMs } },
    );
    this.#leave(task);
    task.abort(error);
    this.#outcomes.timedOut(task, error);
    this.#start();
  }

  #enter(task: Attempt | BatchAttempt): void {
    this.running += task.length;
    this.#active.add(task, this.#nowMs);
    this.#gate?.entered(task);
    this.#consumption.begun(task.run, task.from + task.length - 1, false);
  }

  /** False when the task was over before, by its timeout or the worker's stop. */
  #leave(task: Attempt | BatchAttempt): boolean {
    if (task.over) return false;
    task.over = true;
    this.running -= task.length;
    this.#active.remove(task);
    return true;
  }
}

function tracedOf(task: Attempt | BatchAttempt, isBatch: boolean): TracedAttempt {
  const { run, from, length, name, queue, attempt, maxAttempts } = task;
  return {
    ...{ name, queue, attempt, maxAttempts, isBatch, length },
    id: (index) => run.id(from + index),
    headers: (index) => run.headers(from + index),
  };
}
