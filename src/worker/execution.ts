import type { Consumption, DeliveryRun } from '../broker/contract.ts';
import type { MillraceError } from '../errors.ts';
import type { Clock } from '../io/clock.ts';
import type { Sealing } from '../sealing/sealing.ts';
import type { Parent } from '../task/handler.ts';
import type { Tracing } from '../task/tracing.ts';
import type { AttemptHooks } from './hooks.ts';
import type { Logger } from './options.ts';

export interface ExecutionOptions {
  readonly clock: Clock;
  readonly consumption: Consumption;
  readonly parents: (id: string) => Promise<Parent[]>;
  readonly concurrency: number;
  readonly logger: Logger | undefined;
  readonly hooks: AttemptHooks | undefined;
  /** Of the thread in which the handlers run; others have what their module exports. */
  readonly tracing: Tracing | undefined;
  /** Decrypts payloads; what is settled is encrypted by the consumption. */
  readonly sealing: Sealing | undefined;
}

/**
 * Where a worker's tasks are executed. `Runner` runs handlers in the event loop that it is in; `Threads` carries deliveries to
 * the runners of other threads, and what they say back.
 */
export interface Execution {
  /** Tasks whose handlers run. */
  readonly running: number;
  /** Since the start. */
  readonly completed: number;
  readonly failed: number;
  deliver(run: DeliveryRun): void;
  /** False when the task is not here any more: it has ended, and its outcome was refused. */
  revoke(run: DeliveryRun, index: number, reason: 'cancelled' | 'lease-lost'): boolean;
  /** The connection is lost: what runs may be kept, what did not start is better left to others. */
  pause(): void;
  resume(): void;
  /** Hands back what did not start, and whatever still comes. */
  stopStarting(): void;
  /** Resolves when nothing runs. */
  idle(): Promise<void>;
  /** Aborts what runs, and hands it back. Returns how many tasks that were. */
  abandon(reason: MillraceError): number;
  /** What runs; not what ends in the turn in which it begins. */
  attempts(): readonly RunningTask[];
  /** Nothing is left behind. Always resolves. */
  close(): Promise<void>;
}

export interface RunningTask {
  readonly run: DeliveryRun;
  readonly index: number;
  /** Steady time. */
  readonly deadlineMs: number;
}
