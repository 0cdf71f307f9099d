import { isDeepStrictEqual } from 'node:util';
import { NO_LIMITS, type QueueLimits } from '../../src/limits.ts';

/** '' is no key. */
export interface KeyedTask {
  readonly kind: { readonly priority: number; readonly concurrencyKey: string };
}

/**
 * Which tasks a queue's limits and keys allow to go, said plainly: from what has gone, and when. It knows nothing of buckets,
 * rounds or groups, and where several keys may be next it names all of them.
 */
export class FlowModel {
  limits: QueueLimits = NO_LIMITS;
  /** Since the rate was set. */
  #goneMs: number[] = [];
  /** For each key that waits at a priority, and may go: those that have gone there meanwhile. */
  readonly #passedBy = new Map<string, Set<string>>();

  setLimits(limits: QueueLimits): void {
    if (!isDeepStrictEqual(limits.rate, this.limits.rate)) this.#goneMs = [];
    this.limits = limits;
  }

  /** After a restart: nothing is known of what has gone. */
  beginAgain(): void {
    this.#goneMs = [];
    this.#passedBy.clear();
  }

  /** In no stretch of time may more go than the burst and what comes meanwhile; so many more may go now. */
  tokens(nowMs: number): number {
    const { rate } = this.limits;
    if (rate === null) return Number.POSITIVE_INFINITY;
    const { count, periodMs, burst } = rate;
    const left = [...this.#goneMs, nowMs].map(
      (sinceMs) => Math.floor((burst * periodMs + (nowMs - sinceMs) * count) / periodMs) - this.#goneSince(sinceMs),
    );
    return Math.min(...left);
  }

  /** The first millisecond at which one more may go. */
  nextTokenMs(): number {
    const { rate } = this.limits;
    if (rate === null) return Number.NEGATIVE_INFINITY;
    const { count, periodMs, burst } = rate;
    const times = this.#goneMs.map(
      (sinceMs) => sinceMs + Math.ceil(((1 + this.#goneSince(sinceMs) - burst) * periodMs) / count),
    );
    return Math.max(...times);
  }

  #goneSince(sinceMs: number): number {
    return this.#goneMs.filter((atMs) => atMs >= sinceMs).length;
  }

  /** Whether so many new tasks are taken. */
  takes(count: number, unfinished: number): boolean {
    return this.limits.length === null || unfinished + count <= this.limits.length;
  }

  /** How many may go now, whatever their keys. */
  allowance(active: readonly KeyedTask[], nowMs: number): number {
    const free = Math.max(0, (this.limits.concurrency ?? Number.POSITIVE_INFINITY) - active.length);
    return Math.min(free, this.tokens(nowMs));
  }

  /**
   * The tasks that may go next; `ready` are in their order. Of the highest priority that may go, the first of each key, but for
   * keys that have gone there while another waited: that one comes first.
   */
  next<Task extends KeyedTask>(ready: readonly Task[], active: readonly KeyedTask[], nowMs: number): Task[] {
    const waiting = this.#waiting(ready, active);
    for (const turn of this.#passedBy.keys()) {
      if (!waiting.some((task) => turnOf(task) === turn)) this.#passedBy.delete(turn);
    }
    if (this.allowance(active, nowMs) < 1) return [];
    const priority = Math.max(...waiting.map(({ kind }) => kind.priority));
    const first = waiting.filter(({ kind }) => kind.priority === priority);
    return first.filter(
      ({ kind }) => !first.some((other) => this.#passedBy.get(turnOf(other))?.has(kind.concurrencyKey)),
    );
  }

  /** One of those that `next` named goes; `ready` and `active` are as they were then. */
  goes(task: KeyedTask, ready: readonly KeyedTask[], active: readonly KeyedTask[], nowMs: number): void {
    this.#goneMs.push(nowMs);
    this.#passedBy.delete(turnOf(task));
    for (const other of this.#waiting(ready, active)) {
      const { priority, concurrencyKey } = other.kind;
      if (priority !== task.kind.priority || concurrencyKey === task.kind.concurrencyKey) continue;
      const passedBy = this.#passedBy.get(turnOf(other)) ?? new Set();
      this.#passedBy.set(turnOf(other), passedBy.add(task.kind.concurrencyKey));
    }
  }

  /** The first of each priority and key, without the keys that run as much as they may. */
  #waiting<Task extends KeyedTask>(ready: readonly Task[], active: readonly KeyedTask[]): Task[] {
    const most = this.limits.concurrencyPerKey ?? Number.POSITIVE_INFINITY;
    const first = new Map<string, Task>();
    for (const task of ready) {
      const { concurrencyKey } = task.kind;
      const running = active.filter(({ kind }) => kind.concurrencyKey === concurrencyKey).length;
      const mayGo = concurrencyKey === '' || running < most;
      if (mayGo && !first.has(turnOf(task))) first.set(turnOf(task), task);
    }
    return [...first.values()];
  }
}

function turnOf({ kind }: KeyedTask): string {
  return `${kind.priority} ${kind.concurrencyKey}`;
}
