import type { Status, WorkerStatus } from '../broker/contract.ts';
import type { Observation, ObservedQueue } from './decision.ts';

/** Rates are those of the last seconds, as the server's utilisation is. */
const RATE_WINDOW_MS = 5000;

/** The processes of this supervisor. */
export interface Own {
  /** Those that are to be at work, by name and process id as the server shows them. */
  readonly working: readonly { readonly name: string; readonly pid: number }[];
  readonly current: number;
  readonly retiring: number;
  /** What they take from. */
  readonly queues: readonly string[];
}

interface Interval {
  readonly ms: number;
  readonly arrivals: number;
  readonly ends: number;
}

/** Makes of each status what is to be decided on. What there was before the first one counts as nothing. */
export class Observer {
  #intervals: Interval[] = [];
  #lastAtMs: number | undefined;
  #enqueued = new Map<string, number>();
  #ended = new Map<string, number>();

  observe(status: Status, own: Own, nowMs: number): Observation {
    const taken = new Set(own.queues);
    const queues = status.queues.filter(({ name }) => taken.has(name));
    const workers = status.workers.filter((worker) => worker.queues.some((queue) => taken.has(queue)));
    const ours = workers.filter((worker) => isOwn(worker, own));
    this.#count(queues, ours, nowMs);
    const handlers = total(ours, ({ concurrency }) => concurrency);
    const running = total(ours, (worker) => worker.running);
    const windowMs = total(this.#intervals, ({ ms }) => ms);
    const rate = (count: number): number => (windowMs === 0 ? 0 : (count * 1000) / windowMs);
    return {
      current: own.current,
      atWork: ours.length,
      retiring: own.retiring,
      queues: queues.map(observed),
      utilisation: handlers === 0 ? 0 : total(ours, (worker) => worker.utilisation * worker.concurrency) / handlers,
      runningShare: handlers === 0 ? 0 : running / handlers,
      heldAhead: total(ours, ({ held, running: begun }) => Math.max(0, held - begun)),
      arrivalRate: rate(total(this.#intervals, ({ arrivals }) => arrivals)),
      endRate: rate(total(this.#intervals, ({ ends }) => ends)),
      share: handlers === 0 ? 0 : handlers / total(workers, ({ concurrency }) => concurrency),
    };
  }

  /** The server was away: what happened meanwhile is of no rate. */
  forget(): void {
    this.#intervals = [];
    this.#lastAtMs = undefined;
  }

  #count(queues: Status['queues'], ours: readonly WorkerStatus[], nowMs: number): void {
    const enqueued = new Map(queues.map(({ name, totals }) => [name, totals.enqueued]));
    const ended = new Map(ours.map(({ id, completed, failed }) => [id, completed + failed]));
    if (this.#lastAtMs !== undefined) {
      const open = queues.filter(({ paused, heldUpBy }) => !paused && heldUpBy === undefined);
      this.#intervals.push({
        ms: nowMs - this.#lastAtMs,
        arrivals: total(open, ({ name, totals }) => grown(this.#enqueued.get(name) ?? 0, totals.enqueued)),
        // A worker that is new to us has ended all that it ever did since the last time.
        ends: total([...ended], ([id, count]) => grown(this.#ended.get(id) ?? 0, count)),
      });
    }
    while (total(this.#intervals, ({ ms }) => ms) - (this.#intervals[0]?.ms ?? 0) >= RATE_WINDOW_MS)
      this.#intervals.shift();
    this.#lastAtMs = nowMs;
    this.#enqueued = enqueued;
    this.#ended = ended;
  }
}

function isOwn({ name, pid }: WorkerStatus, { working }: Own): boolean {
  return working.some((each) => each.pid === pid && each.name === name);
}

function observed({ name, ready, oldestReadyMs, paused, heldUpBy }: Status['queues'][number]): ObservedQueue {
  return { name, ready, oldestReadyMs, heldUpBy: paused ? 'paused' : heldUpBy };
}

/** A server that was replaced begins to count anew. */
function grown(before: number, now: number): number {
  return now >= before ? now - before : now;
}

function total<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((sum, value) => sum + of(value), 0);
}
