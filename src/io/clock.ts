/**
 * Time. Intervals use `steadyMs`, which no clock change moves; appointments (`runAt`) use `wallMs`.
 * Both count milliseconds since 1970, with fractions, and agree when the process starts.
 */
export interface Clock {
  steadyMs(): number;
  wallMs(): number;
  /** Runs `callback` once, after `delayMs` of steady time. Longer delays than a timer can hold fire early; look at the time. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` after the current callback and its promise reactions, before more input is read. */
  defer(callback: () => void): void;
  /** Runs `callback` after the input that is already there has been read. */
  deferPastInput(callback: () => void): void;
}

export interface Timer {
  cancel(): void;
  /** Does not keep the process alive. */
  unref(): void;
}

/**
 * A timer for what is waited for from outside. What has come by then is read before `callback` runs: a process that was busy, or
 * stopped, for longer than it waits finds its timer due together with the answer.
 */
export function setPatientTimer(clock: Clock, delayMs: number, callback: () => void): Timer {
  let cancelled = false;
  const timer = clock.setTimer(delayMs, () => {
    clock.deferPastInput(() => {
      if (!cancelled) callback();
    });
  });
  return {
    cancel: () => {
      cancelled = true;
      timer.cancel();
    },
    unref: () => timer.unref(),
  };
}

/** Whether the promise settles within `ms`. */
export function settlesWithin(clock: Clock, ms: number, promise: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setPatientTimer(clock, ms, () => resolve(false));
    const settled = (): void => {
      timer.cancel();
      resolve(true);
    };
    promise.then(settled, settled);
  });
}

const TIMER_MS_MAX = 2 ** 31 - 1;

export class SystemClock implements Clock {
  readonly #startWallMs = Date.now();
  readonly #startMs = performance.now();

  steadyMs(): number {
    return this.#startWallMs + (performance.now() - this.#startMs);
  }

  wallMs(): number {
    return Date.now();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const handle = setTimeout(callback, Math.min(Math.max(delayMs, 0), TIMER_MS_MAX));
    return {
      cancel: () => clearTimeout(handle),
      unref: () => {
        handle.unref();
      },
    };
  }

  defer(callback: () => void): void {
    process.nextTick(callback);
  }

  deferPastInput(callback: () => void): void {
    setImmediate(callback);
  }
}

/** A time of either clock as people read it, in UTC. Throws a RangeError when it is none. */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString();
}
