import type { Clock, Timer } from '../../src/io/clock.ts';
import type { SimRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** Where the wall clocks of all machines begin. */
const START_WALL_MS = 1_800_000_000_000;
const TIMER_MS_MAX = 2 ** 31 - 1;

/** A host: what its processes share. */
export class Machine {
  readonly name: string;
  /** Its wall clock was set by so much. */
  wallOffsetMs = 0;
  /** False while it is without power. */
  up = true;

  constructor(name: string) {
    this.name = name;
  }
}

/** One life of a program. What is scheduled for it does not happen after its end. */
export class SimProcess {
  readonly name: string;
  readonly machine: Machine;
  readonly clock: SimClock;
  readonly random: SimRandom;
  /** Callbacks of `Clock.defer`. */
  readonly deferred: (() => void)[] = [];
  alive = true;
  /** Its event loop is blocked until then. */
  stalledUntilMs = 0;

  constructor(name: string, machine: Machine, scheduler: Scheduler, random: SimRandom) {
    this.name = name;
    this.machine = machine;
    this.random = random;
    this.clock = new SimClock(this, scheduler, random.fork('timers'));
  }
}

/** As `SystemClock` on a real machine: steady time begins at the wall's, timers are late, and early by a part of a millisecond. */
export class SimClock implements Clock {
  readonly #process: SimProcess;
  readonly #scheduler: Scheduler;
  readonly #random: SimRandom;
  readonly #steadyOffsetMs: number;

  constructor(process: SimProcess, scheduler: Scheduler, random: SimRandom) {
    this.#process = process;
    this.#scheduler = scheduler;
    this.#random = random;
    this.#steadyOffsetMs = START_WALL_MS + process.machine.wallOffsetMs;
  }

  steadyMs(): number {
    return this.#steadyOffsetMs + this.#scheduler.nowMs;
  }

  wallMs(): number {
    return START_WALL_MS + this.#process.machine.wallOffsetMs + Math.floor(this.#scheduler.nowMs);
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const wholeMs = Math.max(1, Math.trunc(Math.min(Math.max(delayMs, 0), TIMER_MS_MAX)));
    const lateMs = this.#random.chance(0.9) ? this.#random.float() : this.#random.exponential(5);
    const event = this.#scheduler.schedule(wholeMs + lateMs, this.#process, 'timer', callback);
    return {
      cancel: () => {
        event.cancelled = true;
      },
      unref: () => {},
    };
  }

  defer(callback: () => void): void {
    this.#process.deferred.push(callback);
  }

  deferPastInput(callback: () => void): void {
    this.#scheduler.schedule(0, this.#process, 'after input', callback);
  }
}
