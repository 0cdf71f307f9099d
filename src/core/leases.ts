import { NONE } from './task-table.ts';
import type { CoreWorker } from './worker.ts';

/**
 * Tasks that are with workers. A lease is in its worker's list, in the order of delivery; once it has begun it is
 * also in the list of its timeout class. All leases of a class have the same timeout, so that list is in the order of
 * deadlines and needs no heap: appending, removing and finding the first are O(1).
 */
export interface TimeoutClass {
  readonly timeoutMs: number;
  kindCount: number;
  head: number;
  tail: number;
}

const WORDS = 8;
const SLOT = 0;
const NEXT = 1;
const PREV = 2;
const CLASS_NEXT = 3;
const CLASS_PREV = 4;
const WORKER = 5;
const TOKEN_LOW = 6;
const TOKEN_HIGH = 7;
const TWO_32 = 2 ** 32;

export class Leases {
  #words = new Uint32Array(256 * WORDS);
  /** 0: delivered, not begun yet. */
  #deadlineMs = new Float64Array(256);
  #freeHead = NONE;
  #fresh = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Appends to the worker's list. */
  create(worker: CoreWorker, slot: number, tokenHigh: number, tokenLow: number): number {
    let lease = this.#freeHead;
    if (lease !== NONE) this.#freeHead = this.#words[lease * WORDS + NEXT];
    else {
      lease = this.#fresh++;
      if (lease === this.#deadlineMs.length) this.#grow();
    }
    this.#count++;
    const words = this.#words;
    const at = lease * WORDS;
    words[at + SLOT] = slot;
    words[at + NEXT] = NONE;
    words[at + PREV] = worker.leaseTail;
    words[at + WORKER] = worker.index;
    words[at + TOKEN_LOW] = tokenLow;
    words[at + TOKEN_HIGH] = tokenHigh;
    this.#deadlineMs[lease] = 0;
    if (worker.leaseTail === NONE) worker.leaseHead = lease;
    else words[worker.leaseTail * WORDS + NEXT] = lease;
    worker.leaseTail = lease;
    worker.held++;
    return lease;
  }

  /** Takes it out of the worker's list; the caller has stopped it before, if it was running. */
  drop(worker: CoreWorker, lease: number): void {
    const words = this.#words;
    const at = lease * WORDS;
    const next = words[at + NEXT];
    const prev = words[at + PREV];
    if (prev === NONE) worker.leaseHead = next;
    else words[prev * WORDS + NEXT] = next;
    if (next === NONE) worker.leaseTail = prev;
    else words[next * WORDS + PREV] = prev;
    if (worker.firstWaiting === lease) worker.firstWaiting = next;
    worker.held--;
    words[at + SLOT] = NONE;
    words[at + NEXT] = this.#freeHead;
    this.#freeHead = lease;
    this.#count--;
  }

  start(lease: number, timeoutClass: TimeoutClass, deadlineMs: number): void {
    const words = this.#words;
    const at = lease * WORDS;
    this.#deadlineMs[lease] = deadlineMs;
    words[at + CLASS_NEXT] = NONE;
    words[at + CLASS_PREV] = timeoutClass.tail;
    if (timeoutClass.tail === NONE) timeoutClass.head = lease;
    else words[timeoutClass.tail * WORDS + CLASS_NEXT] = lease;
    timeoutClass.tail = lease;
  }

  stop(lease: number, timeoutClass: TimeoutClass): void {
    const words = this.#words;
    const at = lease * WORDS;
    const next = words[at + CLASS_NEXT];
    const prev = words[at + CLASS_PREV];
    if (prev === NONE) timeoutClass.head = next;
    else words[prev * WORDS + CLASS_NEXT] = next;
    if (next === NONE) timeoutClass.tail = prev;
    else words[next * WORDS + CLASS_PREV] = prev;
    this.#deadlineMs[lease] = 0;
  }

  running(lease: number): boolean {
    return this.#deadlineMs[lease] !== 0;
  }

  deadlineMs(lease: number): number {
    return this.#deadlineMs[lease];
  }

  slot(lease: number): number {
    return this.#words[lease * WORDS + SLOT];
  }

  workerIndex(lease: number): number {
    return this.#words[lease * WORDS + WORKER];
  }

  token(lease: number): number {
    const at = lease * WORDS;
    return this.#words[at + TOKEN_HIGH] * TWO_32 + this.#words[at + TOKEN_LOW];
  }

  holds(lease: number, workerIndex: number, token: number): boolean {
    const at = lease * WORDS;
    return (
      this.#words[at + WORKER] === workerIndex &&
      this.#words[at + TOKEN_HIGH] * TWO_32 + this.#words[at + TOKEN_LOW] === token
    );
  }

  next(lease: number): number {
    return this.#words[lease * WORDS + NEXT];
  }

  prev(lease: number): number {
    return this.#words[lease * WORDS + PREV];
  }

  #grow(): void {
    const words = new Uint32Array(this.#words.length * 2);
    const deadlineMs = new Float64Array(this.#deadlineMs.length * 2);
    words.set(this.#words);
    deadlineMs.set(this.#deadlineMs);
    this.#words = words;
    this.#deadlineMs = deadlineMs;
  }
}
