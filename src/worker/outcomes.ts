import type { Consumption, DeliveryRun, FailOptions } from '../broker/contract.ts';
import { type ErrorCode, MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { OVERHEAD_BYTES_MAX } from '../sealing/envelope.ts';
import { encodeResult } from '../task/codec.ts';
import { validateNow } from '../task/schema.ts';
import type { AttemptTrace } from '../task/tracing.ts';
import type { Attempt, RunningTasks } from './attempt.ts';
import type { BatchAttempt } from './batch-attempt.ts';
import type { ExecutionOptions } from './execution.ts';
import { describeThrown, endingOf } from './failures.ts';
import type { AttemptHooks } from './hooks.ts';
import type { Logger } from './options.ts';

const AGAIN: FailOptions = { final: false, retryDelayMs: undefined };
const FINAL: FailOptions = { final: true, retryDelayMs: undefined };

/** Names without a handler of which was told. */
const UNKNOWN_NAMES_KEPT = 1000;

/** What has begun. */
type Started = Pick<RunningTasks, 'run' | 'startedMs'>;

/** What an attempt failed with: anything can be thrown, nothing too. */
interface Failed {
  readonly error: unknown;
}

/** What becomes of the tasks of attempts that have ended: each is settled once, and told to hooks and traces. */
export class Outcomes {
  completed = 0;
  failed = 0;
  readonly #consumption: Consumption;
  readonly #logger: Logger | undefined;
  readonly #hooks: AttemptHooks | undefined;
  /** By how much a result may grow before it is stored. */
  readonly #sealBytes: number;
  readonly #unknownNames = new Set<string>();
  readonly #missingKeys = new Set<unknown>();

  constructor({ consumption, logger, hooks, sealing }: ExecutionOptions) {
    this.#consumption = consumption;
    this.#logger = logger;
    this.#hooks = hooks;
    this.#sealBytes = sealing === undefined ? 0 : OVERHEAD_BYTES_MAX;
  }

  // ── Single tasks ──────────────────────────────────────────────────────────────────────────────────────────────────

  complete(attempt: Attempt, value: unknown): void {
    const failed = this.#complete(attempt, attempt.from, value);
    if (attempt.trace !== undefined) endTrace(attempt.trace, failed);
  }

  fail(attempt: Attempt, thrown: unknown): void {
    const { error } = this.#failThrown(attempt, attempt.from, thrown);
    attempt.trace?.failed(error);
  }

  /** Its payload is not what its handler takes. */
  unread(attempt: Attempt, error: unknown): void {
    this.#failUnread(attempt, attempt.from, error);
    attempt.trace?.failed(error);
  }

  /** There is no handler of that name. */
  unhandled(task: Started, index: number, names: Iterable<string>): void {
    const { name, queue } = task.run.spec;
    const message = `this worker has no handler for ${JSON.stringify(name)}; it has ${[...names].join(', ')}`;
    if (isFirst(name, this.#unknownNames, UNKNOWN_NAMES_KEPT)) this.#logger?.warn({ name, queue }, message);
    this.#fail(task, index, new MillraceError('NO_HANDLER', message), 'NO_HANDLER', AGAIN);
  }

  // ── Batches ───────────────────────────────────────────────────────────────────────────────────────────────────────

  completeBatch(batch: BatchAttempt, results: unknown): void {
    const { run, from, length, failures } = batch;
    try {
      checkResults(results, length);
    } catch (error) {
      this.failBatch(batch, error);
      return;
    }
    if (results === undefined && failures.size === 0) {
      this.completed += length;
      this.#consumption.completeMany(run, from, from + length);
      if (this.#hooks?.completed !== undefined) {
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

  failBatch(batch: BatchAttempt, error: unknown): void {
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

  /**
   * Another could not be read, and this did nothing wrong: it comes again, without that one. Many may have been encrypted with a
   * key that is missing here, and they must not end one by one.
   */
  #releaseUnlessLocked(batch: BatchAttempt, index: number): void {
    const locked = batch.locked(index);
    if (locked === undefined) this.#consumption.release(batch.run, batch.from + index);
    else this.#failUnread(batch, batch.from + index, locked);
  }

  // ── Both ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  timedOut(task: Attempt | BatchAttempt, error: MillraceError): void {
    const { from, length } = task;
    for (let index = 0; index < length; index++) this.#fail(task, from + index, error, 'TASK_TIMEOUT', AGAIN);
    task.trace?.failed(error);
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
    this.#hooks?.completed?.(run, index, value);
    return undefined;
  }

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
    this.#hooks?.failed?.(run, index, thrown, isLast(run, options));
    return { error: thrown };
  }
}

/** Whether no attempt follows on one that failed like this. */
export function isLast({ attempt, spec }: DeliveryRun, { final }: FailOptions): boolean {
  return final || attempt >= spec.maxAttempts;
}

function endTrace(trace: AttemptTrace, failed: Failed | undefined): void {
  if (failed === undefined) trace.completed();
  else trace.failed(failed.error);
}

/** Anybody may name what he likes in what he enqueues: what was told of is forgotten when there is too much of it. */
function isFirst<Value>(value: Value, told: Set<Value>, keptMax: number): boolean {
  if (told.has(value)) return false;
  if (told.size >= keptMax) told.clear();
  told.add(value);
  return true;
}

function checkResults(results: unknown, length: number): asserts results is readonly unknown[] | undefined {
  if (results === undefined) return;
  const isList = Array.isArray(results);
  if (isList && results.length === length) return;
  const shown = isList ? `${results.length} results` : `a ${typeof results}`;
  const message = `the batch handler returned ${shown} for ${length} tasks: return nothing, or an array with one result for each`;
  throw new MillraceError('INVALID_PAYLOAD', message);
}
