/** Samples that are taken as they come; what comes beyond them within a second is sampled more and more rarely. */
export const SAMPLES_PER_SECOND = 5000;

/**
 * How many of what comes each sample stands for. The last seconds tell it beforehand; a burst that they did not tell of makes
 * it rarer at once, so that what is sampled costs nothing that counts.
 */
export class Sampling {
  every = 1;
  #taken = 0;

  /** A sample is taken; returns how many the next one stands for. */
  next(): number {
    if (++this.#taken >= SAMPLES_PER_SECOND) {
      this.#taken = 0;
      this.every *= 2;
    }
    return this.every;
  }

  /** Call once a second, with how many are expected in the next. */
  second(expected: number): void {
    this.#taken = 0;
    this.every = Math.max(1, Math.floor(expected / SAMPLES_PER_SECOND));
  }
}
