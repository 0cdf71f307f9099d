import { MillraceError } from '../../errors.ts';
import { type Clock, settlesWithin, type Timer } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import type { Store } from '../store.ts';
import type { MessageIds } from './message-ids.ts';
import type { Outbound } from './outbound.ts';
import type { Republishing } from './republishing.ts';

/** Whoever set a schedule may be gone: so each process looks that often for what others have set. */
const LOOK_MS = 1000;
/** So that processes which know of the same due time do not all come in the same millisecond. */
const SPREAD_MS = 20;
/** The next round waits so long for what this one has fired: a queue that takes nothing must not make others late. */
const PUBLISH_MS = 1000;

/**
 * Fires what is due: each process that is connected offers to. The store's rows decide who does, so that each due time has
 * one firing; what a process has fired it publishes, and if it dies a sweep does.
 */
export class Firing {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #ids: MessageIds;
  readonly #outbound: Outbound;
  readonly #republishing: Republishing;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(
    options: { clock: Clock; random: Random; store: Store; ids: MessageIds; outbound: Outbound },
    republishing: Republishing,
  ) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#store = options.store;
    this.#ids = options.ids;
    this.#outbound = options.outbound;
    this.#republishing = republishing;
  }

  start(): void {
    this.#later(LOOK_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #later(pauseMs: number): void {
    if (this.#stopped) return;
    const draw = this.#random.float();
    const waitMs = Math.min(LOOK_MS * (0.5 + draw / 2), pauseMs + SPREAD_MS * draw);
    this.#timer = this.#clock.setTimer(waitMs, () => {
      this.#round().then(
        (nextMs) => this.#later(nextMs),
        (error: unknown) => {
          // The store is away.
          if (!(error instanceof MillraceError)) throw error;
          this.#later(LOOK_MS);
        },
      );
    });
    this.#timer.unref();
  }

  async #round(): Promise<number> {
    // While the broker is away, those fire for whom it is there.
    while (!this.#stopped && this.#outbound.takes) {
      const { due, pauseMs } = await this.#store.schedules.fire(() => this.#ids.next());
      if (due.tasks.length > 0) await settlesWithin(this.#clock, PUBLISH_MS, this.#republishing.publish(due));
      if (pauseMs > 0) return pauseMs;
    }
    return LOOK_MS;
  }
}
