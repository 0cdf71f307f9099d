import type { Consumption, DeliveryRun, TaskHeaders } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { decodeJson } from '../task/codec.ts';
import type { Batch, BatchHandler } from '../task/handler.ts';
import { encodeProgress, logLine } from '../task/remarks.ts';
import { validateNow } from '../task/schema.ts';
import { NO_HEADERS, RunningTasks } from './attempt.ts';

/** Tasks that run together; also what their handler gets. */
export class BatchAttempt extends RunningTasks implements Batch<unknown> {
  readonly handler: BatchHandler;
  /** What the handler said of single tasks, by index in the batch. */
  readonly failures = new Map<number, unknown>();
  readonly #consumption: Consumption;
  #inputs: unknown[] | undefined;
  #unreadable: { index: number; error: unknown } | undefined;

  constructor(
    consumption: Consumption,
    run: DeliveryRun,
    from: number,
    length: number,
    handler: BatchHandler,
    startedMs: number,
  ) {
    super(run, from, length, startedMs);
    this.#consumption = consumption;
    this.handler = handler;
  }

  get inputs(): readonly unknown[] {
    this.#inputs ??= this.#decodeAll();
    return this.#inputs;
  }

  #decodeAll(): unknown[] {
    const { run, from, length } = this;
    const { payload, input } = this.handler.format;
    const inputs: unknown[] = new Array(length);
    const plain = payload !== 'bytes' && input === undefined;
    let index = 0;
    try {
      // The same as `input`, without what that costs a task.
      if (plain) for (; index < length; index++) inputs[index] = JSON.parse(run.text(from + index));
    } catch {
      // `input` says which one it is, and why.
    }
    for (; index < length; index++) inputs[index] = this.input(index);
    return inputs;
  }

  input(index: number): unknown {
    this.#check(index);
    const { format } = this.handler;
    try {
      const at = this.from + index;
      const value = format.payload === 'bytes' ? this.run.bytes(at) : decodeJson(this.run.text(at), 'the payload');
      return format.input === undefined ? value : validateNow(format.input, value, `the input of ${format.name}`);
    } catch (error) {
      this.#unreadable = { index, error };
      throw error;
    }
  }

  bytes(index: number): Uint8Array {
    this.#check(index);
    return this.run.bytes(this.from + index);
  }

  id(index: number): string {
    this.#check(index);
    return this.run.id(this.from + index);
  }

  headers(index: number): TaskHeaders {
    this.#check(index);
    return this.run.headers(this.from + index) ?? NO_HEADERS;
  }

  fail(index: number, error: unknown): void {
    this.#check(index);
    this.failures.set(index, error);
  }

  progress(index: number, value: unknown, message?: string): void {
    this.#check(index);
    if (!this.over) this.#consumption.progress(this.run, this.from + index, encodeProgress(value, message));
  }

  log(index: number, text: string): void {
    this.#check(index);
    if (!this.over) this.#consumption.log(this.run, this.from + index, logLine(text));
  }

  *[Symbol.iterator](): Iterator<unknown> {
    for (let index = 0; index < this.length; index++) yield this.input(index);
  }

  /** The task whose input could not be read, when that is what ended the handler; -1 otherwise. */
  unreadableIndex(thrown: unknown): number {
    return this.#unreadable !== undefined && this.#unreadable.error === thrown ? this.#unreadable.index : -1;
  }

  #check(index: number): void {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return;
    const message = `there is no task ${index}: the batch has ${this.length}, counted from 0`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: index, length: this.length } });
  }
}
