import type { QueueStatus } from '../broker/contract.ts';
import { LIMITS } from '../limits.ts';

export type Totals = QueueStatus['totals'];

/** The label of what has none of its own; a queue or worker of this name is counted there too. */
export const OTHERS = '(other)';

export interface LabelledQueue {
  readonly queue: QueueStatus;
  readonly totals: Readonly<Totals>;
}

export interface LabelledQueues {
  readonly labelled: readonly LabelledQueue[];
  /** Undefined: there is none without a label. */
  readonly others: { readonly queues: readonly QueueStatus[]; readonly totals: Readonly<Totals> } | undefined;
}

const NONE: Readonly<Totals> = { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 };

/**
 * Which queues have a label of their own, and counters that never fall.
 *
 * The first are those with the most tasks and traffic; who has a label keeps it as long as the queue is there. The counters
 * of the others grow by what each of them grew, from 0 at the first scrape: so a queue that gets a label takes
 * nothing away from them, and a restart, after which others may have labels, is no rise.
 */
export class QueueLabels {
  readonly #labels = new Set<string>();
  #totals = new Map<string, Readonly<Totals>>();
  #othersTotals: Totals = { ...NONE };
  #isFirst = true;

  scrape(queues: readonly QueueStatus[]): LabelledQueues {
    const totals = new Map(queues.map((queue) => [queue.name, risen(this.#totals.get(queue.name), queue.totals)]));
    const totalsOf = ({ name }: QueueStatus): Readonly<Totals> => totals.get(name) ?? NONE;
    for (const label of this.#labels) if (!totals.has(label)) this.#labels.delete(label);
    this.#label(queues, (queue) => totalsOf(queue).enqueued - (this.#totals.get(queue.name)?.enqueued ?? 0));
    const isLabelled = ({ name }: QueueStatus): boolean => this.#labels.has(name);
    const others = queues.filter((queue) => !isLabelled(queue));
    if (!this.#isFirst) for (const queue of others) this.#addToOthers(totalsOf(queue), this.#totals.get(queue.name));
    this.#isFirst = false;
    this.#totals = totals;
    return {
      labelled: queues.filter(isLabelled).map((queue) => ({ queue, totals: totalsOf(queue) })),
      others: others.length === 0 ? undefined : { queues: others, totals: { ...this.#othersTotals } },
    };
  }

  #label(queues: readonly QueueStatus[], enqueuedOf: (queue: QueueStatus) => number): void {
    const room = LIMITS.metricsQueuesMax - this.#labels.size;
    if (room === 0) return;
    const without = queues.filter(({ name }) => name !== OTHERS && !this.#labels.has(name));
    if (without.length > room) {
      const weights = new Map(without.map((queue) => [queue, depthOf(queue) + enqueuedOf(queue)]));
      without.sort((a, b) => (weights.get(b) ?? 0) - (weights.get(a) ?? 0));
    }
    for (const { name } of without.slice(0, room)) this.#labels.add(name);
  }

  #addToOthers(now: Readonly<Totals>, before: Readonly<Totals> = NONE): void {
    const sums = this.#othersTotals;
    for (const what of Object.keys(sums) as (keyof Totals)[]) sums[what] += Math.max(0, now[what] - before[what]);
  }
}

/**
 * A failure is taken back when the worker that seemed lost comes back with its task; the counter waits then. When fewer were
 * enqueued than before, it is another backend, which counts anew.
 */
function risen(before: Readonly<Totals> | undefined, now: Readonly<Totals>): Readonly<Totals> {
  if (before === undefined || now.enqueued < before.enqueued) return now;
  return {
    enqueued: now.enqueued,
    completed: Math.max(before.completed, now.completed),
    failed: Math.max(before.failed, now.failed),
    dead: Math.max(before.dead, now.dead),
    cancelled: Math.max(before.cancelled, now.cancelled),
  };
}

function depthOf({ ready, active, scheduled, blocked }: QueueStatus): number {
  return ready + active + scheduled + blocked;
}
