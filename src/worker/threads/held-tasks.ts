import type { DeliveryRun } from '../../broker/contract.ts';

/**
 * A task that was handed to a thread is HELD until it is settled, by the thread or for it; CANCELLED when nobody is to begin it
 * any more, but somebody has to settle it still; LOST when its lease was lost and the thread has it still; and then OVER.
 */
const HELD = 0;
const CANCELLED = 1;
const LOST = 2;
const OVER = 3;

/** Consecutive tasks of a run, with what became of each. */
export class Parcel {
  readonly run: DeliveryRun;
  readonly from: number;
  readonly length: number;
  /** The number of its first task. */
  readonly first: number;
  /** Which of the worker's deliveries the run was. */
  readonly order: number;
  /** Tasks that are not OVER, and those of them that are to be settled: HELD and CANCELLED. */
  open: number;
  held: number;
  /** From the first on, those that were not taken back before they began. */
  kept: number;
  readonly #states: Uint8Array;

  constructor(run: DeliveryRun, from: number, length: number, first: number, order: number) {
    this.run = run;
    this.from = from;
    this.length = length;
    this.first = first;
    this.order = order;
    this.open = length;
    this.held = length;
    this.kept = length;
    this.#states = new Uint8Array(length);
  }

  /** The number of its last task. */
  get last(): number {
    return this.first + this.length - 1;
  }

  /** The number of the last one that was not taken back. */
  get lastKept(): number {
    return this.first + this.kept - 1;
  }

  /** In the run. */
  indexOf(number: number): number {
    return this.from + number - this.first;
  }

  /** Whether it is to be settled. */
  isHeld(number: number): boolean {
    const state = this.#states[number - this.first];
    return state === HELD || state === CANCELLED;
  }

  isCancelled(number: number): boolean {
    return this.#states[number - this.first] === CANCELLED;
  }

  /** Whether it was to be settled. */
  end(number: number): boolean {
    const wasHeld = this.isHeld(number);
    const at = number - this.first;
    if (this.#states[at] === OVER) return false;
    this.#states[at] = OVER;
    this.open--;
    if (wasHeld) this.held--;
    return wasHeld;
  }

  /** It is to be settled. */
  cancel(number: number): void {
    this.#states[number - this.first] = CANCELLED;
  }

  /** It is to be settled, and is not any more. */
  lose(number: number): void {
    this.#states[number - this.first] = LOST;
    this.held--;
  }

  /** All at once; false, and nothing is done, when not every one of them is HELD. */
  endRange(from: number, to: number): boolean {
    const states = this.#states;
    for (let at = from - this.first; at < to - this.first; at++) if (states[at] !== HELD) return false;
    states.fill(OVER, from - this.first, to - this.first);
    this.open -= to - from;
    this.held -= to - from;
    return true;
  }
}

/** One task of a parcel, by its number. */
export interface HeldTask {
  readonly parcel: Parcel;
  readonly number: number;
}

/** Parcels that are over may be kept beside so many that are not. */
const PARCELS_SPARE = 64;

/** What a thread was handed and did not finish, in the order of its numbers. */
export class HeldTasks {
  #parcels: Parcel[] = [];
  #next = 1;
  /** Where `find` found the last one. */
  #hint = 0;

  get parcels(): readonly Parcel[] {
    return this.#parcels;
  }

  /** Tasks that the thread has, … */
  get open(): number {
    let open = 0;
    for (const parcel of this.#parcels) open += parcel.open;
    return open;
  }

  /** … and those of them that are to be settled. */
  get held(): number {
    let held = 0;
    for (const parcel of this.#parcels) held += parcel.held;
    return held;
  }

  get next(): number {
    return this.#next;
  }

  add(run: DeliveryRun, from: number, length: number, order: number): Parcel {
    const parcel = new Parcel(run, from, length, this.#next, order);
    this.#parcels.push(parcel);
    this.#next += length;
    return parcel;
  }

  /** Undefined when the whole parcel is over. */
  find(number: number): Parcel | undefined {
    const hinted = this.#parcels[this.#hint];
    if (hinted !== undefined && number >= hinted.first && number <= hinted.last) return hinted;
    let low = 0;
    let high = this.#parcels.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const parcel = this.#parcels[middle] as Parcel;
      if (number < parcel.first) high = middle - 1;
      else if (number > parcel.last) low = middle + 1;
      else {
        this.#hint = middle;
        return parcel;
      }
    }
    return undefined;
  }

  /** Where a task is that is to be settled; undefined when it is not here. */
  locate(run: DeliveryRun, index: number): HeldTask | undefined {
    for (const parcel of this.#parcels) {
      if (parcel.run !== run || index < parcel.from || index >= parcel.from + parcel.length) continue;
      const number = parcel.first + index - parcel.from;
      if (parcel.isHeld(number)) return { parcel, number };
    }
    return undefined;
  }

  /** Those that are to be settled. A copy: they may be settled while it is walked. */
  tasks(): HeldTask[] {
    const tasks: HeldTask[] = [];
    for (const parcel of this.#parcels) {
      for (let number = parcel.first; number <= parcel.last; number++) {
        if (parcel.isHeld(number)) tasks.push({ parcel, number });
      }
    }
    return tasks;
  }

  /** What comes after this one is taken back. */
  keepTo(number: number): void {
    for (const parcel of this.#parcels) parcel.kept = Math.min(parcel.kept, Math.max(number - parcel.first + 1, 0));
  }

  /** Forgets what is over. */
  prune(): void {
    const open = this.#parcels.reduce((count, parcel) => count + (parcel.open > 0 ? 1 : 0), 0);
    if (this.#parcels.length - open > (open === 0 ? 0 : PARCELS_SPARE)) {
      this.#parcels = this.#parcels.filter((parcel) => parcel.open > 0);
    }
    this.#hint = 0;
  }

  clear(): void {
    this.#parcels = [];
  }
}
