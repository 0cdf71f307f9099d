import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/** QUEUE_FULL of a store, of which nothing was made because some queues would be too many. */
export class QueuesRefused extends MillraceError {
  /** These; the others of the same call have room. */
  readonly queues: ReadonlySet<string>;

  /** One at least. */
  constructor(queues: readonly string[]) {
    const [queue] = queues;
    const bound = LIMITS.queuesMax;
    const message = `queue ${JSON.stringify(queue)} would be one more than the ${bound} that the store may have, where none is forgotten; use fewer queues`;
    super('QUEUE_FULL', message, { details: { queue, bound } });
    this.queues = new Set(queues);
  }
}
