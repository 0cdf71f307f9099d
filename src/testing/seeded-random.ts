import type { Random } from '../io/random.ts';

/** The same numbers in each run (mulberry32): a test that meets jitter meets the same jitter every time. */
export class SeededRandom implements Random {
  #state = 0x6d696c6c;

  float(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  hex(byteCount: number): string {
    return Array.from({ length: byteCount }, () =>
      Math.floor(this.float() * 256)
        .toString(16)
        .padStart(2, '0'),
    ).join('');
  }
}
