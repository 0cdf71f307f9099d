import type { DeliveryRun, TaskHeaders } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import type { Batch, BatchHandler } from '../task/handler.ts';
import { encodeProgress, logLine } from '../task/remarks.ts';
import { validateNow } from '../task/schema.ts';
import { NO_HEADERS, type Reach, RunningTasks } from './attempt.ts';
import { payloadBytes, readPayload } from './payload.ts';

/** Tasks that run together; also what their handler gets. */
export class BatchAttempt extends RunningTasks implements Batch<unknown> {
  readonly handler: BatchHandler;
  /** What the handler said of single tasks, by index in the batch. */
  readonly failures = new Map<number, unknown>();
  readonly #reach: Reach;
  #inputs: unknown[] | undefined;
  #unreadable: { index: number; error: unknown } | undefined;

  constructor(reach: Reach, run: DeliveryRun, from: number, length: number, handler: BatchHandler, startedMs: number) {
    super(run, from, length, startedMs);
    this.#reach = reach;
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
    const plain = payload !== 'bytes' && input === undefined && this.#reach.sealing === undefined;
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
      const value = readPayload(this.run, this.from + index, format.payload, this.#reach.sealing);
      return format.input === undefined ? value : validateNow(format.input, value, `the input of ${format.name}`);
    } catch (error) {
      this.#unreadable = { index, error };
      throw error;
    }
  }

  bytes(index: number): Uint8Array {
    this.#check(index);
    try {
      return payloadBytes(this.run, this.from + index, this.#reach.sealing);
    } catch (error) {
      this.#unreadable = { index, error };
      throw error;
    }
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
    if (!this.over) this.#reach.consumption.progress(this.run, this.from + index, encodeProgress(value, message));
  }

  log(index: number, text: string): void {
    this.#check(index);
    if (!this.over) this.#reach.consumption.log(this.run, this.from + index, logLine(text));
  }

  *[Symbol.iterator](): Iterator<unknown> {
    for (let index = 0; index < this.length; index++) yield this.input(index);
  }

  /** The task whose input could not be read, when that is what ended the handler; -1 otherwise. */
  unreadableIndex(thrown: unknown): number {
    return this.#unreadable !== undefined && this.#unreadable.error === thrown ? this.#unreadable.index : -1;
  }

  /** Why the payload of a task cannot be decrypted; undefined where it can be, or need not. */
  locked(index: number): unknown {
    try {
      payloadBytes(this.run, this.from + index, this.#reach.sealing);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #check(index: number): void {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return;
    const message = `there is no task ${index}: the batch has ${this.length}, counted from 0`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: index, length: this.length } });
  }
}
