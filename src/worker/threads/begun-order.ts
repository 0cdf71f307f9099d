import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import type { Backlog } from '../backlog.ts';
import type { Parcel } from './held-tasks.ts';
import type { WorkerThread } from './worker-thread.ts';

interface Handed {
  readonly parcel: Parcel;
  readonly thread: WorkerThread;
}

/**
 * A server is told up to which of its deliveries everything has begun, and charges so much when the worker is lost. Threads
 * begin theirs side by side: what waits in one holds back what is told of the others, for as long as it waits.
 */
export class BegunOrder {
  readonly #consumption: Consumption;
  readonly #backlog: Backlog;
  /** In the order of delivery; those before `head` have begun. */
  #handed: Handed[] = [];
  #head = 0;
  #toldRun: DeliveryRun | undefined;
  #toldIndex = 0;

  constructor(consumption: Consumption, backlog: Backlog) {
    this.#consumption = consumption;
    this.#backlog = backlog;
  }

  add(parcel: Parcel, thread: WorkerThread): void {
    let at = this.#handed.length;
    // One that was handed before, to a thread that is gone, comes before others.
    while (at > this.#head && isBefore(parcel, (this.#handed[at - 1] as Handed).parcel)) at--;
    this.#handed.splice(at, 0, { parcel, thread });
  }

  /** A thread is gone with what it held. */
  remove(thread: WorkerThread): void {
    this.#handed = this.#handed.slice(this.#head).filter((each) => each.thread !== thread);
    this.#head = 0;
  }

  /** Whether nothing that was handed over waits in its thread. */
  get allBegun(): boolean {
    return this.#handed.every((each, at) => at < this.#head || begunOf(each) === each.parcel.kept);
  }

  tell(): void {
    let last: Parcel | undefined;
    let lastIndex = 0;
    for (; this.#head < this.#handed.length; this.#head++) {
      const each = this.#handed[this.#head] as Handed;
      const begun = begunOf(each);
      if (this.#isAhead(each.parcel, each.parcel.from + begun - 1)) break;
      if (begun > 0) {
        last = each.parcel;
        lastIndex = last.from + begun - 1;
      }
      if (begun < each.parcel.kept) break;
    }
    if (this.#head >= HANDED_SPARE) {
      this.#handed.splice(0, this.#head);
      this.#head = 0;
    }
    if (last === undefined) return;
    if (this.#toldRun === last.run && this.#toldIndex === lastIndex) return;
    this.#toldRun = last.run;
    this.#toldIndex = lastIndex;
    this.#consumption.begun(last.run, lastIndex, false);
  }

  /** Whether something that was delivered before it is to be handed over again. */
  #isAhead({ order }: Parcel, index: number): boolean {
    const { run } = this.#backlog;
    if (run === undefined) return false;
    return this.#backlog.order < order || (this.#backlog.order === order && this.#backlog.index < index);
  }
}

/** Those that have begun may be kept so many. */
const HANDED_SPARE = 64;

function begunOf({ parcel, thread }: Handed): number {
  if (parcel.held === 0) return parcel.kept;
  return Math.min(Math.max(thread.begun - parcel.first + 1, 0), parcel.kept);
}

function isBefore(one: Parcel, other: Parcel): boolean {
  return one.order < other.order || (one.order === other.order && one.from < other.from);
}
