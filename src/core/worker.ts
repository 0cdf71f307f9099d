import { LIMITS } from '../limits.ts';
import type { Queue } from './queue.ts';
import { NONE } from './task-table.ts';

/**
 * A subscriber that takes deliveries. Its leases are listed in the order in which it begins them, so that one token tells
 * which of them have begun.
 */
export class CoreWorker {
  readonly index: number;
  readonly queues: Queue[];
  readonly concurrency: number;
  readonly prefetch: number;
  /** What it calls itself, for those who look at its tasks. */
  name = '';
  /** No deliveries for now: it is stopping, or it does not read what it was sent. */
  paused = false;
  leaseHead = NONE;
  leaseTail = NONE;
  /** The first lease that has not begun. */
  firstWaiting = NONE;
  /** The lease that is taken to have begun without a word of the worker. */
  presumed = NONE;
  /** Since when; its deadline does not tell, which is put off while the worker is asked for a sign of life. */
  presumedAtMs = 0;
  /** The time of the presumed one is over, and the worker was asked whether it is still there. */
  probed = false;
  /** It did not answer: it gets nothing until it does. */
  silent = false;
  /** Whether something may have to be presumed. */
  touched = false;
  held = 0;
  /** Tasks that it has settled and that nobody has told it of yet: the disk is slow. */
  unanswered = 0;
  /** Leases that have begun, the presumed one included. */
  begun = 0;
  completed = 0;
  failed = 0;
  /** Integral of `busy` over time, for the utilisation. */
  #busyMs = 0;
  #busySinceMs: number;

  constructor(index: number, queues: Queue[], concurrency: number, prefetch: number, nowMs: number) {
    this.index = index;
    this.queues = queues;
    this.concurrency = concurrency;
    this.prefetch = prefetch;
    this.#busySinceMs = nowMs;
  }

  get credit(): number {
    const isHeldUp = this.paused || this.silent || this.unanswered > LIMITS.unansweredTasksMax;
    return isHeldUp ? 0 : this.prefetch - this.held;
  }

  /** Handlers that it has a task for. */
  get busy(): number {
    return this.held < this.concurrency ? this.held : this.concurrency;
  }

  /** Call before `held` changes. */
  account(nowMs: number): void {
    this.#busyMs += this.busy * (nowMs - this.#busySinceMs);
    this.#busySinceMs = nowMs;
  }

  /** Handler-milliseconds so far. */
  busyMs(nowMs: number): number {
    this.account(nowMs);
    return this.#busyMs;
  }
}
