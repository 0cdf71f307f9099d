import { type Clock, setPatientTimer } from '../io/clock.ts';

/** A time that is left for several waits, one after the other, and that can be shortened during each of them. */
export class Patience {
  readonly #clock: Clock;
  /** Steady time; what is left is never less than until `#leastUntilMs`. */
  #untilMs: number;
  #leastUntilMs = Number.NEGATIVE_INFINITY;
  /** Sets the timer of the wait that goes on. */
  #arm: () => void = () => {};

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#untilMs = clock.steadyMs() + timeoutMs;
  }

  get leftMs(): number {
    return Math.max(this.#untilMs, this.#leastUntilMs) - this.#clock.steadyMs();
  }

  /** It can only become less. */
  shorten(timeoutMs: number): void {
    this.#untilMs = Math.min(this.#untilMs, this.#clock.steadyMs() + timeoutMs);
    this.#arm();
  }

  /** So much is left from now on in any case, also if it is shortened. */
  leaveAtLeast(timeoutMs: number): void {
    this.#leastUntilMs = this.#clock.steadyMs() + timeoutMs;
  }

  /** Whether the promise settles in the time that is left. */
  async settles(promise: Promise<unknown>): Promise<boolean> {
    if (this.leftMs <= 0) return false;
    let cancel = (): void => {};
    const timedOut = new Promise<boolean>((resolve) => {
      this.#arm = () => {
        cancel();
        const timer = setPatientTimer(this.#clock, Math.max(this.leftMs, 0), () => resolve(false));
        cancel = () => timer.cancel();
      };
      this.#arm();
    });
    const settled = (): boolean => true;
    const inTime = await Promise.race([timedOut, promise.then(settled, settled)]);
    this.#arm = () => {};
    cancel();
    return inTime;
  }
}
