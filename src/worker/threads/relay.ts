import type { Consumption, FailOptions, Payload, TaskError } from '../../broker/contract.ts';
import { ERROR_CODES, type ErrorCode, MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { describeThrown } from '../failures.ts';
import type { AttemptHooks } from '../hooks.ts';
import { isLast } from '../outcomes.ts';
import type { Parcel } from './held-tasks.ts';
import type { FailedTask, Report, TextResults } from './messages.ts';
import type { WorkerThread } from './worker-thread.ts';

const AGAIN: FailOptions = { final: false, retryDelayMs: undefined };

/** Passes on what threads say of their tasks: to the consumption that they came from, and to the worker's hooks. */
export class Relay {
  completed = 0;
  failed = 0;
  readonly #consumption: Consumption;
  readonly #hooks: AttemptHooks | undefined;
  readonly #clock: Clock;
  readonly #sharedClock: Clock;

  /** `clock` is the worker's, `sharedClock` that of its threads. */
  constructor(consumption: Consumption, hooks: AttemptHooks | undefined, clock: Clock, sharedClock: Clock) {
    this.#consumption = consumption;
    this.#hooks = hooks;
    this.#clock = clock;
    this.#sharedClock = sharedClock;
  }

  report(thread: WorkerThread, report: Report): void {
    for (const { number, kind, text } of report.remarks) {
      const parcel = thread.held.find(number);
      if (parcel?.isHeld(number) === true) this.#consumption[kind](parcel.run, parcel.indexOf(number), text);
    }
    for (const number of report.dropped) thread.held.find(number)?.end(number);
    for (const number of report.released) this.#release(thread, number);
    this.begin(thread);
    const { completed, results } = report;
    for (let at = 0; at < completed.length; at += 2) {
      this.#completeRange(thread, completed[at] as number, completed[at + 1] as number);
    }
    if (results !== undefined) this.#completeAll(thread, results);
    for (const { number, bytes } of report.byteResults) this.#complete(thread, number, bytes);
    for (const failed of report.failed) this.#failed(thread, failed);
    for (const first of report.ended) this.#ended(thread, first);
    for (const { first, length, startedMs } of report.entered) {
      const timeoutMs = thread.held.find(first)?.run.spec.timeoutMs;
      if (timeoutMs !== undefined) thread.running.set(first, { first, length, startedMs, timeoutMs });
    }
    thread.returned = report.returned;
    if (report.recallAccepted) thread.recalling = false;
  }

  /** Notices how far the thread is. */
  begin(thread: WorkerThread): void {
    const begun = thread.marks.begun(thread.begun);
    if (this.#hooks?.started !== undefined) {
      for (let number = thread.begun + 1; number <= begun; number++) {
        const parcel = thread.held.find(number);
        if (parcel?.isHeld(number) === true) this.#hooks.started(parcel.run, parcel.indexOf(number), 1);
      }
    }
    thread.begun = begun;
  }

  /** What the worker itself has to say of an attempt. The task is to be settled. */
  fail(parcel: Parcel, number: number, error: MillraceError, startedMs: number): void {
    this.#fail(parcel, number, describeThrown(error, error.code), AGAIN, startedMs);
    this.#hooks?.failed?.(parcel.run, parcel.indexOf(number), error, isLast(parcel.run, AGAIN));
  }

  #release(thread: WorkerThread, number: number): void {
    const parcel = thread.held.find(number);
    if (parcel?.end(number) === true) this.#consumption.release(parcel.run, parcel.indexOf(number));
  }

  #completeRange(thread: WorkerThread, from: number, to: number): void {
    let number = from;
    while (number < to) {
      const parcel = thread.held.find(number);
      if (parcel === undefined) return;
      const end = Math.min(to, parcel.last + 1);
      if (this.#hooks?.completed === undefined && parcel.endRange(number, end)) {
        this.completed += end - number;
        this.#consumption.completeMany(parcel.run, parcel.indexOf(number), parcel.indexOf(end));
      } else {
        for (let each = number; each < end; each++) this.#complete(thread, each, undefined);
      }
      number = end;
    }
  }

  #completeAll(thread: WorkerThread, { base, ends, text }: TextResults): void {
    let start = 0;
    for (let at = 0; at < ends.length; at += 2) {
      const end = ends[at + 1] as number;
      this.#complete(thread, base + ((ends[at] as number) | 0), text.slice(start, end));
      start = end;
    }
  }

  #complete(thread: WorkerThread, number: number, result: Payload | undefined): void {
    const parcel = thread.held.find(number);
    if (parcel?.end(number) !== true) return;
    const index = parcel.indexOf(number);
    this.completed++;
    this.#consumption.complete(parcel.run, index, result);
    if (this.#hooks?.completed === undefined) return;
    this.#hooks.completed(parcel.run, index, typeof result === 'string' ? JSON.parse(result) : result);
  }

  #failed(thread: WorkerThread, { number, error, final, retryDelayMs, startedMs }: FailedTask): void {
    const parcel = thread.held.find(number);
    if (parcel?.isHeld(number) !== true) {
      parcel?.end(number);
      return;
    }
    const options = { final, retryDelayMs };
    this.#fail(parcel, number, error, options, startedMs);
    this.#hooks?.failed?.(parcel.run, parcel.indexOf(number), asThrown(error), isLast(parcel.run, options));
  }

  #fail(parcel: Parcel, number: number, error: TaskError, options: FailOptions, startedMs: number): void {
    const ageMs = this.#sharedClock.steadyMs() - startedMs;
    parcel.end(number);
    this.failed++;
    const startedAtMs = Math.round(this.#clock.steadyMs() - ageMs);
    this.#consumption.fail(parcel.run, parcel.indexOf(number), error, options, startedAtMs);
  }

  /** What the thread had of it whose lease was lost. */
  #ended(thread: WorkerThread, first: number): void {
    const handler = thread.running.get(first);
    if (handler === undefined) return;
    thread.running.delete(first);
    const parcel = thread.held.find(first);
    for (let number = first; number < first + handler.length; number++) {
      if (parcel?.isHeld(number) === false) parcel.end(number);
    }
  }
}

/** What a hook is told that was thrown in a thread. */
function asThrown({ name, message, code, stack }: TaskError): Error {
  if (code !== 'HANDLER_FAILED' && Object.hasOwn(ERROR_CODES, code))
    return new MillraceError(code as ErrorCode, message);
  const error = new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
