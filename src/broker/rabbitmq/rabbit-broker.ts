import { clientClosed, MillraceError } from '../../errors.ts';
import { type Clock, settlesWithin } from '../../io/clock.ts';
import type { Random } from '../../io/random.ts';
import { checkName, DEFAULTS, LIMITS, type QueueLimits } from '../../limits.ts';
import { parseScalingReport } from '../../protocol/scaling-report.ts';
import type {
  Broker,
  BulkReport,
  ConsumeOptions,
  Consumer,
  Consumption,
  DeadGroups,
  EventFilter,
  Outcome,
  ParentPage,
  Payload,
  RelatedTask,
  Retention,
  ScalingReport,
  Status,
  SubmittedTask,
  TaskFilter,
  TaskHeaders,
  TaskIds,
  TaskInfo,
  TaskPage,
  TaskSpec,
  Watcher,
  When,
} from '../contract.ts';
import type { Store } from '../store.ts';
import type { ChannelModel } from './amqplib.ts';
import { RabbitConsumption } from './consumption.ts';
import { type Dialing, Link } from './link.ts';
import { MessageIds } from './message-ids.ts';
import { Names } from './names.ts';
import { Outbound } from './outbound.ts';
import { Producer } from './producer.ts';
import { QueueOperations } from './queue-operations.ts';
import { Remembered } from './remembered.ts';
import { Replies } from './replies.ts';
import { ReplyQueue } from './reply-queue.ts';
import { RabbitSchedules } from './schedules.ts';
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
  /** This process, for status. */
  readonly process: { readonly host: string; readonly pid: number };
  /** What remembers tasks; closed with the broker. */
  readonly store: Store | undefined;
}

/** Tasks as messages of a RabbitMQ broker. What is published and asked shares one connection; each consumer has its own. */
export class RabbitBroker implements Broker {
  readonly url: string;
  readonly schedules: RabbitSchedules;
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
  readonly #remembered: Remembered | undefined;
  #paused: ReadonlySet<string> = new Set();
  readonly #consumptions = new Set<RabbitConsumption>();
  /** Event streams, with how to end each. */
  readonly #watches = new Map<Watcher, () => void>();
  #opened: { resolve: () => void; reject: (error: MillraceError) => void } | undefined;
  #closing: Promise<void> | undefined;
  #failure: MillraceError | undefined;

