import type { QueueLimits } from '../limits.ts';

export type Rate = NonNullable<QueueLimits['rate']>;

/** Tokens come evenly; a task that is handed out takes one. Full when it is made. */
export class TokenBucket {
  readonly rate: Rate;
  #tokens: number;
  #atMs: number;
  /** There was none left when tasks were handed out last. */
  isWaitedFor = false;

  constructor(rate: Rate, nowMs: number) {
    this.rate = rate;
    this.#tokens = rate.burst;
    this.#atMs = nowMs;
  }

  available(nowMs: number): number {
    const { count, periodMs, burst } = this.rate;
    if (nowMs > this.#atMs) {
      this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#atMs) * count) / periodMs);
      this.#atMs = nowMs;
    }
    // What adds up to a whole one but for rounding is one.
    return Math.floor(this.#tokens + 1e-9);
  }

  spend(count: number): void {
    this.#tokens -= count;
    this.isWaitedFor = this.#tokens < 1;
  }

  /** When there is a token; Infinity when nobody waits for one. */
  get nextMs(): number {
    if (!this.isWaitedFor) return Number.POSITIVE_INFINITY;
    return this.#atMs + (Math.max(0, 1 - this.#tokens) * this.rate.periodMs) / this.rate.count;
  }
}
