import { MillraceError } from '../../errors.ts';
import { type Clock, settlesWithin, type Timer } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import type { Republish, Store, StoreWatcher, Unpublished } from '../store.ts';
import { DeadlineTimer } from '../tcp/deadlines.ts';
import { Firing } from './firing.ts';
import type { MessageIds } from './message-ids.ts';
import type { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import type { Replies } from './replies.ts';
import { Republishing } from './republishing.ts';

/**
 * What a client does with its store besides enqueueing: asks it how tasks ended that no reply tells of, and publishes what
 * a process that ended in between has left in the outbox.
 */
const SWEEP_MS = 3000;
/** Whoever inserted it is publishing it, unless it has had so long. */
const SWEEP_OLDER_MS = 5000;
/** A task of our own comes with a reply, as a rule. */
const OWN_POLL_MS = 50;
const POLL_MS_MIN = 20;
const POLL_MS_MAX = 5000;
/** The store may have forgotten a task whose reply is still on its way. */
const REPLY_MS_MAX = 5000;

/** Portions of released tasks that are on their way to the broker at the same time. */
const RELEASES_MAX = 4;

interface Poll {
  nextMs: number;
  pauseMs: number;
  /** When the store said that it does not know it. */
  unknownSinceMs: number | undefined;
}

export interface RememberedOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly ids: MessageIds;
  readonly names: Names;
  readonly outbound: Outbound;
  readonly replies: Replies;
  readonly callTimeoutMs: number;
}

export class Remembered {
  readonly store: Store;
  readonly firing: Firing;
  readonly #options: RememberedOptions;
  readonly #clock: Clock;
  readonly #republishing: Republishing;
  readonly #polls = new Map<string, Poll>();
  readonly #polling: DeadlineTimer;
  #asking = false;
  #sweeper: Timer | undefined;
  /** Entries of the outbox with tasks that wait for others no longer. */
  #released = new Set<string>();
  #releasing = 0;
  #drained: (() => void)[] = [];
  #closed = false;

