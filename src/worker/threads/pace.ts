import { LIMITS } from '../../limits.ts';
import type { Cost } from './messages.ts';

/** How much a report counts in which tasks took longer than before, or not as long: too large a group makes others wait. */
const WEIGHT_SLOWER = 0.5;
const WEIGHT_FASTER = 0.2;
const TASK_MS_MIN = 0.0001;
/** Names whose times are remembered. */
const NAMES_KEPT = 10_000;

/** How many tasks a thread is given ahead, by how long those of the same name took. */
export class Pace {
  readonly #taskMs = new Map<string, number>();

  learn(costs: readonly Cost[]): void {
    for (const { name, tasks, ms } of costs) {
      const taskMs = ms / tasks;
      const before = this.#taskMs.get(name);
      if (before === undefined) {
        if (this.#taskMs.size >= NAMES_KEPT) this.#taskMs.clear();
        this.#taskMs.set(name, taskMs);
        continue;
      }
      const weight = taskMs > before ? WEIGHT_SLOWER : WEIGHT_FASTER;
      this.#taskMs.set(name, before + (taskMs - before) * weight);
    }
  }

  /** One of a name that is not known yet may take hours. */
  taskMs(name: string): number {
    return this.#taskMs.get(name) ?? Number.POSITIVE_INFINITY;
  }

  /** How many of that name may wait in a thread that has `loadMs` of work. */
  ahead(name: string, loadMs: number): number {
    const roomMs = LIMITS.threadAheadMs - loadMs;
    const taskMs = this.taskMs(name);
    if (roomMs < taskMs) return 0;
    // Shorter than the clock can tell is as short as one can be told.
    return Math.min(Math.floor(roomMs / Math.max(taskMs, TASK_MS_MIN)), LIMITS.threadGroupTasksMax);
  }
}
