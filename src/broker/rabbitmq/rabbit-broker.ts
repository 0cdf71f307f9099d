import { MillraceError } from '../../errors.ts';
import { type Clock, settlesWithin } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { checkName, DEFAULTS, LIMITS } from '../../limits.ts';
import type {
  Broker,
  ConsumeOptions,
  Consumer,
  Consumption,
  Outcome,
  Payload,
  Retention,
  Status,
  TaskFilter,
  TaskIds,
  TaskInfo,
  TaskPage,
  TaskSpec,
  When,
} from '../contract.ts';
import type { ChannelModel } from './amqplib.ts';
import { RabbitConsumption } from './consumption.ts';
import { type Dialing, Link } from './link.ts';
import { MessageIds } from './message-ids.ts';
import { Names } from './names.ts';
import { Outbound } from './outbound.ts';
import { Producer } from './producer.ts';
import { QueueOperations } from './queue-operations.ts';
import { Replies } from './replies.ts';
import { ReplyQueue } from './reply-queue.ts';
import type { Shared } from './shared.ts';
import { type QueueType, Topology } from './topology.ts';

export interface RabbitOptions extends Dialing {
  readonly clock: Clock;
  readonly random: Random;
  readonly queueType: QueueType;
  readonly replies: 'all' | 'none';
  readonly prefix: string;
  readonly enqueueTimeoutMs: number;
  readonly callTimeoutMs: number;
  /** Of this process, for status. */
  readonly pid: number;
}

/** Tasks as messages of a RabbitMQ broker. What is published and asked shares one connection; each consumer has its own. */
export class RabbitBroker implements Broker {
  readonly url: string;
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #topology: Topology;
  readonly #ids: MessageIds;
  readonly #outbound: Outbound;
  readonly #replies: Replies;
  readonly #replyQueue: ReplyQueue | undefined;
  readonly #producer: Producer;
  readonly #operations: QueueOperations;
  readonly #shared: Shared;
  readonly #consumptions = new Set<RabbitConsumption>();
  #opened: { resolve: (broker: RabbitBroker) => void; reject: (error: MillraceError) => void } | undefined;
  #closing: Promise<void> | undefined;
  #failure: MillraceError | undefined;

