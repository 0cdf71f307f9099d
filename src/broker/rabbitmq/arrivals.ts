import type { ConsumeMessage } from 'amqplib';
import { MillraceError } from '../../errors.ts';
import type { TaskError } from '../contract.ts';
import { ENDS_OF_CLIENTS } from './ends.ts';
import { HeldTask } from './held-task.ts';
import { copyOf, MESSAGE_TYPE, type TaskMessage } from './message.ts';
import { parcel } from './parcel.ts';
import { deadLetterHeaders, sendTask } from './routes.ts';
import type { Shared } from './shared.ts';
import type { Source } from './subscription.ts';

/**
 * Messages of one turn on their way to a worker. What is no task goes to the dead letters; what waits for a later time goes
 * around the delay ladder again; what runs here already is not begun twice.
 *
 * A worker that is lost takes everything that it held with it, whichever of them was to blame. The broker counts: the first
 * time a message comes back it runs as usual; one that comes back again goes to the suspects, of which each worker has one
 * at a time. What the broker counts there are losses during that very task, and each is an attempt.
 */
export interface ArrivalsOwner {
  /** What this worker has of that id. */
  find(id: string): HeldTask | undefined;
  take(tasks: readonly HeldTask[]): void;
  /** The task goes on under this tag. */
  adopt(task: HeldTask, tag: number): void;
  /** Nothing is left to do with the delivery. */
  acknowledge(tag: number, generation: number): void;
  /** The broker will never take what must come before an acknowledgement. */
  refused(error: MillraceError): void;
}

interface Arrived {
  readonly message: ConsumeMessage;
  readonly source: Source;
}

/** Deliveries by a quorum queue after which a message is suspect. */
const LOSSES_MAX = 1;

export class Arrivals {
  /** Of the channel: tags of an earlier one mean nothing. */
  generation = 0;
  readonly #shared: Shared;
  readonly #owner: ArrivalsOwner;
  #gathered: Arrived[] = [];
  #scheduled = false;

  constructor(shared: Shared, owner: ArrivalsOwner) {
    this.#shared = shared;
    this.#owner = owner;
  }

