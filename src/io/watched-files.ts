import { stat } from 'node:fs/promises';
import type { Clock, Timer } from './clock.ts';

/**
 * Notices that files were changed, replaced or removed, by looking at them, and tells it when they have stayed as they are from one
 * look to the next: what is half written is not to be believed. (What the system tells of changes depends on it, and on the file
 * system, and does not follow the links by which secrets are mounted.)
 */
export class WatchedFiles {
  readonly #paths: readonly string[];
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #changed: () => void;
  #seen: string | undefined;
  /** As they were when it was told last. */
  #told: string | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(paths: readonly string[], clock: Clock, intervalMs: number, changed: () => void) {
    this.#paths = paths;
    this.#clock = clock;
    this.#intervalMs = intervalMs;
    this.#changed = changed;
  }

  /** Call before the files are read for the first time: what is written after that is noticed. */
  async start(): Promise<void> {
    this.#seen = await this.#look();
    this.#told = this.#seen;
    this.#wait();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #wait(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.setTimer(this.#intervalMs, () => {
      void this.#look().then((seen) => {
        if (this.#stopped) return;
        const isWhole = seen === this.#seen;
        this.#seen = seen;
        this.#wait();
        if (!isWhole || seen === this.#told) return;
        this.#told = seen;
        this.#changed();
      });
    });
    this.#timer.unref();
  }

  async #look(): Promise<string> {
    const marks = this.#paths.map(async (path) => {
      try {
        const { mtimeMs, size, ino } = await stat(path);
        return `${mtimeMs} ${size} ${ino}`;
      } catch (error) {
        return String((error as NodeJS.ErrnoException).code);
      }
    });
    return (await Promise.all(marks)).join('\n');
  }
}
