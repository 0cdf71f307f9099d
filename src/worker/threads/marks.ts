/**
 * How far a thread is, in memory that its worker can use at any time, also when a handler keeps the thread, or has ended it:
 * the number of the last task with which a handler began, since when it runs (milliseconds), and with how many tasks.
 *
 * The worker may take back what has not begun. So a thread claims what it is about to begin, which fails from then on until
 * it was told what is no longer its own.
 *
 * Numbers and times are cut to what fits; the reader knows them roughly. The number is written last and read first: a reader
 * may take a handler for younger than it is, and never for older.
 */
const BEGUN = 0;
const STARTED = 1;
const LENGTH = 2;
const WORDS = 3;

const NUMBER = 0x7fff_ffff;
/** In the word of the number. */
const RECALLED = ~NUMBER;

export class Marks {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  /** What the thread claimed last. */
  #claimed = 0;

  constructor(buffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** By the thread, before it begins with `length` tasks up to `last`. False when they were taken back. */
  claim(last: number, length: number, nowMs: number): boolean {
    const words = this.#words;
    const number = last & NUMBER;
    Atomics.store(words, LENGTH, length);
    // A handler never looks older than it is.
    Atomics.store(words, STARTED, Math.ceil(nowMs) | 0);
    if (Atomics.compareExchange(words, BEGUN, this.#claimed, number) !== this.#claimed) return false;
    this.#claimed = number;
    return true;
  }

  /** By the worker: from now on nothing begins. */
  recall(): void {
    Atomics.or(this.#words, BEGUN, RECALLED);
  }

  /** By the thread, which knows now what was taken back. */
  acceptRecall(): void {
    Atomics.and(this.#words, BEGUN, NUMBER);
  }

  /** `known`: a number that it had before, less than 2^30 tasks ago. */
  begun(known: number): number {
    const ahead = (Atomics.load(this.#words, BEGUN) & NUMBER) - (known & NUMBER);
    return known + ((ahead << 1) >> 1);
  }

  /** How many of the tasks up to `begun` the handler has that began last. */
  get length(): number {
    return Atomics.load(this.#words, LENGTH);
  }

  /** Since when the handler runs that began last, less than 2^31 ms ago. */
  startedMs(nowMs: number): number {
    return nowMs - (((nowMs | 0) - Atomics.load(this.#words, STARTED)) | 0);
  }
}
