import type { Clock, Timer } from '../io/clock.ts';
import { eventLoop } from '../io/event-loop.ts';

interface Waiting {
  readonly dueMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that passes only when it is told to. What is deferred runs by itself, as on any clock. */
export class TestClock implements Clock {
  #nowMs: number;
  /** By time, then in the order in which they were set. */
  readonly #waiting: Waiting[] = [];
  #count = 0;
  #deferred = 0;

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  /** Grows with everything that is set or deferred: while it stays the same, nothing goes on by itself. */
  get activity(): number {
    return this.#count;
  }

  /** Callbacks that will run without any time passing. */
  get deferred(): number {
    return this.#deferred;
  }

  get nextDueMs(): number {
    return this.#waiting[0]?.dueMs ?? Number.POSITIVE_INFINITY;
  }

  steadyMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const waiting = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#count++, callback };
    this.#waiting.splice(this.#placeOf(waiting), 0, waiting);
    return {
      cancel: () => {
        const place = this.#placeOf(waiting);
        if (this.#waiting[place] === waiting) this.#waiting.splice(place, 1);
      },
      unref: () => {},
    };
  }

  defer(callback: () => void): void {
    this.#run((run) => process.nextTick(run), callback);
  }

  deferPastInput(callback: () => void): void {
    this.#run(eventLoop.afterInput, callback);
  }

  /** The time is that of the next timer, which runs. */
  fireNext(): void {
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.moveTo(next.dueMs);
    next.callback();
  }

  /** Never back. */
  moveTo(ms: number): void {
    this.#nowMs = Math.max(this.#nowMs, ms);
  }

  #run(schedule: (callback: () => void) => void, callback: () => void): void {
    this.#count++;
    this.#deferred++;
    schedule(() => {
      this.#deferred--;
      callback();
    });
  }

  /** Where it is, or belongs. */
  #placeOf({ dueMs, order }: Waiting): number {
    let low = 0;
    let high = this.#waiting.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#waiting[middle] as Waiting;
      if (other.dueMs < dueMs || (other.dueMs === dueMs && other.order < order)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
