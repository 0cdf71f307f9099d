import type { Clock, Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { type CallingHandler, isDeaf, isStuck, type WorkerThread } from './worker-thread.ts';

/** Whose threads are looked after. */
export interface LookoutOwner {
  /** Notices how far the thread is. */
  begin(thread: WorkerThread): void;
  /** A handler keeps the thread for its own time, and more: it is to end with the thread. */
  expired(thread: WorkerThread, handler: CallingHandler): void;
  /** Nothing happens in the thread any more. */
  crashed(thread: WorkerThread, cause: Error): void;
  /** What waits in the thread has waited for too long. */
  recall(thread: WorkerThread): void;
  /** All have been looked at. */
  looked(): void;
}

/** How soon after something was handed over, and how often at least, it is looked how far the threads are. */
const LOOK_MS_MIN = 25;
const LOOK_MS_MAX = 250;

/**
 * Looks how far threads are, which say nothing while a handler keeps them, for as long as one of them has something to do: more
 * often after something was handed over, which begins at once or soon.
 */
export class Lookout {
  readonly #clock: Clock;
  readonly #threads: () => readonly WorkerThread[];
  readonly #owner: LookoutOwner;
  #timer: Timer | undefined;
  #atMs = Number.POSITIVE_INFINITY;
  #pauseMs = LOOK_MS_MIN;

  /** `clock` is that of the threads. */
  constructor(clock: Clock, threads: () => readonly WorkerThread[], owner: LookoutOwner) {
    this.#clock = clock;
    this.#threads = threads;
    this.#owner = owner;
  }

  /** Something was handed over, with this as the shortest `timeoutMs` of it. */
  handed(timeoutMs: number): void {
    this.#pauseMs = LOOK_MS_MIN;
    this.#lookBy(this.#clock.steadyMs() + Math.min(LOOK_MS_MIN, timeoutMs));
  }

  end(): void {
    this.#timer?.cancel();
  }

  #lookBy(atMs: number): void {
    if (this.#atMs <= atMs) return;
    this.#timer?.cancel();
    this.#atMs = atMs;
    this.#timer = this.#clock.setTimer(atMs - this.#clock.steadyMs(), () => {
      this.#atMs = Number.POSITIVE_INFINITY;
      this.#look();
    });
    this.#timer.unref();
  }

  #look(): void {
    const nowMs = this.#clock.steadyMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const thread of this.#threads()) {
      if (thread.state !== 'working') continue;
      this.#lookAt(thread, nowMs);
      if (thread.state === 'working') nextMs = Math.min(nextMs, nextLookMs(thread, nowMs));
    }
    this.#owner.looked();
    this.#pauseMs = Math.min(this.#pauseMs * 2, LOOK_MS_MAX);
    if (nextMs < Number.POSITIVE_INFINITY) this.#lookBy(Math.min(nextMs, nowMs + this.#pauseMs));
  }

  #lookAt(thread: WorkerThread, nowMs: number): void {
    this.#owner.begin(thread);
    let overdue = overdueOf(thread, nowMs);
    if (overdue !== undefined || isDeaf(thread, nowMs)) {
      // It may have said something, while this thread was busy.
      thread.drain();
      overdue = overdueOf(thread, nowMs);
    }
    if (overdue !== undefined) this.#owner.expired(thread, overdue);
    else if (isDeaf(thread, nowMs, LIMITS.threadStartMs) && thread.running.size === 0) {
      const cause = new Error(`no handler ran in it, and it did nothing for ${LIMITS.threadStartMs} ms`);
      this.#owner.crashed(thread, cause);
    } else if (thread.hasWaiting && (isStuck(thread, nowMs) || isDeaf(thread, nowMs))) this.#owner.recall(thread);
  }
}

/** The handler for whose sake the thread is to end. */
function overdueOf(thread: WorkerThread, nowMs: number): CallingHandler | undefined {
  const { calling } = thread;
  if (calling !== undefined && thread.marks.startedMs(nowMs) + calling.timeoutMs <= nowMs) return calling;
  for (const handler of thread.running.values()) {
    if (handler.startedMs + handler.timeoutMs + LIMITS.threadGraceMs <= nowMs) return handler;
  }
  return undefined;
}

/** When something in the thread can be overdue; never when it has nothing. */
function nextLookMs(thread: WorkerThread, nowMs: number): number {
  let nextMs = Number.POSITIVE_INFINITY;
  const { calling } = thread;
  if (calling !== undefined) nextMs = thread.marks.startedMs(nowMs) + calling.timeoutMs;
  for (const { startedMs, timeoutMs } of thread.running.values()) {
    nextMs = Math.min(nextMs, startedMs + timeoutMs + LIMITS.threadGraceMs);
  }
  if (thread.recalling) nextMs = Math.min(nextMs, nowMs + LOOK_MS_MAX);
  // What waits may begin at any time.
  for (const { held, lastKept, run } of thread.held.parcels) {
    if (held > 0 && lastKept > thread.begun)
      nextMs = Math.min(nextMs, nowMs + Math.min(LOOK_MS_MIN, run.spec.timeoutMs));
  }
  return nextMs;
}