  constructor(options: RememberedOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.store = options.store;
    this.#republishing = new Republishing(options);
    this.firing = new Firing(options, this.#republishing);
    this.#polling = new DeadlineTimer(options.clock, (nowMs) => this.#due(nowMs));
  }

  /** Rejects like the store. */
  async start(watcher: StoreWatcher): Promise<void> {
    await this.store.watch(watcher);
    this.#sweepLater();
    this.firing.start();
  }

  /** Somebody waits for the end of the task, from now on. */
  poll(id: string): void {
    const { ids, replies } = this.#options;
    if (this.#polls.has(id) || !replies.isWaiting(id)) return;
    const pauseMs = ids.isOwn(id) && !replies.hasEnded(id) ? OWN_POLL_MS : 0;
    const nextMs = this.#clock.steadyMs() + pauseMs;
    this.#polls.set(id, { nextMs, pauseMs: POLL_MS_MIN, unknownSinceMs: undefined });
    this.#polling.need(nextMs);
  }

  /** Something may have ended very many of them. */
  pollAll(): void {
    const nowMs = this.#clock.steadyMs();
    for (const poll of this.#polls.values()) poll.nextMs = nowMs;
    this.#polling.need(nowMs);
  }

  /**
   * Publishes what the store has just put into its outbox. What the broker does not take in time stays there, and is
   * published later. Rejects when the broker will never take some of it: that is cancelled.
   */
  async publish(due: Republish): Promise<void> {
    const refusal = await this.#republishing.publish(due);
    if (refusal !== undefined) throw refusal;
  }

  /** As `publish`, and resolves after the timeout of a call at the latest. */
  async publishInTime(due: Republish): Promise<void> {
    const published = this.publish(due);
    if (await settlesWithin(this.#clock, this.#options.callTimeoutMs, published)) await published;
  }

  /** Tasks were let go because others ended here, which publishes them, or cancelled, of which no reply tells. */
  released({ entries }: Unpublished, cancelled: number): void {
    if (cancelled > 0) this.pollAll();
    this.#releaseAll(entries);
  }

  /** Resolves when what was released is published, or left to the outbox. */
  drained(): Promise<void> {
    if (this.#releasing === 0) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  stop(): void {
    this.#closed = true;
    this.#sweeper?.cancel();
    this.firing.stop();
    this.#polling.cancel();
  }

  #releaseAll(entries: readonly string[]): void {
    for (const entry of entries) this.#released.add(entry);
    while (this.#released.size > 0 && this.#releasing < RELEASES_MAX && !this.#closed) this.#release();
  }

  #release(): void {
    const entries = [...this.#released];
    this.#released.clear();
    this.#releasing++;
    this.#publishReleased(entries)
      .catch((error: unknown) => {
        // The store is away: a sweep finds it in the outbox.
        if (!(error instanceof MillraceError)) throw error;
      })
      .finally(() => {
        this.#releasing--;
        this.#releaseAll([]);
        if (this.#releasing === 0) for (const drained of this.#drained.splice(0)) drained();
      });
  }

  async #publishReleased(entries: readonly string[]): Promise<void> {
    const portion = await this.store.reread({ entries });
    const taken = new Set(portion.entries);
    // What was too much for one portion; unless it is nothing, which means that all of them are gone.
    if (taken.size > 0) {
      this.#releaseAll(entries.filter((entry) => !taken.has(entry)));
      await this.#republishing.publish(portion);
    }
  }

  #sweepLater(): void {
    if (this.#closed) return;
    const pauseMs = SWEEP_MS * (0.5 + this.#options.random.float());
    this.#sweeper = this.#clock.setTimer(pauseMs, () => {
      this.#sweep().then(
        () => this.#sweepLater(),
        (error: unknown) => {
          // The store is away: what was claimed is free again after a while.
          if (!(error instanceof MillraceError)) throw error;
          this.#sweepLater();
        },
      );
    });
    this.#sweeper.unref();
  }

  async #sweep(): Promise<void> {
    // What is claimed while the broker is away is not claimed by somebody for whom it is there.
    while (!this.#closed && this.#options.outbound.takes) {
      const portion = await this.store.sweep(SWEEP_OLDER_MS);
      await this.#republishing.publish(portion);
      if (portion.tasks.length === 0) return;
    }
  }

  #due(nowMs: number): number {
    // One question at a time; what is due meanwhile goes into the next.
    if (this.#asking) return Number.POSITIVE_INFINITY;
    const due: string[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [id, poll] of this.#polls) {
      if (!this.#options.replies.isWaiting(id)) this.#polls.delete(id);
      else if (poll.nextMs <= nowMs) due.push(id);
      else nextMs = Math.min(nextMs, poll.nextMs);
    }
    if (due.length === 0) return nextMs;
    this.#ask(due).then(
      () => this.#asked(due),
      (error: unknown) => {
        // The store is away: those who wait ask again, until their time is over.
        if (!(error instanceof MillraceError)) throw error;
        this.#asked(due);
      },
    );
    return Number.POSITIVE_INFINITY;
  }

  async #ask(due: readonly string[]): Promise<void> {
    this.#asking = true;
    const outcomes = await this.store.outcomes(due);
    const { replies } = this.#options;
    due.forEach((id, index) => {
      const outcome = outcomes[index];
      if (outcome === undefined) return;
      if (outcome !== 'unknown') replies.ended(id, outcome);
      else if (!this.#mayBeReplied(id)) replies.failed(id, notFound(id));
    });
  }

  #mayBeReplied(id: string): boolean {
    const { ids, replies } = this.#options;
    const poll = this.#polls.get(id);
    if (poll === undefined || !ids.isOwn(id) || replies.hasEnded(id)) return false;
    const nowMs = this.#clock.steadyMs();
    poll.unknownSinceMs ??= nowMs;
    return nowMs < poll.unknownSinceMs + REPLY_MS_MAX;
  }

  #asked(due: readonly string[]): void {
    this.#asking = false;
    const nowMs = this.#clock.steadyMs();
    for (const id of due) {
      const poll = this.#polls.get(id);
      if (poll === undefined) continue;
      poll.nextMs = nowMs + poll.pauseMs;
      poll.pauseMs = Math.min(poll.pauseMs * 2, POLL_MS_MAX);
    }
    if (!this.#closed) this.#polling.need(nowMs);
  }
}

function notFound(id: string): MillraceError {
  const message = `task ${id} is not known: it never existed, or it ended and is no longer retained (raise the queue's retention)`;
  return new MillraceError('NOT_FOUND', message, { details: { id } });
}
