import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';

/** One timer for any number of deadlines: a deadline of its own for each of many thousands of waits would cost more. */
export class DeadlineTimer {
  readonly #clock: Clock;
  readonly #due: (nowMs: number) => number;
  #timer: Timer | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  /** `due` handles everything whose deadline has come and returns the next deadline, or Infinity. */
  constructor(clock: Clock, due: (nowMs: number) => number) {
    this.#clock = clock;
    this.#due = due;
  }

  /** Makes sure that `due` is called at `deadlineMs` (steady time). */
  need(deadlineMs: number): void {
    if (deadlineMs >= this.#armedForMs) return;
    this.#timer?.cancel();
    this.#armedForMs = deadlineMs;
    this.#timer = setPatientTimer(this.#clock, deadlineMs - this.#clock.steadyMs(), () => this.#fire());
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#armedForMs = Number.POSITIVE_INFINITY;
  }

  #fire(): void {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    this.need(this.#due(this.#clock.steadyMs()));
  }
}
