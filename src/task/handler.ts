import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { TaskError, TaskState } from '../broker/contract.ts';
import type { Encoding } from './codec.ts';

/** What a handler is told about its task, and what it can say about it. */
export interface TaskContext {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  /** 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly enqueuedAt: Date;
  /** What the enqueue gave as `headers`; empty when nothing. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /**
   * Aborted when the attempt has run past its `timeoutMs`, the task was cancelled, its lease was lost or the worker stops
   * waiting for it. `signal.reason` is a MillraceError that says which.
   */
  readonly signal: AbortSignal;
  /**
   * The tasks that this one depends on, with their results, in the order of `dependsOn`; empty when there are none. Rejects
   * with TIMEOUT, CLOSED.
   */
  parents(): Promise<Parent[]>;
  /**
   * Says how far the task is, for example `progress(0.4, 'resizing')`: its info shows `progress: { value, message }` while it
   * runs, the last one counts. `value` is at most 4 KiB of JSON, `message` 1 KiB of text. Throws INVALID_PAYLOAD.
   */
  progress(value: unknown, message?: string): void;
  /**
   * Adds a line to the task's log, of which its info shows the last 50; one longer than 1 KiB is cut. For the person who
   * looks at the task: kept in memory, and for some time after its end. Throws INVALID_PAYLOAD for what is no text.
   */
  log(text: string): void;
}

/** A task that another depends on, as that one's handler sees it. */
export interface Parent {
  readonly id: string;
  readonly name: string;
  /** How it ended; `unknown` when it is no longer retained, which only happens to a child that was dead itself meanwhile. */
  readonly state: TaskState | 'unknown';
  /** What its handler returned, if it completed: read as JSON where it is text, else the bytes. */
  readonly result: unknown;
  /** Why it is dead. */
  readonly error: TaskError | undefined;
}

/** Tasks of one kind that a batch handler gets together. */
export interface Batch<Input> extends Iterable<Input> {
  readonly length: number;
  readonly name: string;
  readonly queue: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly signal: AbortSignal;
  /** All inputs, decoded when first read. */
  readonly inputs: readonly Input[];
  /** One input, decoded on each call. One that cannot be decoded throws; left uncaught, it ends that task alone. */
  input(index: number): Input;
  /** The payload as it came; valid until the handler's promise settles. */
  bytes(index: number): Uint8Array;
  id(index: number): string;
  /** As `TaskContext.headers`, of one task. */
  headers(index: number): TaskContext['headers'];
  /** This task failed, the others did not. */
  fail(index: number, error: unknown): void;
  /** As `TaskContext.progress`, of one task. */
  progress(index: number, value: unknown, message?: string): void;
  /** As `TaskContext.log`, of one task. */
  log(index: number, text: string): void;
}

/** How to read and check one kind of task. */
export interface TaskFormat {
  readonly name: string;
  readonly input: StandardSchemaV1 | undefined;
  readonly output: StandardSchemaV1 | undefined;
  readonly payload: Encoding;
  readonly result: Encoding;
}

/** A task name with the function that does it; made by `handle` and `handleBatch` of a definition. */
export type TaskHandler = SingleHandler | BatchHandler;

export interface SingleHandler {
  readonly kind: 'single';
  readonly format: TaskFormat;
  /** Where tasks of this kind go unless an enqueue says otherwise. */
  readonly queue: string;
  run(input: unknown, context: TaskContext): unknown;
}

export interface BatchHandler {
  readonly kind: 'batch';
  readonly format: TaskFormat;
  readonly queue: string;
  readonly batchSize: number;
  run(batch: Batch<unknown>): unknown;
}
