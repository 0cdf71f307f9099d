import { nowNs } from './numbers.ts';

/** How long tasks that do not come are waited for. */
export interface Patience {
  /** Until nothing was marked for so long. */
  quietMs: number;
  /** Or until this holds. */
  isOver?: () => boolean;
}

const LOOK_MS = 100;

/** Which tasks of a run were processed: one bit a task. */
export class Ledger {
  readonly expected: number;
  readonly #seen: Uint8Array;
  #seenCount = 0;
  #duplicated = 0;
  #foreign = 0;
  /** What is waited for, and what is done then. */
  #target = 0;
  #onTarget = (): void => {};

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
    if (this.#seenCount === this.#target) this.#onTarget();
  }

  /** Resolves when so many different tasks were marked, or when patience is at its end. */
  async reach(tasks: number, patience: Patience): Promise<void> {
    const { ended, end } = waitFor(this, tasks, patience, LOOK_MS);
    this.#target = tasks;
    this.#onTarget = end;
    await ended;
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

/** Looks every `lookMs` whether a ledger has got so far, or nothing comes any more; `end` ends the wait before. */
export function waitFor(
  ledger: { readonly seen: number; readonly marks: number },
  tasks: number,
  { quietMs, isOver = () => false }: Patience,
  lookMs: number,
): { ended: Promise<void>; end: () => void } {
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    let { marks } = ledger;
    let changedNs = nowNs();
    const timer = setInterval(() => {
      const now = nowNs();
      if (ledger.marks !== marks) {
        marks = ledger.marks;
        changedNs = now;
      }
      if (ledger.seen >= tasks || now - changedNs > quietMs * 1e6 || isOver()) end();
    }, lookMs);
    end = () => {
      clearInterval(timer);
      resolve();
    };
  });
  if (ledger.seen >= tasks) end();
  return { ended, end };
}
