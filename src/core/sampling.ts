/** Samples that are taken as they come; what comes beyond them is sampled more and more rarely, until the next second. */
export const SAMPLES_PER_SECOND = 5000;
/** Of them, so many at one moment: a burst is over before its second is. */
export const SAMPLES_AT_ONCE = 500;

const SAMPLES_PER_MS = SAMPLES_PER_SECOND / 1000;

/**
 * How many of what comes each sample stands for. The last seconds tell it beforehand; a burst that they did not tell of makes
 * it rarer at once, so that what is sampled costs nothing that counts.
 */
export class Sampling {
  every = 1;
  #taken = 0;
  #atMs = 0;

  /** A sample is taken at this moment; returns how many the next one stands for. */
  next(atMs: number): number {
    if (atMs > this.#atMs) {
      this.#taken = Math.max(0, this.#taken - (atMs - this.#atMs) * SAMPLES_PER_MS);
      this.#atMs = atMs;
    }
    if (++this.#taken >= SAMPLES_AT_ONCE) {
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
