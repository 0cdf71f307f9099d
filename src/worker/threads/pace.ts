import { LIMITS } from '../../limits.ts';
import type { Cost } from './messages.ts';

/** How much a report counts in which tasks took longer than before, or not as long: too large a group makes others wait. */
const WEIGHT_SLOWER = 0.5;
const WEIGHT_FASTER = 0.2;
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

  /** None of a name that is not known yet: it may take hours. */
  ahead(name: string): number {
    const taskMs = this.#taskMs.get(name);
    if (taskMs === undefined) return 0;
    return Math.min(Math.floor(LIMITS.threadAheadMs / Math.max(taskMs, Number.MIN_VALUE)), LIMITS.threadGroupTasksMax);
  }
}
