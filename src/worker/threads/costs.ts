import type { Cost } from './messages.ts';

/**
 * How long tasks keep a thread, by their name. One whose handler waits for something shares the thread with as many others
 * as run at the same time.
 */
export class Costs {
  readonly #concurrency: number;
  #byName = new Map<string, { name: string; tasks: number; ms: number }>();
  /** The handler that has begun and did not end otherwise yet; it ends before the next begins. */
  #name: string | undefined;
  #length = 0;
  #sinceMs = 0;

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  started(name: string, length: number, nowMs: number): void {
    this.pause(nowMs);
    this.#name = name;
    this.#length = length;
    this.#sinceMs = nowMs;
  }

  /** It goes on while others begin. */
  entered(): void {
    this.#name = undefined;
  }

  ended(name: string, length: number, ms: number): void {
    this.#add(name, length, ms / Math.max(1, this.#concurrency / length));
  }

  /** No other has begun, but the one that had has ended. */
  pause(nowMs: number): void {
    if (this.#name !== undefined) this.#add(this.#name, this.#length, nowMs - this.#sinceMs);
    this.#name = undefined;
  }

  take(): Cost[] {
    if (this.#byName.size === 0) return [];
    const costs = [...this.#byName.values()];
    this.#byName = new Map();
    return costs;
  }

  #add(name: string, tasks: number, ms: number): void {
    const cost = this.#byName.get(name);
    if (cost === undefined) {
      this.#byName.set(name, { name, tasks, ms });
      return;
    }
    cost.tasks += tasks;
    cost.ms += ms;
  }
}
