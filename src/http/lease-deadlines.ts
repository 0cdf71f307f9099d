import { type Clock, setPatientTimer, type Timer } from '../io/clock.ts';

/** What has a deadline; `place` is the heap's. */
export interface Timed {
  /** Steady time. Change it with `move`. */
  endsAtMs: number;
  place: number;
}

/** The deadlines of all leases: a heap, and one timer that is set for the earliest. */
export class LeaseDeadlines<Item extends Timed> {
  readonly #clock: Clock;
  readonly #expired: (item: Item) => void;
  readonly #heap: Item[] = [];
  #timer: Timer | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  /** `expired` is called with what is no longer here. */
  constructor(clock: Clock, expired: (item: Item) => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  add(item: Item): void {
    item.place = this.#heap.length;
    this.#heap.push(item);
    this.#rise(item);
    this.#arm();
  }

  move(item: Item, endsAtMs: number): void {
    item.endsAtMs = endsAtMs;
    this.#rise(item);
    this.#sink(item);
    this.#arm();
  }

  remove(item: Item): void {
    const last = this.#heap.pop() as Item;
    if (last === item) return;
    this.#put(last, item.place);
    this.#rise(last);
    this.#sink(last);
  }

  close(): void {
    this.#timer?.cancel();
    this.#heap.length = 0;
  }

  /** A timer that comes too early, because its lease is over, only looks for the next one. */
  #arm(): void {
    const first = this.#heap[0];
    if (first === undefined || first.endsAtMs >= this.#armedForMs) return;
    this.#timer?.cancel();
    this.#armedForMs = first.endsAtMs;
    this.#timer = setPatientTimer(this.#clock, first.endsAtMs - this.#clock.steadyMs(), () => this.#sweep());
    this.#timer.unref();
  }

  #sweep(): void {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.steadyMs();
    for (let first = this.#heap[0]; first !== undefined && first.endsAtMs <= nowMs; first = this.#heap[0]) {
      this.remove(first);
      this.#expired(first);
    }
    this.#arm();
  }

  #rise(item: Item): void {
    while (item.place > 0) {
      const parent = this.#heap[(item.place - 1) >> 1] as Item;
      if (parent.endsAtMs <= item.endsAtMs) return;
      this.#swap(item, parent);
    }
  }

  #sink(item: Item): void {
    for (;;) {
      const left = this.#heap[2 * item.place + 1];
      const right = this.#heap[2 * item.place + 2];
      const least = right !== undefined && left !== undefined && right.endsAtMs < left.endsAtMs ? right : left;
      if (least === undefined || item.endsAtMs <= least.endsAtMs) return;
      this.#swap(item, least);
    }
  }

  #swap(one: Item, other: Item): void {
    const { place } = one;
    this.#put(one, other.place);
    this.#put(other, place);
  }

  #put(item: Item, place: number): void {
    this.#heap[place] = item;
    item.place = place;
  }
}
