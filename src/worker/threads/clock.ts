import { SystemClock } from '../../io/clock.ts';

/** What all threads of a process read alike; a thread's `performance.now()` begins with the thread. */
function sharedMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** What the clock of another thread needs in order to show the same time. */
export function clockBaseMs(clock: SystemClock): number {
  return clock.steadyMs() - sharedMs();
}

/** Steady time as in the thread that gave the base. */
export class ThreadClock extends SystemClock {
  readonly #offsetMs: number;

  constructor(baseMs: number) {
    super();
    this.#offsetMs = baseMs + sharedMs() - performance.now();
  }

  override steadyMs(): number {
    return this.#offsetMs + performance.now();
  }
}
