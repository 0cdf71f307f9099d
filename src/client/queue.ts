import type { Broker, QueueStatus, Retention } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { parseQueueLimits, parseRetention, type QueueLimits, type QueueLimitsChange } from '../limits.ts';

/** One queue, by its name; it need not exist yet. */
export class Queue {
  readonly name: string;
  readonly #broker: Broker;

  constructor(broker: Broker, name: string) {
    this.#broker = broker;
    this.name = name;
  }

  /** No more of its tasks are started, by any worker, until `resume`. What runs goes on; enqueues are still taken. */
  pause(): Promise<void> {
    return this.#broker.pauseQueue(this.name);
  }

  resume(): Promise<void> {
    return this.#broker.resumeQueue(this.name);
  }

  /**
   * Limits how many of its tasks run at the same time, or in a time, over all workers, and how many unfinished ones it holds;
   * null lifts a limit, what is not named stays. Kept over restarts. Resolves with what holds now. Rejects with
   * INVALID_ARGUMENT, UNSUPPORTED (RabbitMQ).
   */
  async limit(limits: QueueLimitsChange): Promise<QueueLimits> {
    parseQueueLimits(limits);
    return this.#broker.setLimits(this.name, limits);
  }

  /** Removes its ready and scheduled tasks, which end as cancelled; resolves with how many. */
  purge(): Promise<number> {
    return this.#broker.purgeQueue(this.name);
  }

  /** Makes all its dead tasks ready again with fresh attempts; resolves with how many. */
  redrive(): Promise<number> {
    return this.#broker.redriveQueue(this.name);
  }

  /** How long ended tasks are kept; what is not given stays as it is. Resolves with what holds now. */
  async retention(changes: Partial<Retention>): Promise<Retention> {
    return this.#broker.setRetention(this.name, parseRetention(changes));
  }

  /** Rejects with NOT_FOUND for a queue that was never used. */
  async status(): Promise<QueueStatus> {
    const { queues } = await this.#broker.status();
    const found = queues.find(({ name }) => name === this.name);
    if (found !== undefined) return found;
    const message = `there is no queue ${JSON.stringify(this.name)}: it comes with its first task, or when it is paused, limited or given a retention`;
    throw new MillraceError('NOT_FOUND', message);
  }
}
