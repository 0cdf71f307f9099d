import { clientClosed, errorFromJSON, MillraceError, shown } from '../../errors.ts';
import { parseTaskId } from '../../ids.ts';
import { type Clock, settlesWithin } from '../../io/clock.ts';
import { DEFAULTS, type QueueLimits, type QueueLimitsChange } from '../../limits.ts';
import { FRAME, frameName, readJson } from '../../protocol/frames.ts';
import { parseScalingReport } from '../../protocol/scaling-report.ts';
import { parseBulkFilter, parseTaskFilter } from '../../protocol/task-filter.ts';
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
import { answerOf } from './answers.ts';
import { Calls } from './calls.ts';
import { Connection, type Dialing } from './connection.ts';
import { RemoteConsumption } from './consumption.ts';
import { Producer } from './producer.ts';
import { RemoteSchedules } from './schedules.ts';
import { Waits } from './waits.ts';
import { Watches } from './watches.ts';

export interface RemoteOptions extends Dialing {
  readonly enqueueTimeoutMs: number;
  readonly callTimeoutMs: number;
  /** Called last, once nothing uses the links any more. */
  readonly closed?: () => Promise<void>;
}

/** A broker at the other end of a link: enqueues, waits and calls share one connection, each consumer has its own. */
export class RemoteBroker implements Broker {
  readonly url: string;
  readonly schedules: RemoteSchedules;
  readonly #options: RemoteOptions;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #producer: Producer;
  readonly #waits: Waits;
  readonly #calls: Calls;
  readonly #watches: Watches;
  readonly #consumptions = new Set<RemoteConsumption>();
  #opened: { resolve: (broker: RemoteBroker) => void; reject: (error: MillraceError) => void } | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: RemoteOptions) {
    this.url = options.url;
    this.#options = options;
    this.#clock = options.clock;
    this.#connection = new Connection(options, {
      ready: () => this.#ready(),
      frame: (type, requestId, buffer, start, end) => this.#frame(type, requestId, buffer, start, end),
      lost: () => {},
      ended: (error) => this.#ended(error),
    });
    this.#producer = new Producer(options.clock, this.#connection, options.enqueueTimeoutMs);
    this.#waits = new Waits(options.clock, this.#connection);
    this.#calls = new Calls(options.clock, this.#connection, options.callTimeoutMs);
    this.schedules = new RemoteSchedules(this.#calls, options.random);
    this.#watches = new Watches(options.clock, this.#connection, options.callTimeoutMs);
  }

  /** Resolves once connected. Rejects with DISCONNECTED after `connectTimeoutMs`, or at once with PROTOCOL, PROTOCOL_VERSION or UNAUTHENTICATED. */
  static connect(options: RemoteOptions): Promise<RemoteBroker> {
    return new Promise((resolve, reject) => {
      const broker = new RemoteBroker(options);
      broker.#opened = { resolve, reject };
      broker.#connection.start();
    });
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    return this.#producer.enqueue(spec, payload, when, headers);
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds> {
    return this.#producer.enqueueMany(spec, payloads, when, headers);
  }

  submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    return this.#producer.submit(tasks);
  }

  async parents(id: string, from: number): Promise<ParentPage> {
    parseTaskId(id);
    const reply = await this.#calls.call('task.parents', { id, from });
    return answerOf<ParentPage>('task.parents', reply, { parents: 'list' });
  }

  outcome(id: string, options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<Outcome> {
    return this.#waits.outcome(id, options);
  }

  async consume(options: ConsumeOptions, consumer: Consumer): Promise<Consumption> {
    if (this.#closing !== undefined) throw clientClosed();
    const consumption = new RemoteConsumption(this.#options, options, consumer, () => {
      this.#consumptions.delete(consumption);
    });
    this.#consumptions.add(consumption);
    await consumption.start();
    return consumption;
  }

  async getTask(id: string): Promise<TaskInfo> {
    parseTaskId(id);
    return (await this.#calls.call('task.get', { id })) as unknown as TaskInfo;
  }

  async taskState(id: string): Promise<Pick<TaskInfo, 'queue' | 'state'>> {
    parseTaskId(id);
    const reply = await this.#calls.call('task.state', { id });
    return answerOf<Pick<TaskInfo, 'queue' | 'state'>>('task.state', reply, { queue: 'text', state: 'text' });
  }

  async listTasks(filter: TaskFilter): Promise<TaskPage> {
    const checked = parseTaskFilter(filter);
    if (checked.after !== undefined) parseTaskId(checked.after);
    return answerOf<TaskPage>('task.list', await this.#calls.call('task.list', checked), { tasks: 'list' });
  }

  async retryTasks(filter: TaskFilter): Promise<BulkReport> {
    const reply = await this.#calls.call('task.retryMany', parseBulkFilter(filter, 'retried'));
    return answerOf<BulkReport>('task.retryMany', reply, { count: 'number' });
  }

  async cancelTasks(filter: TaskFilter): Promise<BulkReport> {
    const reply = await this.#calls.call('task.cancelMany', parseBulkFilter(filter, 'cancelled'));
    return answerOf<BulkReport>('task.cancelMany', reply, { count: 'number' });
  }

  async deadGroups(filter: { queue?: string | undefined }): Promise<DeadGroups> {
    return answerOf<DeadGroups>('task.deadGroups', await this.#calls.call('task.deadGroups', filter), {
      groups: 'list',
    });
  }

  async cancelTask(id: string): Promise<'cancelled' | 'requested'> {
    parseTaskId(id);
    const { outcome } = await this.#calls.call('task.cancel', { id });
    if (outcome === 'cancelled' || outcome === 'requested') return outcome;
    throw new MillraceError('PROTOCOL', `the server answered task.cancel with ${shown(outcome)}`);
  }

  async retryTask(id: string): Promise<void> {
    parseTaskId(id);
    await this.#calls.call('task.retry', { id });
  }

  async pauseQueue(queue: string): Promise<void> {
    await this.#calls.call('queue.pause', { queue });
  }

  async resumeQueue(queue: string): Promise<void> {
    await this.#calls.call('queue.resume', { queue });
  }

  async purgeQueue(queue: string): Promise<number> {
    const reply = await this.#calls.call('queue.purge', { queue });
    return answerOf<{ count: number }>('queue.purge', reply, { count: 'number' }).count;
  }

  async redriveQueue(queue: string): Promise<number> {
    const reply = await this.#calls.call('queue.redrive', { queue });
    return answerOf<{ count: number }>('queue.redrive', reply, { count: 'number' }).count;
  }

  async setRetention(queue: string, retention: Partial<Retention>): Promise<Retention> {
    return (await this.#calls.call('queue.retention', { ...retention, queue })) as unknown as Retention;
  }

  async setLimits(queue: string, limits: QueueLimitsChange): Promise<QueueLimits> {
    return (await this.#calls.call('queue.limit', { ...limits, queue })) as unknown as QueueLimits;
  }

  watch(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    return this.#watches.watch(filter, watcher);
  }

  async status(): Promise<Status> {
    return answerOf<Status>('status', await this.#calls.call('status', {}), { queues: 'list', workers: 'list' });
  }

  async reportScaling(report: ScalingReport): Promise<void> {
    await this.#calls.call('scaling.report', parseScalingReport(report));
  }

  close(options: { timeoutMs: number } = { timeoutMs: DEFAULTS.stopTimeoutMs }): Promise<void> {
    this.#closing ??= this.#close(options.timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    await Promise.all([...this.#consumptions].map((consumption) => consumption.close()));
    await settlesWithin(this.#clock, timeoutMs, this.#producer.drained());
    this.#refuse(clientClosed());
    this.#connection.close();
    await this.#options.closed?.();
  }

  #ready(): void {
    this.#opened?.resolve(this);
    this.#opened = undefined;
    this.#producer.ready();
    this.#waits.ready();
    this.#calls.ready();
    this.#watches.ready();
  }

  #frame(type: number, requestId: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case FRAME.CONFIRM:
        this.#producer.confirmed(requestId, buffer, start, end);
        return;
      case FRAME.RESULT:
        this.#waits.results(buffer, start, end);
        return;
      case FRAME.EVENTS:
        this.#watches.events(requestId, readJson(buffer, start, end));
        return;
      case FRAME.REPLY:
        this.#replied(requestId, readJson(buffer, start, end));
        return;
      case FRAME.ERROR: {
        const error = errorFromJSON(readJson(buffer, start, end));
        if (this.#producer.refused(requestId, error) || this.#watches.refused(requestId, error)) return;
        this.#calls.refused(requestId, error);
        return;
      }
      default:
        throw new MillraceError('PROTOCOL', `the server sent ${frameName(type)} to a client that does not consume`);
    }
  }

  #replied(requestId: number, reply: Record<string, unknown>): void {
    if (this.#producer.submitted(requestId, reply) || this.#watches.replied(requestId)) return;
    this.#calls.replied(requestId, reply);
  }

  #ended(error: MillraceError): void {
    this.#opened?.reject(error);
    this.#opened = undefined;
    this.#refuse(error);
  }

  #refuse(error: MillraceError): void {
    this.#producer.close(error);
    this.#waits.close(error);
    this.#calls.close(error);
    this.#watches.close(error);
  }
}
