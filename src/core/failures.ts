import { LIMITS } from '../limits.ts';

/** An attempt that failed, and where its error lies. */
export interface Failure {
  attempt: number;
  atMs: number;
  segment: number;
  offset: number;
}

const NUMBERS = 4;

/** The failed attempts of the few tasks that have any, the newest ones: flat quadruples, not objects. */
export class Failures {
  readonly #bySlot = new Map<number, number[]>();

  /** Returns the segment of the oldest failure when that had to go, else -1. */
  add(slot: number, failure: Failure): number {
    let flat = this.#bySlot.get(slot);
    let dropped = -1;
    if (flat === undefined) {
      flat = [];
      this.#bySlot.set(slot, flat);
    } else if (flat.length >= LIMITS.attemptsKeptMax * NUMBERS) {
      dropped = flat[2];
      flat.splice(0, NUMBERS);
    }
    flat.push(failure.attempt, failure.atMs, failure.segment, failure.offset);
    return dropped;
  }

  /** Takes the newest one away; returns its segment, or -1. */
  pop(slot: number): number {
    const flat = this.#bySlot.get(slot);
    if (flat === undefined || flat.length === 0) return -1;
    const segment = flat[flat.length - NUMBERS + 2];
    flat.length -= NUMBERS;
    return segment;
  }

  /** Oldest first. */
  get(slot: number): Failure[] {
    const flat = this.#bySlot.get(slot) ?? [];
    const failures: Failure[] = [];
    for (let at = 0; at < flat.length; at += NUMBERS) {
      failures.push({ attempt: flat[at], atMs: flat[at + 1], segment: flat[at + 2], offset: flat[at + 3] });
    }
    return failures;
  }

  /** Points the failures, oldest first, at copies. */
  relocate(slot: number, places: readonly { segment: number; offset: number }[]): void {
    const flat = this.#bySlot.get(slot) ?? [];
    places.forEach(({ segment, offset }, i) => {
      flat[i * NUMBERS + 2] = segment;
      flat[i * NUMBERS + 3] = offset;
    });
  }

  delete(slot: number): void {
    this.#bySlot.delete(slot);
  }
}
