import type { Queue } from './queue.ts';
import { NONE } from './task-table.ts';

/**
 * A subscriber that takes deliveries. Its leases are listed in the order in which it starts them, so the first
 * `concurrency` are the running ones: nobody has to tell the server that a handler has begun.
 */
export class CoreWorker {
  readonly index: number;
  readonly queues: Queue[];
  readonly concurrency: number;
  readonly prefetch: number;
  /** No deliveries for now: it is stopping, or it does not read what it was sent. */
  paused = false;
  leaseHead = NONE;
  leaseTail = NONE;
  /** The first lease that does not run yet. */
  firstWaiting = NONE;
  held = 0;
  running = 0;
  completed = 0;
  failed = 0;
  /** Integral of `running` over time, for the utilisation. */
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
    return this.paused ? 0 : this.prefetch - this.held;
  }

  /** Call before `running` changes. */
  account(nowMs: number): void {
    this.#busyMs += this.running * (nowMs - this.#busySinceMs);
    this.#busySinceMs = nowMs;
  }

  /** Handler-milliseconds so far. */
  busyMs(nowMs: number): number {
    this.account(nowMs);
    return this.#busyMs;
  }
}
