import type { DeliveryRun } from '../broker/contract.ts';
import { type Clock, setPatientTimer, type Timer } from '../io/clock.ts';
import type { RunningTasks } from './attempt.ts';

/**
 * What runs and did not finish at once. One timer serves all deadlines: it is set for the earliest, and most tasks are
 * over long before it comes.
 */
export class ActiveTasks<Task extends RunningTasks> {
  readonly #clock: Clock;
  readonly #expired: (task: Task) => void;
  readonly #tasks: Task[] = [];
  #timer: Timer | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;
  #emptied: (() => void)[] = [];

  constructor(clock: Clock, expired: (task: Task) => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** A copy: its tasks may be removed while it is walked. */
  all(): Task[] {
    return [...this.#tasks];
  }

  add(task: Task, startedMs: number): void {
    task.deadlineMs = startedMs + task.run.spec.timeoutMs;
    task.slot = this.#tasks.length;
    this.#tasks.push(task);
    if (task.deadlineMs < this.#armedForMs) this.#arm(task.deadlineMs);
  }

  remove(task: Task): void {
    const last = this.#tasks.pop() as Task;
    if (last !== task) {
      this.#tasks[task.slot] = last;
      last.slot = task.slot;
    }
    if (this.#tasks.length > 0 || this.#emptied.length === 0) return;
    for (const resolve of this.#emptied.splice(0)) resolve();
  }

  find(run: DeliveryRun, index: number): Task | undefined {
    return this.#tasks.find((task) => task.holds(run, index));
  }

  /** Resolves when nothing is active. */
  empty(): Promise<void> {
    if (this.#tasks.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }

  close(): void {
    this.#timer?.cancel();
  }

  #arm(deadlineMs: number): void {
    this.#timer?.cancel();
    this.#armedForMs = deadlineMs;
    this.#timer = setPatientTimer(this.#clock, deadlineMs - this.#clock.steadyMs(), () => this.#sweep());
    // The connection keeps the process alive for as long as there is anything to time.
    this.#timer.unref();
  }

  #sweep(): void {
    const nowMs = this.#clock.steadyMs();
    this.#armedForMs = Number.POSITIVE_INFINITY;
    for (const task of this.all()) if (task.deadlineMs <= nowMs) this.#expired(task);
    let nextMs = Number.POSITIVE_INFINITY;
    for (const task of this.#tasks) nextMs = Math.min(nextMs, task.deadlineMs);
    if (nextMs < this.#armedForMs) this.#arm(nextMs);
  }
}
