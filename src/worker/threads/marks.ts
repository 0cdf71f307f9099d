/**
 * How far a thread is, in memory that its worker can read at any time, also when a handler keeps the thread, or has ended it:
 * the number of the last task with which a handler began, since when it runs (milliseconds), and with how many tasks. Numbers
 * and times are cut to 32 bits; the reader knows them roughly. The number is written last and read first, so that a reader
 * may take a handler for younger than it is, and never for older.
 */
const BEGUN = 0;
const STARTED = 1;
const LENGTH = 2;
const WORDS = 3;

export class Marks {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  begin(last: number, length: number, nowMs: number): void {
    Atomics.store(this.#words, LENGTH, length);
    // A handler never looks older than it is.
    Atomics.store(this.#words, STARTED, Math.ceil(nowMs) | 0);
    Atomics.store(this.#words, BEGUN, last | 0);
  }

  /** `known`: a number that it had before, less than 2^31 tasks ago. */
  begun(known: number): number {
    return known + ((Atomics.load(this.#words, BEGUN) - (known | 0)) | 0);
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