  push(message: ConsumeMessage, source: Source): void {
    this.#gathered.push({ message, source });
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#shared.clock.defer(() => {
      this.#scheduled = false;
      this.#read();
    });
  }

  /** The channel is lost: what was delivered over it comes again. */
  forget(): void {
    this.generation++;
    this.#gathered = [];
  }

  #read(): void {
    const gathered = this.#gathered;
    this.#gathered = [];
    const tasks: HeldTask[] = [];
    const latest = new Map<string, HeldTask>();
    for (const { message, source } of gathered) {
      const task = this.#readOne(message, source, latest);
      if (task === undefined) continue;
      tasks.push(task);
      latest.set(task.message.id, task);
    }
    if (tasks.length > 0) this.#owner.take(tasks);
  }

  /** `latest`: by id, what came in this turn, which the owner has not yet. */
  #readOne(message: ConsumeMessage, source: Source, latest: ReadonlyMap<string, HeldTask>): HeldTask | undefined {
    const { deliveryTag: tag, redelivered } = message.fields;
    let read: TaskMessage;
    try {
      read = source.reader.read(message);
    } catch (error) {
      this.#refuse(message, source, asRefusal(error));
      return undefined;
    }
    const beside = latest.get(read.id);
    if (beside !== undefined && beside.message.attempt >= read.attempt) {
      this.#owner.acknowledge(tag, this.generation);
      return undefined;
    }
    const known = this.#owner.find(read.id);
    if (known !== undefined && this.#isHere(known, read, tag, redelivered)) return undefined;
    if (read.runAtMs > this.#shared.clock.wallMs()) {
      this.#defer(read, tag);
      return undefined;
    }
    const losses = lossesOf(message);
    if (source.suspect) return this.#suspect(read, tag, losses);
    if (losses <= LOSSES_MAX && !(redelivered && this.#shared.queueType === 'classic')) {
      if (read.hasId) return new HeldTask(read, read.attempt, tag, { redelivered });
      this.#name(read, tag);
      return undefined;
    }
    this.#setAside(message, read, source.queue);
    return undefined;
  }

  /** Whether the message is one that this worker has already. */
  #isHere(known: HeldTask, read: TaskMessage, tag: number, redelivered: boolean): boolean {
    if (known.message.attempt < read.attempt) return false;
    const isSame = known.message.attempt === read.attempt;
    if (isSame && (known.tag === 0 || redelivered)) this.#owner.adopt(known, tag);
    // A copy, from a producer that had to publish again; or left over from an earlier attempt.
    else this.#owner.acknowledge(tag, this.generation);
    return true;
  }

  #suspect(read: TaskMessage, tag: number, losses: number): HeldTask {
    const attempt = read.attempt + losses;
    const { maxAttempts } = read.spec;
    const common = { suspect: true, redelivered: true };
    if (attempt <= maxAttempts) return new HeldTask(read, attempt, tag, common);
    return new HeldTask(read, maxAttempts, tag, { ...common, fatal: lostError(losses, maxAttempts) });
  }

  /** A foreign message without an id: whoever has it must know it again when it comes back, so it gets one before it runs. */
  #name(read: TaskMessage, tag: number): void {
    const generation = this.generation;
    sendTask(this.#shared, read, copyOf(read, read.attempt), 0, (error) => this.#passedOn(tag, generation, error));
  }

  /** Another queue has the message now, or none ever will: then it stays with the broker, and this worker cannot go on. */
  #passedOn(tag: number, generation: number, error: MillraceError | undefined): void {
    if (error === undefined) this.#owner.acknowledge(tag, generation);
    else if (!ENDS_OF_CLIENTS.has(error.code)) {
      const message = `the worker ends: the broker does not take a message that is to go to another queue, and keeps it as it was: ${error.message}`;
      this.#owner.refused(new MillraceError(error.code, message, { cause: error, details: error.details }));
    }
  }

  /** To those of which each worker has one at a time. */
  #setAside(message: ConsumeMessage, read: TaskMessage, queue: string): void {
    const { outbound, names } = this.#shared;
    const { fields, properties, content } = message;
    const name = names.suspect(queue);
    // The broker gives a foreign message without an id none: it keeps the one that it has from us.
    const body = properties.type === MESSAGE_TYPE ? content : copyOf(read, read.attempt);
    const generation = this.generation;
    outbound.send(
      parcel(
        {
          routingKey: name,
          care: 'insist',
          replyTo: read.replyTo,
          correlationId: read.correlationId,
          headers: read.headers,
          needs: [{ kind: 'suspect', name }],
        },
        [body],
        [read.id],
        (error) => this.#passedOn(fields.deliveryTag, generation, error),
      ),
    );
  }

  /** Its time has not come: the ladder is shorter than the wait, or a clock was set. */
  #defer(read: TaskMessage, tag: number): void {
    const generation = this.generation;
    const delayMs = read.runAtMs - this.#shared.clock.wallMs();
    sendTask(this.#shared, read, copyOf(read, read.attempt, read.runAtMs), delayMs, (error) =>
      this.#passedOn(tag, generation, error),
    );
  }

  /** No task: whoever looks at the dead letters finds it as it came, with the reason. */
  #refuse(message: ConsumeMessage, source: Source, error: MillraceError): void {
    const { outbound, names, clock, newId } = this.#shared;
    const { fields, properties, content } = message;
    const name = names.dead(source.queue);
    const described = { name: error.name, message: error.message, code: error.code };
    const generation = this.generation;
    outbound.send(
      parcel(
        {
          routingKey: name,
          care: 'insist',
          type: typeof properties.type === 'string' ? properties.type : 'unknown',
          replyTo: properties.replyTo,
          correlationId: properties.correlationId,
          headers: deadLetterHeaders('INVALID_MESSAGE', described, clock.wallMs()),
          needs: [{ kind: 'queue', name }],
        },
        [content],
        [typeof properties.messageId === 'string' ? properties.messageId : newId()],
        (failure) => this.#passedOn(fields.deliveryTag, generation, failure),
      ),
    );
  }
}

/** Whatever a message does to its reader, the next one is read. */
function asRefusal(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  return new MillraceError('INVALID_PAYLOAD', `the message cannot be read: ${String(error)}`, { cause: error });
}

/** How often the broker gave the message to a worker that did not acknowledge it. */
function lossesOf({ fields, properties }: ConsumeMessage): number {
  const count: unknown = properties.headers?.['x-delivery-count'];
  if (typeof count === 'number') return count;
  return fields.redelivered ? 1 : 0;
}

function lostError(losses: number, maxAttempts: number): TaskError {
  const message = `its worker was lost ${losses} times while it ran, and it has ${maxAttempts} attempts: the worker ended or was cut off, or the handler ran longer than the broker's consumer_timeout (raise consumer_timeout in rabbitmq.conf above the task's timeoutMs)`;
  return { name: 'MillraceError', message, code: 'WORKER_LOST' };
}
