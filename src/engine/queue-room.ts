import type { Queue } from '../core/queue.ts';
import { MillraceError, shown } from '../errors.ts';

/** What a batch adds to the queues whose length is limited. Others cost a look for each section, and nothing for a task. */
export class QueueRoom {
  readonly #added = new Map<Queue, number>();

  /** Negative: of what was added before, so many are not new. */
  add(queue: Queue, count: number): void {
    if (queue.limits === undefined || queue.limits.length === null) return;
    this.#added.set(queue, (this.#added.get(queue) ?? 0) + count);
  }

  /** No queue of the batch is limited so. */
  get isEmpty(): boolean {
    return this.#added.size === 0;
  }

  /** Throws QUEUE_FULL for the first queue that is to take more than it has room for. */
  check(): void {
    for (const [queue, count] of this.#added) checkQueueRoom(queue, count);
  }

  clear(): void {
    this.#added.clear();
  }
}

/** Throws QUEUE_FULL. */
export function checkQueueRoom(queue: Queue, count: number): void {
  const { room, name, limits } = queue;
  if (count <= room) return;
  const length = limits?.length;
  throw new MillraceError(
    'QUEUE_FULL',
    `the queue ${shown(name)} holds ${queue.length} of at most ${length} unfinished tasks: it has room for ${room}, and ${count} came together. Wait until workers have finished some, or raise the limit (millrace queue limit)`,
    { details: { queue: name, count, length, room } },
  );
}
