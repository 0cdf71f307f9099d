import type { Consumption, DeliveryRun, TaskHeaders } from '../broker/contract.ts';
import type { MillraceError } from '../errors.ts';
import type { Sealing } from '../sealing/sealing.ts';
import type { Parent, SingleHandler, TaskContext } from '../task/handler.ts';
import { encodeProgress, logLine } from '../task/remarks.ts';
import type { AttemptTrace } from '../task/tracing.ts';
import { readPayload } from './payload.ts';

/** What attempts need of their worker; one object for all. */
export interface Reach {
  readonly consumption: Consumption;
  parents(id: string): Promise<Parent[]>;
  /** Decrypts payloads. */
  readonly sealing: Sealing | undefined;
}

export const NO_HEADERS: TaskHeaders = Object.freeze({});

/** What single and batch attempts share: tasks of one run that occupy slots until they are over. */
export abstract class RunningTasks {
  readonly run: DeliveryRun;
  /** Index in the run of the first task. */
  readonly from: number;
  readonly length: number;
  /** Steady time. */
  readonly startedMs: number;
  /** Steady time; set when the handler did not finish at once. */
  deadlineMs = 0;
  /** Where the worker keeps it. */
  slot = -1;
  /** Its slots are free and its tasks are settled, or no longer ours: what the handler still does is ignored. */
  over = false;
  trace: AttemptTrace | undefined = undefined;
  /** Of its tasks, by index in the run, those that were lost, and those that were cancelled and are still here. */
  #lost: Set<number> | undefined;
  #cancelled: Set<number> | undefined;
  #controller: AbortController | undefined;
  #abortReason: MillraceError | undefined;

  constructor(run: DeliveryRun, from: number, length: number, startedMs: number) {
    this.run = run;
    this.from = from;
    this.length = length;
    this.startedMs = startedMs;
  }

  get name(): string {
    return this.run.spec.name;
  }

  get queue(): string {
    return this.run.spec.queue;
  }

  get attempt(): number {
    return this.run.attempt;
  }

  get maxAttempts(): number {
    return this.run.spec.maxAttempts;
  }

  /** Made when it is first asked for: most handlers never do. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  abort(reason: MillraceError): void {
    this.#abortReason ??= reason;
    this.#controller?.abort(reason);
  }

  /** One of its tasks is not wanted any more, here or at all. */
  revoke(index: number, reason: 'cancelled' | 'lease-lost'): void {
    if (reason === 'lease-lost') {
      this.#cancelled?.delete(index);
      this.#lost ??= new Set();
      this.#lost.add(index);
    } else {
      this.#cancelled ??= new Set();
      this.#cancelled.add(index);
    }
  }

  /** Whether none of its tasks is wanted. */
  get isUnwanted(): boolean {
    return (this.#lost?.size ?? 0) + (this.#cancelled?.size ?? 0) === this.length;
  }

  /** Whether all of its tasks were lost. */
  get isLost(): boolean {
    return this.#lost?.size === this.length;
  }

  holds(run: DeliveryRun, index: number): boolean {
    return run === this.run && index >= this.from && index < this.from + this.length;
  }
}

/** One task that runs; also what its handler gets as context. */
export class Attempt extends RunningTasks implements TaskContext {
  readonly handler: SingleHandler;
  readonly #reach: Reach;

  constructor(reach: Reach, run: DeliveryRun, index: number, handler: SingleHandler, startedMs: number) {
    super(run, index, 1, startedMs);
    this.#reach = reach;
    this.handler = handler;
  }

  get id(): string {
    return this.run.id(this.from);
  }

  get enqueuedAt(): Date {
    return new Date(this.run.enqueuedAtMs);
  }

  get headers(): TaskHeaders {
    return this.run.headers(this.from) ?? NO_HEADERS;
  }

  progress(value: unknown, message?: string): void {
    if (!this.over) this.#reach.consumption.progress(this.run, this.from, encodeProgress(value, message));
  }

  log(text: string): void {
    if (!this.over) this.#reach.consumption.log(this.run, this.from, logLine(text));
  }

  parents(): Promise<Parent[]> {
    return this.#reach.parents(this.id);
  }

  /** Throws what `readPayload` does. */
  decode(): unknown {
    return readPayload(this.run, this.from, this.handler.format.payload, this.#reach.sealing);
  }
}
