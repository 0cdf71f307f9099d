import { MillraceError } from '../../src/errors.ts';

/** A promise that is settled from outside. */
export class Deferred<T = void> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** A handler that says that it has started, and ends, with what `end` returns or throws, when it is let go. */
export class HeldHandler<T = void> {
  readonly started = new Deferred();
  readonly go = new Deferred();
  readonly #end: () => T;

  constructor(end: () => T) {
    this.#end = end;
  }

  readonly run = async (): Promise<T> => {
    this.started.resolve();
    await this.go.promise;
    return this.#end();
  };
}

/** What happened, in order, for a test that waits until so much of it has. */
export class Arrivals<T> {
  readonly all: T[] = [];
  #waiting: { count: number; resolve: (all: T[]) => void }[] = [];

  add(value: T): void {
    this.all.push(value);
    for (const waiter of this.#waiting) if (this.all.length >= waiter.count) waiter.resolve(this.all);
    this.#waiting = this.#waiting.filter((waiter) => this.all.length < waiter.count);
  }

  /** Resolves with everything once there are `count`. */
  count(count: number): Promise<T[]> {
    if (this.all.length >= count) return Promise.resolve(this.all);
    return new Promise((resolve) => this.#waiting.push({ count, resolve }));
  }
}

const UNTIL_MS_MAX = 10_000;

/**
 * Asks again and again, for what nobody announces; each question goes to the backend and back, so this is no busy loop.
 * Rejects naming `what` when it takes too long.
 */
export async function until<T>(read: () => Promise<T>, holds: (value: T) => boolean, what = 'this'): Promise<T> {
  const deadlineMs = performance.now() + UNTIL_MS_MAX;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    if (performance.now() > deadlineMs) {
      const last = JSON.stringify(value);
      throw new Error(`${what} did not come true within ${UNTIL_MS_MAX} ms; the last answer was ${last}`);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Rejects naming `what` when the promise takes too long. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = new Deferred<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`${what} did not come within ${UNTIL_MS_MAX} ms`)),
    UNTIL_MS_MAX,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a call that must fail fails with. */
export async function failure(call: Promise<unknown> | (() => unknown)): Promise<MillraceError> {
  try {
    const value = await (typeof call === 'function' ? call() : call);
    throw new Error(`did not fail, but gave ${JSON.stringify(value)}`);
  } catch (error) {
    if (error instanceof MillraceError) return error;
    throw error;
  }
}
