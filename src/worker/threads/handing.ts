import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import type { Clock } from '../../io/clock.ts';
import type { Backlog } from '../backlog.ts';
import type { HandlerKind } from '../options.ts';
import { ANY_NAME } from '../options.ts';
import type { BegunOrder } from './begun-order.ts';
import { GroupBuilder } from './group.ts';
import type { Pace } from './pace.ts';
import { isStuck, type WorkerThread } from './worker-thread.ts';

export interface HandingOptions {
  readonly clock: Clock;
  readonly consumption: Consumption;
  readonly backlog: Backlog;
  readonly order: BegunOrder;
  readonly pace: Pace;
  readonly handlers: readonly HandlerKind[];
  readonly threads: () => readonly WorkerThread[];
  /** Called when something was handed over, with the shortest `timeoutMs` of it. */
  readonly handed: (timeoutMs: number) => void;
}

/**
 * Hands tasks to threads, in groups: to each as many as it can run at the same time, and as many more as keep it busy while
 * it says that it has done these (see `Pace`). What takes long, or is not known, never waits behind other tasks in a thread.
 */
export class Handing {
  paused = false;
  readonly #options: HandingOptions;
  readonly #batchSizes: ReadonlyMap<string, number>;
  /** The event loop has its turn before anything else is handed over. */
  #yielding = false;
  /** The shortest of what was handed over. */
  #timeoutMs = Number.POSITIVE_INFINITY;

  constructor(options: HandingOptions) {
    this.#options = options;
    this.#batchSizes = new Map(options.handlers.map(({ name, batchSize }) => [name, batchSize]));
  }

  hand(): void {
    const { backlog, threads } = this.#options;
    if (backlog.run === undefined || this.paused || this.#yielding) return;
    const working = threads()
      .filter(({ state, recalling }) => state === 'working' && !recalling)
      .map((thread) => ({ thread, open: thread.held.open }))
      .sort((one, other) => one.open - other.open);
    // So that all have as much: what one has left counts as its share.
    const level = Math.ceil((backlog.size + working.reduce((sum, { open }) => sum + open, 0)) / working.length);
    this.#timeoutMs = Number.POSITIVE_INFINITY;
    for (const { thread, open } of working) {
      if (backlog.run === undefined || this.#yielding || open >= level) break;
      this.#fill(thread, open, level - open);
    }
    if (this.#timeoutMs < Number.POSITIVE_INFINITY) this.#options.handed(this.#timeoutMs);
  }

  /** `share`: how many of what waits are its part. */
  #fill(thread: WorkerThread, openBefore: number, share: number): void {
    const { backlog, clock, pace } = this.#options;
    const group = new GroupBuilder();
    const nowMs = clock.steadyMs();
    thread.expect(nowMs);
    let open = openBefore;
    let load = isStuck(thread, nowMs) ? Number.POSITIVE_INFINITY : 0;
    for (const { run, open: left } of thread.held.parcels) if (left > 0) load += left * pace.taskMs(run.spec.name);
    for (let { run } = backlog; run !== undefined && !group.full; { run } = backlog) {
      const { name } = run.spec;
      if (run.suspect) {
        if (group.length === 0 && open < thread.concurrency) this.#handSuspect(run, thread, group);
        break;
      }
      const ahead = pace.ahead(name, load);
      const free = thread.concurrency - open;
      // A message for each of many short tasks would cost more than they do.
      if (free <= 0 && ahead < (group.length === 0 ? Math.max(1, pace.ahead(name, 0) / 2) : 1)) break;
      const room = Math.max(free, ahead);
      const count = backlog.available(Math.min(room, Math.max(share, this.#batchSizeOf(name)) - group.length));
      if (count <= 0) break;
      const taken = this.#take(run, thread, count, group);
      open += taken;
      load += taken * pace.taskMs(name);
    }
    if (group.length === 0) return;
    const message = group.build();
    thread.tell(message, [message.block]);
  }

  #take(run: DeliveryRun, thread: WorkerThread, count: number, group: GroupBuilder): number {
    const { backlog, order } = this.#options;
    const taken = group.add(run, backlog.index, count, thread.held.next);
    order.add(thread.held.add(run, backlog.index, taken, backlog.order), thread);
    backlog.take(taken);
    this.#timeoutMs = Math.min(this.#timeoutMs, run.spec.timeoutMs);
    return taken;
  }

  /** One a turn, told before, and alone: see `DeliveryRun.suspect`. */
  #handSuspect(run: DeliveryRun, thread: WorkerThread, group: GroupBuilder): void {
    const { backlog, clock, consumption, order } = this.#options;
    if (!order.allBegun) return;
    consumption.begun(run, backlog.index, true);
    this.#take(run, thread, 1, group);
    this.#yielding = true;
    clock.deferPastInput(() => {
      this.#yielding = false;
      this.hand();
    });
  }

  #batchSizeOf(name: string): number {
    return this.#batchSizes.get(name) ?? this.#batchSizes.get(ANY_NAME) ?? 1;
  }
}
