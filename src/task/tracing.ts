import type { TaskHeaders } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';

/**
 * Follows tasks from whoever enqueues them to whoever runs them; `millrace/otel` makes one. What it learns at the one end
 * reaches the other in the headers of the tasks. Nothing that is called here may throw.
 */
export interface Tracing {
  /** An enqueue begins. */
  enqueue(what: TracedEnqueue): EnqueueTrace;
  /** An attempt begins: of one task, or of those that a batch handler gets together. */
  attempt(what: TracedAttempt): AttemptTrace;
}

export interface TracedEnqueue {
  /** Undefined when the tasks of a flow have several; so is their queue. */
  readonly name: string | undefined;
  readonly queue: string | undefined;
  readonly count: number;
}

export interface EnqueueTrace {
  /** What a task is to be enqueued with, given its own headers. */
  headers(own: TaskHeaders | undefined): TaskHeaders | undefined;
  /** The enqueue is confirmed; `id` of a task that was enqueued alone. */
  confirmed(id: string | undefined): void;
  failed(error: unknown): void;
}

export interface TracedAttempt {
  readonly name: string;
  readonly queue: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly isBatch: boolean;
  readonly length: number;
  id(index: number): string;
  /** Undefined: none. */
  headers(index: number): TaskHeaders | undefined;
}

/** Ends once: what comes after the first `completed` or `failed` is ignored. */
export interface AttemptTrace {
  /** Calls the handler, for which this attempt is the current one, and gives what it returns. */
  run<T>(handler: () => T): T;
  completed(): void;
  /** The attempt failed, was aborted, or is no longer this worker's; of a batch, any of its tasks. */
  failed(error: unknown): void;
}

/** Throws INVALID_ARGUMENT. */
export function checkTracing(tracing: Tracing | undefined): void {
  if (tracing === undefined) return;
  const { enqueue, attempt } = (tracing ?? {}) as { enqueue?: unknown; attempt?: unknown };
  if (typeof enqueue === 'function' && typeof attempt === 'function') return;
  const message = `tracing is ${shown(tracing)}; it must be what tracing() of millrace/otel gives`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}
