import { LIMITS } from '../../limits.ts';
import type { HeldTask } from './held-task.ts';

const NONE: ReadonlySet<string> = new Set();

/** Tasks that were delivered and not handed out: by priority, and in the order of their arrival within one. */
export class WaitingTasks {
  readonly #lists: HeldTask[][] = Array.from({ length: LIMITS.priorityMax + 1 }, () => []);
  readonly #heads: number[] = new Array(LIMITS.priorityMax + 1).fill(0);
  size = 0;

  push(task: HeldTask): void {
    (this.#lists[task.spec.priority] as HeldTask[]).push(task);
    this.size++;
  }

  /** The next tasks of one kind, at most `max`, of no queue that is paused; undefined when there are none. */
  take(max: number, paused: ReadonlySet<string> = NONE): HeldTask[] | undefined {
    if (paused.size > 0) return this.#takeUnpaused(max, paused);
    for (let priority = LIMITS.priorityMax; priority >= 0; priority--) {
      const list = this.#lists[priority] as HeldTask[];
      const head = this.#heads[priority] as number;
      const first = list[head];
      if (first === undefined) continue;
      let end = head + 1;
      while (end < list.length && end - head < max && first.goesWith(list[end] as HeldTask)) end++;
      const taken = list.slice(head, end);
      this.size -= taken.length;
      if (end === list.length || end > 1024) {
        list.splice(0, end);
        this.#heads[priority] = 0;
      } else this.#heads[priority] = end;
      return taken;
    }
    return undefined;
  }

  /** For the moment until those of the paused queues have gone back. */
  #takeUnpaused(max: number, paused: ReadonlySet<string>): HeldTask[] | undefined {
    const aside = this.remove((task) => paused.has(task.spec.queue));
    const taken = this.take(max);
    for (const task of aside) this.push(task);
    return taken;
  }

  /** Everything, in the order of the priorities. */
  takeAll(): HeldTask[] {
    const all: HeldTask[] = [];
    for (let tasks = this.take(LIMITS.prefetchMax); tasks !== undefined; tasks = this.take(LIMITS.prefetchMax)) {
      all.push(...tasks);
    }
    return all;
  }

  /** Takes those out that `unwanted` says. */
  remove(unwanted: (task: HeldTask) => boolean): HeldTask[] {
    const removed: HeldTask[] = [];
    for (const task of this.takeAll()) {
      if (unwanted(task)) removed.push(task);
      else this.push(task);
    }
    return removed;
  }
}