  private constructor(options: RabbitOptions) {
    const { clock, random, queueType, store } = options;
    this.url = options.address.shown;
    this.#clock = clock;
    this.#link = new Link(options, {
      ready: (model) => this.#ready(model),
      lost: () => this.#outbound.lost(),
      // The broker stops reading: what is written waits in the socket, and the publisher for its channel to drain.
      blocked: (reason) => {
        this.#outbound.publisher.blocked = reason !== undefined;
      },
      ended: (error) => this.#ended(error),
    });
    const names = new Names(options.prefix);
    this.#topology = new Topology(clock, names, queueType, () => this.#link.model);
    this.#ids = new MessageIds(clock, random);
    this.#outbound = new Outbound(clock, this.#link, this.#topology, () => this.#replyQueue?.wanted ?? []);
    this.#replies = new Replies(clock, store !== undefined);
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
      store,
    });
    this.#shared = {
      dialing: options,
      clock,
      random,
      names,
      queueType,
      outbound: this.#outbound,
      newId: () => this.#ids.next(),
      store,
      process: options.process,
    };
    this.#operations = new QueueOperations(this.#shared, this.#topology, this.#replies, options);
    this.schedules = new RabbitSchedules(() => {
      this.#check();
      if (this.#remembered === undefined) throw unsupported('a schedule');
      return this.#remembered;
    }, this.#shared.newId);
    if (store === undefined) return;
    const { outbound, ids, replies } = { outbound: this.#outbound, ids: this.#ids, replies: this.#replies };
    const { callTimeoutMs } = options;
    this.#remembered = new Remembered({ clock, random, store, ids, names, outbound, replies, callTimeoutMs });
  }

  /**
   * Resolves once connected. Rejects with DISCONNECTED: at once when the broker refuses the user or the virtual host, else
   * after `connectTimeoutMs`; with UNSUPPORTED when amqplib is not installed.
   */
  static async connect(options: RabbitOptions): Promise<RabbitBroker> {
    const broker = new RabbitBroker(options);
    try {
      await new Promise<void>((resolve, reject) => {
        broker.#opened = { resolve, reject };
        broker.#link.start();
      });
      await broker.#remembered?.start({
        cancelRequested: (ids) => broker.#cancelRequested(ids),
        paused: (queues) => broker.#pausedNow(queues),
        released: (what, cancelled) => broker.#remembered?.released(what, cancelled),
        watched: () => {
          for (const consumption of broker.#consumptions) consumption.watched();
        },
      });
    } catch (error) {
      await broker.close({ timeoutMs: 0 });
      throw error;
    }
    return broker;
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    this.#operations.saw(spec.queue);
    return this.#producer.enqueue(spec, payload, when, headers);
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds> {
    this.#operations.saw(spec.queue);
    return this.#producer.enqueueMany(spec, payloads, when, headers);
  }

  async submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    const store = this.#store('what depends on other tasks, or is unique,');
    for (const { spec } of tasks) this.#operations.saw(spec.queue);
    return this.#producer.submit(store, tasks);
  }

  async parents(id: string, from: number): Promise<ParentPage> {
    return this.#store('what depends on other tasks', id).parents(id, from);
  }

  async outcome(id: string, options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<Outcome> {
    checkName('task id', id, LIMITS.taskIdBytesMax);
    if (this.#remembered !== undefined) {
      const ended = this.#replies.outcome(id, options);
      this.#remembered.poll(id);
      return ended;
    }
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
    if (this.#paused.size > 0) consumption.paused(this.#paused);
    await consumption.start();
    return consumption;
  }

  async getTask(id: string): Promise<TaskInfo> {
    return this.#store('looking at a task', id).getTask(id);
  }

  /** The store has no cheaper way. */
  async taskState(id: string): Promise<Pick<TaskInfo, 'queue' | 'state'>> {
    const { queue, state } = await this.getTask(id);
    return { queue, state };
  }

  async listTasks(filter: TaskFilter): Promise<TaskPage> {
    return this.#store('listing tasks').listTasks(filter);
  }

  async cancelTask(id: string): Promise<'cancelled' | 'requested'> {
    const done = await this.#store('cancelling a task', id).cancelTask(id);
    if (done === 'cancelled') this.#replies.ended(id, { state: 'cancelled' });
    else this.#cancelRequested([id]);
    return done;
  }

  async retryTask(id: string): Promise<void> {
    const due = await this.#store('retrying one task (redrive its queue instead)', id).retryTask(id);
    this.#replies.reopen([id]);
    await this.#remembered?.publishInTime(due);
  }

  async retryTasks(filter: TaskFilter): Promise<BulkReport> {
    const { due, ...report } = await this.#store('retrying tasks (redrive their queue instead)').retryTasks(filter);
    this.#replies.reopen(due.tasks.map(({ id }) => id));
    if (due.entries.length > 0) await this.#remembered?.publishInTime(due);
    return report;
  }

  async cancelTasks(filter: TaskFilter): Promise<BulkReport> {
    const { cancelled, requested, ...report } = await this.#store('cancelling tasks').cancelTasks(filter);
    // Those that nobody waits for are not worth remembering.
    for (const id of cancelled) if (this.#replies.isWaiting(id)) this.#replies.ended(id, { state: 'cancelled' });
    this.#cancelRequested(requested);
    return report;
  }

  async deadGroups(filter: { queue?: string | undefined }): Promise<DeadGroups> {
    return this.#store('looking at dead tasks').deadGroups(filter);
  }

  async pauseQueue(queue: string): Promise<void> {
    await this.#store('pausing a queue').pauseQueue(queue);
    await this.#readPaused();
  }

  async resumeQueue(queue: string): Promise<void> {
    await this.#store('resuming a queue').resumeQueue(queue);
    await this.#readPaused();
  }

  async purgeQueue(queue: string): Promise<number> {
    this.#check();
    if (this.#remembered === undefined) return this.#operations.purge(queue);
    // Their messages are dropped when they arrive.
    const count = await this.#remembered.store.purgeQueue(queue);
    this.#remembered.pollAll();
    return count;
  }

  async redriveQueue(queue: string): Promise<number> {
    this.#check();
    const remembered = this.#remembered;
    if (remembered === undefined) return this.#operations.redrive(queue, (ids) => this.#replies.reopen(ids));
    let count = 0;
    for (let until: string | undefined; ; ) {
      const portion = await remembered.store.redrive(queue, until);
      until = portion.until;
      if (portion.tasks.length === 0) return count;
      count += portion.tasks.length;
      this.#replies.reopen(portion.tasks.map(({ id }) => id));
      await remembered.publish(portion).catch((error: MillraceError) => {
        throw redriveRefused(queue, count, error);
      });
    }
  }

  async setRetention(queue: string, retention: Partial<Retention>): Promise<Retention> {
    return this.#store('retention').setRetention(queue, retention);
  }

  async setLimits(): Promise<QueueLimits> {
    const message =
      'RabbitMQ hands out messages by itself and limits no queue: limit the concurrency of the workers, the length by a policy of RabbitMQ (max-length, with overflow reject-publish), or use a Millrace server';
    throw new MillraceError('UNSUPPORTED', message);
  }

  async watch(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    const { task } = filter;
    const end = await this.#store('a stream of events', task).events(filter, watcher);
    this.#watches.set(watcher, end);
    // Closed meanwhile.
    if (this.#failure !== undefined) this.#endWatches(this.#failure);
    return () => {
      this.#watches.delete(watcher);
      end();
    };
  }

  async status(): Promise<Status> {
    this.#check();
    const stopping = this.#closing !== undefined;
    if (this.#remembered === undefined) return this.#operations.status(stopping);
    for (const consumption of this.#consumptions) consumption.beat();
    return { ...this.#operations.server(stopping), ...(await this.#remembered.store.status()) };
  }

  async reportScaling(report: ScalingReport): Promise<void> {
    await this.#store('what supervisors of workers say').reportScaling(parseScalingReport(report));
  }

  close(options: { timeoutMs: number } = { timeoutMs: DEFAULTS.stopTimeoutMs }): Promise<void> {
    this.#closing ??= this.#close(options.timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    await Promise.all([...this.#consumptions].map((consumption) => consumption.close()));
    if (this.#failure === undefined) {
      await settlesWithin(this.#clock, timeoutMs, this.#producer.drained());
      // Another process would find it in the outbox, a little later.
      const releases = this.#remembered?.drained() ?? Promise.resolve();
      await settlesWithin(this.#clock, Math.min(timeoutMs, LIMITS.amqpCloseTimeoutMs), releases);
      await settlesWithin(
        this.#clock,
        Math.min(timeoutMs, LIMITS.amqpCloseTimeoutMs),
        this.#outbound.publisher.drained(),
      );
    }
    this.#remembered?.stop();
    this.#refuse(clientClosed());
    const gone = this.#replyQueue?.close() ?? Promise.resolve();
    await settlesWithin(this.#clock, LIMITS.amqpCloseTimeoutMs, gone);
    await Promise.all([this.#link.close(), this.#remembered?.store.close(Math.min(timeoutMs, DEFAULTS.stopTimeoutMs))]);
  }

  #ready(model: ChannelModel): void {
    this.#outbound.open(model).then(
      () => {
        this.#opened?.resolve();
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
    // Their further attempts and dead letters have no way any more.
    for (const consumption of [...this.#consumptions]) consumption.end(error);
  }

  #refuse(error: MillraceError): void {
    this.#failure ??= error;
    this.#producer.close(error);
    this.#outbound.close(error);
    this.#replies.close(error);
    this.#endWatches(error);
  }

  #endWatches(error: MillraceError): void {
    for (const [watcher, end] of this.#watches) {
      end();
      watcher.ended(error);
    }
    this.#watches.clear();
  }

  #cancelRequested(ids: readonly string[]): void {
    for (const consumption of this.#consumptions) consumption.cancelRequested(ids);
  }

  /** The process that pauses a queue takes nothing from it any more when the call is over. */
  async #readPaused(): Promise<void> {
    this.#pausedNow((await this.#remembered?.store.pausedQueues()) ?? []);
  }

  #pausedNow(queues: readonly string[]): void {
    this.#paused = new Set(queues);
    for (const consumption of this.#consumptions) consumption.paused(this.#paused);
  }

  /** Throws UNSUPPORTED without a store, and INVALID_ARGUMENT for what is no id. */
  #store(what: string, id?: string): Store {
    if (id !== undefined) checkName('task id', id, LIMITS.taskIdBytesMax);
    this.#check();
    if (this.#remembered === undefined) throw unsupported(what);
    return this.#remembered.store;
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw clientClosed();
  }
}

function redriveRefused(queue: string, moved: number, cause: MillraceError): MillraceError {
  const message = `not all dead tasks of ${queue} were redriven: ${cause.message}. ${moved} were made ready, and those that the broker will never take are cancelled`;
  return new MillraceError(cause.code, message, { cause, details: { ...cause.details, queue, moved } });
}

function unsupported(what: string): MillraceError {
  const message = `${what} needs more than RabbitMQ remembers: connect with the option store: 'postgres://…'`;
  return new MillraceError('UNSUPPORTED', message);
}