  private constructor(options: RabbitOptions) {
    const { clock, random, queueType } = options;
    this.url = options.address.shown;
    this.#clock = clock;
    this.#link = new Link(options, {
      ready: (model) => this.#ready(model),
      lost: () => this.#outbound.lost(),
      blocked: () => {
        // The broker stops reading: what is written waits in the socket, and the publisher for its channel to drain.
      },
      ended: (error) => this.#ended(error),
    });
    const names = new Names(options.prefix);
    this.#topology = new Topology(clock, names, queueType, () => this.#link.model);
    this.#ids = new MessageIds(clock, random);
    this.#outbound = new Outbound(clock, this.#link, this.#topology);
    this.#replies = new Replies(clock);
    this.#replyQueue =
      options.replies === 'none'
        ? undefined
        : new ReplyQueue(
            clock,
            this.#link,
            this.#topology,
            names.reply(this.#ids.client),
            DEFAULTS.amqp.replyExpiresMs,
            (message) => this.#replies.arrived(message),
          );
    this.#producer = new Producer({
      clock,
      link: this.#link,
      ids: this.#ids,
      names,
      outbound: this.#outbound,
      replyQueue: this.#replyQueue,
      enqueueTimeoutMs: options.enqueueTimeoutMs,
    });
    this.#shared = {
      dialing: options,
      clock,
      random,
      names,
      queueType,
      outbound: this.#outbound,
      newId: () => this.#ids.next(),
    };
    this.#operations = new QueueOperations(this.#shared, this.#topology, options);
  }

  /**
   * Resolves once connected. Rejects with DISCONNECTED: at once when the broker refuses the user or the virtual host, else
   * after `connectTimeoutMs`; with UNSUPPORTED when amqplib is not installed.
   */
  static connect(options: RabbitOptions): Promise<RabbitBroker> {
    return new Promise((resolve, reject) => {
      const broker = new RabbitBroker(options);
      broker.#opened = { resolve, reject };
      broker.#link.start();
    });
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When): Promise<string> {
    this.#operations.saw(spec.queue);
    return this.#producer.enqueue(spec, payload, when);
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When): Promise<TaskIds> {
    this.#operations.saw(spec.queue);
    return this.#producer.enqueueMany(spec, payloads, when);
  }

  async outcome(id: string, options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<Outcome> {
    checkName('task id', id, LIMITS.taskIdBytesMax);
    if (!this.#ids.isOwn(id)) {
      throw unsupported(`the result of task ${id}, which this client did not enqueue,`);
    }
    if (this.#replyQueue === undefined) {
      const message = `results are not sent to this client: connect with amqp: { replies: 'all' }, or set the option store`;
      throw new MillraceError('UNSUPPORTED', message);
    }
    return this.#replies.outcome(id, options);
  }

  async consume(options: ConsumeOptions, consumer: Consumer): Promise<Consumption> {
    this.#check();
    const consumption = new RabbitConsumption(this.#shared, options, consumer, () => {
      this.#consumptions.delete(consumption);
    });
    this.#consumptions.add(consumption);
    for (const queue of options.queues) this.#operations.saw(queue);
    await consumption.start();
    return consumption;
  }

  async getTask(id: string): Promise<TaskInfo> {
    checkName('task id', id, LIMITS.taskIdBytesMax);
    throw unsupported('looking at a task');
  }

  async listTasks(_filter: TaskFilter): Promise<TaskPage> {
    throw unsupported('listing tasks');
  }

  async cancelTask(id: string): Promise<'cancelled' | 'requested'> {
    checkName('task id', id, LIMITS.taskIdBytesMax);
    throw unsupported('cancelling a task');
  }

  async retryTask(id: string): Promise<void> {
    checkName('task id', id, LIMITS.taskIdBytesMax);
    throw unsupported('retrying one task (redrive its queue instead)');
  }

  async pauseQueue(_queue: string): Promise<void> {
    throw unsupported('pausing a queue');
  }

  async resumeQueue(_queue: string): Promise<void> {
    throw unsupported('resuming a queue');
  }

  async purgeQueue(queue: string): Promise<number> {
    this.#check();
    return this.#operations.purge(queue);
  }

  async redriveQueue(queue: string): Promise<number> {
    this.#check();
    return this.#operations.redrive(queue, (ids) => this.#replies.reopen(ids));
  }

  async setRetention(_queue: string, _retention: Partial<Retention>): Promise<Retention> {
    throw unsupported('retention');
  }

  async status(): Promise<Status> {
    this.#check();
    return this.#operations.status(this.#closing !== undefined, this.#consumptions.size);
  }

  close(options: { timeoutMs: number } = { timeoutMs: DEFAULTS.stopTimeoutMs }): Promise<void> {
    this.#closing ??= this.#close(options.timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    await Promise.all([...this.#consumptions].map((consumption) => consumption.close()));
    if (this.#failure === undefined) {
      await settlesWithin(this.#clock, timeoutMs, this.#producer.drained());
      await settlesWithin(
        this.#clock,
        Math.min(timeoutMs, LIMITS.amqpCloseTimeoutMs),
        this.#outbound.publisher.drained(),
      );
    }
    this.#refuse(closedError());
    const gone = this.#replyQueue?.close() ?? Promise.resolve();
    await settlesWithin(this.#clock, LIMITS.amqpCloseTimeoutMs, gone);
    await this.#link.close();
  }

  #ready(model: ChannelModel): void {
    this.#outbound.open(model).then(
      () => {
        this.#opened?.resolve(this);
        this.#opened = undefined;
        this.#replyQueue?.ready();
      },
      (error: unknown) => {
        if (this.#link.model === model) this.#link.reconnect(String((error as Error).message));
      },
    );
  }

  #ended(error: MillraceError): void {
    this.#opened?.reject(error);
    this.#opened = undefined;
    this.#refuse(error);
  }

  #refuse(error: MillraceError): void {
    this.#failure ??= error;
    this.#producer.close(error);
    this.#outbound.close(error);
    this.#replies.close(error);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw closedError();
  }
}

function closedError(): MillraceError {
  return new MillraceError('CLOSED', 'the client was closed: connect again for a new one');
}

function unsupported(what: string): MillraceError {
  const message = `${what} needs more than RabbitMQ remembers: connect with the option store: 'postgres://…'`;
  return new MillraceError('UNSUPPORTED', message);
}
