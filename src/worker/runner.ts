import { types } from 'node:util';
import type { Consumption, DeliveryRun, FailOptions } from '../broker/contract.ts';
import { type ErrorCode, MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import { OVERHEAD_BYTES_MAX } from '../sealing/envelope.ts';
import { encodeResult } from '../task/codec.ts';
import type { BatchHandler, SingleHandler, TaskHandler } from '../task/handler.ts';
import { validate, validateNow } from '../task/schema.ts';
import type { AttemptTrace, TracedAttempt, Tracing } from '../task/tracing.ts';
import { ActiveTasks } from './active-tasks.ts';
import { Attempt, type Reach, type RunningTasks } from './attempt.ts';
import { Backlog } from './backlog.ts';
import { BatchAttempt } from './batch-attempt.ts';
import { type Execution, type ExecutionOptions, type RunningTask, SETTLEMENT_REFUSED } from './execution.ts';
import { describeThrown, endingOf, PayloadRefused } from './failures.ts';
import type { AttemptHooks } from './hooks.ts';
import { ANY_NAME, type Logger } from './options.ts';

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
const AGAIN: FailOptions = { final: false, retryDelayMs: undefined };
const FINAL: FailOptions = { final: true, retryDelayMs: undefined };

/** Handlers that do not wait for anything may keep the event loop so long before it gets a turn. */
const TURN_MS_MAX = 10;

/** Names without a handler of which was told. */
const UNKNOWN_NAMES_KEPT = 1000;

/** What has begun. */
type Started = Pick<RunningTasks, 'run' | 'startedMs'>;

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

/** What an attempt failed with: anything can be thrown, nothing too. */
interface Failed {
  readonly error: unknown;
}

export class Runner implements Execution {
  /** Tasks that hold a slot. */
  running = 0;
  completed = 0;
  failed = 0;
  readonly #active: ActiveTasks<Attempt | BatchAttempt>;
  readonly #clock: Clock;
  readonly #consumption: Consumption;
  readonly #reach: Reach;
  readonly #handlers: ReadonlyMap<string, TaskHandler>;
  readonly #concurrency: number;
  readonly #logger: Logger | undefined;
  readonly #hooks: AttemptHooks | undefined;
  readonly #tracing: Tracing | undefined;
  readonly #gate: AttemptGate | undefined;
  /** By how much a result may grow before it is stored. */
  readonly #sealBytes: number;
  readonly #backlog = new Backlog();
  readonly #unknownNames = new Set<string>();
  readonly #missingKeys = new Set<unknown>();
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
    this.#logger = options.logger;
    this.#hooks = options.hooks;
    this.#tracing = options.tracing;
    this.#gate = options.gate;
    this.#sealBytes = options.sealing === undefined ? 0 : OVERHEAD_BYTES_MAX;
    this.#active = new ActiveTasks(options.clock, (task) => this.#expire(task));
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

  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): void {
    if (this.#backlog.revoke(run, index)) {
      // It goes back, and its server ends it.
      if (reason === 'cancelled') this.#consumption.release(run, index);
      return;
    }
    const task = this.#active.find(run, index);
    const id = run.id(index);
    if (task === undefined) {
      this.#logger?.warn({ task: id }, SETTLEMENT_REFUSED);
      return;
    }
    // A batch goes on for as long as one of its tasks is wanted.
    if (reason === 'lease-lost') task.lost++;
    if (++task.revoked < task.length) return;
    const cancelled = reason === 'cancelled';
    const message = cancelled ? `task ${id} was cancelled` : `task ${id} is no longer leased to this worker`;
    const error = new MillraceError(cancelled ? 'TASK_CANCELLED' : 'LEASE_LOST', message, { details: { id } });
    task.abort(error);
    // Nobody waits for what its handler still does; others may have its slots.
    if (task.lost < task.length || !this.#leave(task)) return;
    task.trace?.failed(error);
    this.#start();
  }

  stopStarting(): void {
    this.#stopped = true;
    this.#backlog.drain((run, index) => this.#consumption.release(run, index));
  }

  idle(timeoutMs: number): Promise<void> {
    return this.#active.empty(timeoutMs);
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
      if (handler === undefined) this.#unknown(run, index);
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

  #unknown(run: DeliveryRun, index: number): void {
    const { name } = run.spec;
    const message = `this worker has no handler for ${JSON.stringify(name)}; it has ${[...this.#handlers.keys()].join(', ')}`;
    if (isFirst(name, this.#unknownNames, UNKNOWN_NAMES_KEPT)) {
      this.#logger?.warn({ name, queue: run.spec.queue }, message);
    }
    this.#fail({ run, startedMs: this.#nowMs }, index, new MillraceError('NO_HANDLER', message), 'NO_HANDLER', AGAIN);
  }

  // ── Single tasks ──────────────────────────────────────────────────────────────────────────────────────────────────

  #startSingle(run: DeliveryRun, index: number, handler: SingleHandler): void {
    const attempt = new Attempt(this.#reach, run, index, handler, this.#nowMs);
    if (this.#tracing !== undefined) attempt.trace = this.#tracing.attempt(tracedOf(attempt, false));
    let input: unknown;
    try {
      input = attempt.decode();
    } catch (error) {
      this.#failUnread(attempt, index, error);
      attempt.trace?.failed(error);
      return;
    }
    this.#hooks?.started(run, index, 1);
    let returned: unknown;
    let pending: Promise<unknown> | undefined;
    try {
      const { trace } = attempt;
      returned = trace === undefined ? call(handler, input, attempt) : trace.run(() => call(handler, input, attempt));
      pending = pendingOf(returned);
    } catch (error) {
      this.#failSingle(attempt, error);
      return;
    }
    if (pending === undefined) {
      this.#completeSingle(attempt, returned);
      return;
    }
    this.#enter(attempt);
    pending.then(
      (value) => {
        this.#gate?.ended(attempt);
        if (!this.#leave(attempt)) return;
        this.#completeSingle(attempt, value);
        this.#start();
      },
      (error: unknown) => {
        this.#gate?.ended(attempt);
        if (!this.#leave(attempt)) return;
        this.#failSingle(attempt, error);
        this.#start();
      },
    );
  }

  #completeSingle(attempt: Attempt, value: unknown): void {
    const failed = this.#complete(attempt, attempt.from, value);
    if (attempt.trace !== undefined) endTrace(attempt.trace, failed);
  }

  #failSingle(attempt: Attempt, thrown: unknown): void {
    const { error } = this.#failThrown(attempt, attempt.from, thrown);
    attempt.trace?.failed(error);
  }

  /** What the attempt failed with, if its result cannot be kept. */
  #complete(task: Attempt | BatchAttempt, index: number, value: unknown): Failed | undefined {
    const { run, handler } = task;
    let result: ReturnType<typeof encodeResult>;
    try {
      result = encodeResult(value, handler.format.result, this.#sealBytes);
    } catch (error) {
      return this.#fail(task, index, error, 'INVALID_PAYLOAD', FINAL);
    }
    this.completed++;
    this.#consumption.complete(run, index, result);
    this.#hooks?.completed(run, index, value);
    return undefined;
  }

  // ── Batches ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #startBatch(run: DeliveryRun, from: number, length: number, handler: BatchHandler): void {
    const batch = new BatchAttempt(this.#reach, run, from, length, handler, this.#nowMs);
    if (this.#tracing !== undefined) batch.trace = this.#tracing.attempt(tracedOf(batch, true));
    this.#hooks?.started(run, from, length);
    let returned: unknown;
    let pending: Promise<unknown> | undefined;
    try {
      returned = batch.trace === undefined ? handler.run(batch) : batch.trace.run(() => handler.run(batch));
      pending = pendingOf(returned);
    } catch (error) {
      this.#failBatch(batch, error);
      return;
    }
    if (pending === undefined) {
      this.#completeBatch(batch, returned);
      return;
    }
    this.#enter(batch);
    pending.then(
      (value) => {
        this.#gate?.ended(batch);
        if (!this.#leave(batch)) return;
        this.#completeBatch(batch, value);
        this.#start();
      },
      (error: unknown) => {
        this.#gate?.ended(batch);
        if (!this.#leave(batch)) return;
        this.#failBatch(batch, error);
        this.#start();
      },
    );
  }

  #completeBatch(batch: BatchAttempt, results: unknown): void {
    const { run, from, length, failures } = batch;
    try {
      checkResults(results, length);
    } catch (error) {
      this.#failBatch(batch, error);
      return;
    }
    if (results === undefined && failures.size === 0) {
      this.completed += length;
      this.#consumption.completeMany(run, from, from + length);
      if (this.#hooks !== undefined) {
        for (let index = from; index < from + length; index++) this.#hooks.completed(run, index, undefined);
      }
      batch.trace?.completed();
      return;
    }
    let first: Failed | undefined;
    for (let index = 0; index < length; index++) {
      const failed = failures.has(index)
        ? this.#failThrown(batch, from + index, failures.get(index))
        : this.#completeInBatch(batch, index, results);
      first ??= failed;
    }
    if (batch.trace !== undefined) endTrace(batch.trace, first);
  }

  #completeInBatch(batch: BatchAttempt, index: number, results: readonly unknown[] | undefined): Failed | undefined {
    const { from, handler } = batch;
    const { output, name } = handler.format;
    let value: unknown;
    try {
      value = results?.[index];
      if (output !== undefined) validateNow(output, value, `the result of ${name}`);
    } catch (error) {
      return this.#fail(batch, from + index, error, 'INVALID_PAYLOAD', FINAL);
    }
    return this.#complete(batch, from + index, value);
  }

  #failBatch(batch: BatchAttempt, error: unknown): void {
    const { from, length, failures } = batch;
    const unreadable = batch.unreadableIndex(error);
    for (let index = 0; index < length; index++) {
      if (failures.has(index)) this.#failThrown(batch, from + index, failures.get(index));
      else if (index === unreadable) this.#failUnread(batch, from + index, error);
      else if (unreadable !== -1) this.#releaseUnlessLocked(batch, index);
      else this.#failThrown(batch, from + index, error);
    }
    batch.trace?.failed(error);
  }

  /**
   * Another could not be read, and this did nothing wrong: it comes again, without that one. Many may have been encrypted with a
   * key that is missing here, and they must not end one by one.
   */
  #releaseUnlessLocked(batch: BatchAttempt, index: number): void {
    const locked = batch.locked(index);
    if (locked === undefined) this.#consumption.release(batch.run, batch.from + index);
    else this.#failUnread(batch, batch.from + index, locked);
  }

  // ── Ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #failThrown(task: Started, index: number, thrown: unknown): Failed {
    const ending = endingOf(thrown);
    switch (ending.kind) {
      case 'refused':
        return this.#fail(task, index, ending.cause, 'INVALID_PAYLOAD', FINAL);
      case 'fatal':
        return this.#fail(task, index, thrown, 'HANDLER_FAILED', FINAL);
      case 'later':
        return this.#fail(task, index, thrown, 'HANDLER_FAILED', { final: false, retryDelayMs: ending.delayMs });
      default:
        return this.#fail(task, index, thrown, 'HANDLER_FAILED', AGAIN);
    }
  }

  /** A key that is missing here may be elsewhere, or come; nothing else that is wrong with a payload passes. */
  #failUnread(task: Started, index: number, error: unknown): void {
    const code = error instanceof MillraceError ? error.code : 'INVALID_PAYLOAD';
    if (code === 'KEY_MISSING') {
      const { keyId } = (error as MillraceError).details;
      if (isFirst(keyId, this.#missingKeys, LIMITS.keyRingKeysMax)) {
        this.#logger?.warn({ keyId, queue: task.run.spec.queue }, (error as MillraceError).message);
      }
    } else if (code === 'DECRYPTION_FAILED' || code === 'NOT_ENCRYPTED') {
      const { queue, name } = task.run.spec;
      this.#logger?.warn({ task: task.run.id(index), queue, name }, (error as MillraceError).message);
    }
    this.#fail(task, index, error, 'INVALID_PAYLOAD', code === 'KEY_MISSING' ? AGAIN : FINAL);
  }

  #fail({ run, startedMs }: Started, index: number, thrown: unknown, code: ErrorCode, options: FailOptions): Failed {
    this.failed++;
    this.#consumption.fail(run, index, describeThrown(thrown, code), options, Math.round(startedMs));
    this.#hooks?.failed(run, index, thrown, options.final || run.attempt >= run.spec.maxAttempts);
    return { error: thrown };
  }

  #expire(task: Attempt | BatchAttempt): void {
    const { run, from, length } = task;
    const { timeoutMs } = run.spec;
    const error = new MillraceError(
      'TASK_TIMEOUT',
      `the attempt ran longer than its timeoutMs, ${timeoutMs} ms: raise it, or stop when ctx.signal is aborted`,
      { details: { timeoutMs } },
    );
    this.#leave(task);
    task.abort(error);
    for (let index = 0; index < length; index++) this.#fail(task, from + index, error, 'TASK_TIMEOUT', AGAIN);
    task.trace?.failed(error);
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

function endTrace(trace: AttemptTrace, failed: Failed | undefined): void {
  if (failed === undefined) trace.completed();
  else trace.failed(failed.error);
}

function call(handler: SingleHandler, input: unknown, attempt: Attempt): unknown {
  return handler.format.input === undefined && handler.format.output === undefined
    ? handler.run(input, attempt)
    : runChecked(handler, input, attempt);
}

async function runChecked(handler: SingleHandler, input: unknown, attempt: Attempt): Promise<unknown> {
  const { input: inputSchema, output: outputSchema, name } = handler.format;
  let checked = input;
  if (inputSchema !== undefined) checked = await check(() => validate(inputSchema, input, `the input of ${name}`));
  const returned = await handler.run(checked, attempt);
  if (outputSchema !== undefined) await check(() => validate(outputSchema, returned, `the result of ${name}`));
  return returned;
}

async function check(validation: () => unknown): Promise<unknown> {
  try {
    return await validation();
  } catch (cause) {
    throw new PayloadRefused('', { cause });
  }
}

/** Anybody may name what he likes in what he enqueues: what was told of is forgotten when there is too much of it. */
function isFirst<Value>(value: Value, told: Set<Value>, keptMax: number): boolean {
  if (told.has(value)) return false;
  if (told.size >= keptMax) told.clear();
  told.add(value);
  return true;
}

const THEN = Promise.prototype.then;

/** What to wait for, if anything. Throws what a `then` that is not the language's own throws. */
function pendingOf(returned: unknown): Promise<unknown> | undefined {
  if (types.isPromise(returned) && returned.constructor === Promise && returned.then === THEN) return returned;
  if (typeof returned !== 'function' && (typeof returned !== 'object' || returned === null)) return undefined;
  const { then } = returned as { then?: unknown };
  return typeof then === 'function'
    ? new Promise((resolve, reject) => then.call(returned, resolve, reject))
    : undefined;
}

function checkResults(results: unknown, length: number): asserts results is readonly unknown[] | undefined {
  if (results === undefined) return;
  const isList = Array.isArray(results);
  if (isList && results.length === length) return;
  const shown = isList ? `${results.length} results` : `a ${typeof results}`;
  const message = `the batch handler returned ${shown} for ${length} tasks: return nothing, or an array with one result for each`;
  throw new MillraceError('INVALID_PAYLOAD', message);
}
