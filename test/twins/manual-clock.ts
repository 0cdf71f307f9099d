import type { Clock, Timer } from '../../src/io/clock.ts';

interface Waiting {
  dueMs: number;
  callback: () => void;
}

/** Time that passes only by `advance`. Deferred callbacks run by themselves, as on the real clock. */
export class ManualClock implements Clock {
  #nowMs: number;
  #waiting: Waiting[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  steadyMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  get timerCount(): number {
    return this.#waiting.length;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const waiting = { dueMs: this.#nowMs + delayMs, callback };
    this.#waiting.push(waiting);
    return {
      cancel: () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
      },
      unref: () => {},
    };
  }

  defer(callback: () => void): void {
    process.nextTick(callback);
  }

  deferPastInput(callback: () => void): void {
    setImmediate(callback);
  }

  /** Runs the timers that fall due, in order. What they start goes on by itself afterwards. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#waiting.filter((one) => one.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.#waiting = this.#waiting.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
    }
    this.#nowMs = endMs;
  }
}
