import type { Clock } from '../io/clock.ts';

/** What pieces of work may take of one turn of the event loop, and how many there may be. */
const TURN_MS = 2;
const TURN_PIECES_MAX = 32;

/**
 * Work that anybody may ask for in any amount, calls and searches, in pieces: a few of them in one turn of the event loop,
 * whoever asks, so that nobody's tasks wait for more than these. First come, first served.
 */
export class Turns {
  readonly #clock: Clock;
  readonly #waiting: (() => void)[] = [];
  /** A piece is at work, or will be. */
  #isBusy = false;
  #isOpen = false;
  #spentMs = 0;
  #pieces = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Soon: in this turn while there is time, else in one of the next. What a piece resolves belongs to it. */
  add(piece: () => void): void {
    this.#waiting.push(piece);
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#clock.defer(this.#go);
  }

  /** For work that pauses: resolves when it may go on. */
  next(): Promise<void> {
    return new Promise((resolve) => this.add(resolve));
  }

  readonly #go = (): void => {
    if (!this.#isOpen) this.#open();
    if (this.#pieces >= TURN_PIECES_MAX || this.#spentMs >= TURN_MS) {
      this.#clock.deferPastInput(this.#go);
      return;
    }
    const piece = this.#waiting.shift();
    if (piece === undefined) {
      this.#isBusy = false;
      return;
    }
    const beganMs = this.#clock.steadyMs();
    this.#pieces++;
    piece();
    // After what goes on because of it.
    queueMicrotask(() => {
      this.#spentMs += this.#clock.steadyMs() - beganMs;
      this.#go();
    });
  };

  #open(): void {
    this.#isOpen = true;
    this.#spentMs = 0;
    this.#pieces = 0;
    this.#clock.deferPastInput(() => {
      this.#isOpen = false;
    });
  }
}
