/** Which tasks of a run were processed: one bit a task. */
export class Ledger {
  readonly expected: number;
  readonly #seen: Uint8Array;
  #seenCount = 0;
  #duplicated = 0;
  #foreign = 0;

  constructor(expected: number) {
    this.expected = expected;
    this.#seen = new Uint8Array(Math.ceil(expected / 8));
  }

  mark(index: number): void {
    // Also catches what is not an integer.
    if (!(index >= 0 && index < this.expected && (index | 0) === index)) {
      this.#foreign++;
      return;
    }
    const bit = 1 << (index & 7);
    const byte = this.#seen[index >>> 3];
    if ((byte & bit) !== 0) {
      this.#duplicated++;
      return;
    }
    this.#seen[index >>> 3] = byte | bit;
    this.#seenCount++;
  }

  /** Tasks that were processed, some perhaps more than once. */
  get seen(): number {
    return this.#seenCount;
  }

  get marks(): number {
    return this.#seenCount + this.#duplicated + this.#foreign;
  }

  get lost(): number {
    return this.expected - this.#seenCount;
  }

  /** Times that a task was processed again. */
  get duplicated(): number {
    return this.#duplicated;
  }

  /** Marks of numbers that nobody enqueued. */
  get foreign(): number {
    return this.#foreign;
  }
}
