import type { State } from './task-table.ts';
import type { CoreWorker } from './worker.ts';

/** What the core tells its owner while it applies something. */
export interface CoreEffects {
  /** References to bytes in a segment were taken (positive) or dropped (negative). */
  referenced(segment: number, delta: number): void;
  /** A watched task has ended; called before it can be forgotten. */
  finished(id: number, slot: number, state: State): void;
  /** A running task is wanted no more (`cancelled`: a request). */
  revoked(worker: CoreWorker, id: number, token: number, reason: 'cancelled' | 'lease-lost'): void;
  /** Samples of the times from enqueue to start and to completion, and of one attempt; `count`: what each stands for. */
  startedAfter(ms: number, count: number): void;
  completedAfter(ms: number, count: number): void;
  ranFor(ms: number, count: number): void;
}

/** How long the task's bytes are (length word included), or -1 when they are not in memory. */
export interface PayloadReader {
  lengthAt(segment: number, offset: number): number;
}

export type FailureOutcome = 'retry' | 'dead' | 'cancelled';

export interface CoreCounters {
  enqueued: number;
  completed: number;
  failed: number;
}
