import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { type Patience, waitFor } from './ledger.ts';
import { sharedNs } from './numbers.ts';

/**
 * As `Ledger`, for handlers in several threads: in memory that they share. Also notes when the task came that is the
 * `from`-th, and when the last one was marked.
 */
const SEEN = 0;
const DUPLICATED = 1;
const FOREIGN = 2;
const COUNTS = 4;

const FROM_NS = 0;
const LAST_NS = 1;
const TIMES = 2;

const HEAD_BYTES = COUNTS * Int32Array.BYTES_PER_ELEMENT + TIMES * Float64Array.BYTES_PER_ELEMENT;
const ENVIRONMENT_KEY = 'millrace bench';

/** Threads cannot call when they have got so far. */
const LOOK_MS = 5;

/** What threads that are started later find in their environment. */
export interface ThreadScene {
  readonly ledger: { readonly buffer: SharedArrayBuffer; readonly expected: number; readonly from: number };
  /** Of fixed work in each handler. */
  readonly rounds: number;
}

export function setThreadScene(scene: ThreadScene): void {
  setEnvironmentData(ENVIRONMENT_KEY, scene);
}

/** In a thread: what was set before it was started. */
export function threadScene(): ThreadScene {
  return getEnvironmentData(ENVIRONMENT_KEY) as ThreadScene;
}

export class SharedLedger {
  readonly expected: number;
  readonly from: number;
  readonly buffer: SharedArrayBuffer;
  readonly #counts: Int32Array;
  readonly #times: Float64Array;
  readonly #bits: Int32Array;

  constructor(
    expected: number,
    from: number,
    buffer = new SharedArrayBuffer(HEAD_BYTES + Math.ceil(expected / 32) * 4),
  ) {
    this.expected = expected;
    this.from = from;
    this.buffer = buffer;
    this.#counts = new Int32Array(buffer, 0, COUNTS);
    this.#times = new Float64Array(buffer, COUNTS * Int32Array.BYTES_PER_ELEMENT, TIMES);
    this.#bits = new Int32Array(buffer, HEAD_BYTES);
  }

  mark(index: number): void {
    // Also catches what is not an integer.
    if (!(index >= 0 && index < this.expected && (index | 0) === index)) {
      Atomics.add(this.#counts, FOREIGN, 1);
      return;
    }
    const bit = 1 << (index & 31);
    if ((Atomics.or(this.#bits, index >>> 5, bit) & bit) !== 0) {
      Atomics.add(this.#counts, DUPLICATED, 1);
      return;
    }
    const seen = Atomics.add(this.#counts, SEEN, 1) + 1;
    if (seen === this.from) this.#times[FROM_NS] = sharedNs();
    else if (seen === this.expected) this.#times[LAST_NS] = sharedNs();
  }

  /** Resolves when so many different tasks were marked, or when patience is at its end. */
  async reach(tasks: number, patience: Patience): Promise<void> {
    await waitFor(this, tasks, patience, LOOK_MS).ended;
  }

  get seen(): number {
    return Atomics.load(this.#counts, SEEN);
  }

  get marks(): number {
    return this.seen + this.duplicated + this.foreign;
  }

  get lost(): number {
    return this.expected - this.seen;
  }

  get duplicated(): number {
    return Atomics.load(this.#counts, DUPLICATED);
  }

  get foreign(): number {
    return Atomics.load(this.#counts, FOREIGN);
  }

  /** From the `from`-th to the last one; null before that. */
  get spanNs(): number | null {
    const [fromNs, lastNs] = this.#times;
    return lastNs === 0 ? null : lastNs - fromNs;
  }
}
