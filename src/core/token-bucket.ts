import type { QueueLimits } from '../limits.ts';

export type Rate = NonNullable<QueueLimits['rate']>;

/** Tokens come evenly; a task that is handed out takes one. Full when it is made. */
export class TokenBucket {
  readonly rate: Rate;
  #tokens: number;
  #atMs: number;

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
  }

  /** Whether the next task has to wait. */
  get isEmpty(): boolean {
    return this.#tokens < 1;
  }

  /** When there is a token, as far as it was looked at. */
  get nextMs(): number {
    return this.#atMs + (Math.max(0, 1 - this.#tokens) * this.rate.periodMs) / this.rate.count;
  }
}
