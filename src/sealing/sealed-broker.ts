import type {
  Broker,
  BulkReport,
  ConsumeOptions,
  Consumer,
  Consumption,
  DeadGroups,
  EventFilter,
  Outcome,
  ParentOutcome,
  ParentPage,
  Payload,
  RelatedTask,
  Retention,
  ScalingReport,
  ScheduleOperations,
  Status,
  SubmittedTask,
  TaskEvent,
  TaskFilter,
  TaskHeaders,
  TaskIds,
  TaskInfo,
  TaskPage,
  TaskSpec,
  Watcher,
  When,
} from '../broker/contract.ts';
import type { QueueLimits, QueueLimitsChange } from '../limits.ts';
import { SealedConsumption } from './sealed-consumption.ts';
import { SealedSchedules } from './sealed-schedules.ts';
import type { Origin, Sealing } from './sealing.ts';
import { opened, shownOpened } from './shown-bytes.ts';

/**
 * Any backend, seen by who has a key ring: what goes through it is encrypted on its way there and decrypted on its way back. Only
 * the payloads of deliveries come as they are: whoever runs their handlers, perhaps in another thread, decrypts them.
 */
export class SealedBroker implements Broker {
  readonly schedules: ScheduleOperations;
  readonly #broker: Broker;
  readonly #sealing: Sealing;

  constructor(broker: Broker, sealing: Sealing) {
    this.#broker = broker;
    this.#sealing = sealing;
    this.schedules = new SealedSchedules(broker.schedules, sealing);
  }

  get url(): string {
    return this.#broker.url;
  }

  async enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    return await this.#broker.enqueue(spec, this.#sealing.sealPayload(payload, spec), when, headers);
  }

  async enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds> {
    const sealed = payloads.map((payload, index) => this.#sealing.sealPayload(payload, spec, index));
    return await this.#broker.enqueueMany(spec, sealed, when, headers);
  }

  async submit(tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    const sealed = tasks.map((task, index) => {
      const which = tasks.length === 1 ? undefined : index;
      return { ...task, payload: this.#sealing.sealPayload(task.payload, task.spec, which) };
    });
    return await this.#broker.submit(sealed);
  }

  /** Rejects as the contract says, and with KEY_MISSING, DECRYPTION_FAILED, NOT_ENCRYPTED. */
  async parents(id: string, from: number): Promise<ParentPage> {
    const { parents, ...rest } = await this.#broker.parents(id, from);
    return { parents: parents.map((parent) => this.#parent(parent)), ...rest };
  }

  /** Rejects as the contract says, and with KEY_MISSING, DECRYPTION_FAILED, NOT_ENCRYPTED. */
  async outcome(id: string, options: Parameters<Broker['outcome']>[1]): Promise<Outcome> {
    const outcome = await this.#broker.outcome(id, options);
    const origin = { id, name: options.name };
    if (outcome.state === 'dead') return { state: 'dead', error: this.#sealing.openError(outcome.error, origin) };
    if (outcome.state === 'cancelled' || outcome.result === undefined) return outcome;
    return { state: 'completed', result: this.#sealing.openResult(outcome.result, origin) };
  }

  async consume(options: ConsumeOptions, consumer: Consumer): Promise<Consumption> {
    return new SealedConsumption(await this.#broker.consume(options, consumer), this.#sealing);
  }

  async getTask(id: string): Promise<TaskInfo> {
    return this.#task(await this.#broker.getTask(id));
  }

  taskState(id: string): ReturnType<Broker['taskState']> {
    return this.#broker.taskState(id);
  }

  async listTasks(filter: TaskFilter): Promise<TaskPage> {
    const { tasks, ...rest } = await this.#broker.listTasks(filter);
    return { tasks: tasks.map((task) => this.#task(task)), ...rest };
  }

  watch(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    return this.#broker.watch(filter, {
      event: (event, count) => watcher.event(this.#event(event), count),
      ended: (error) => watcher.ended(error),
    });
  }

  #task(task: TaskInfo): TaskInfo {
    const sealing = this.#sealing;
    const { payload, result, failures } = task;
    const read: TaskInfo = {
      ...task,
      failures: failures.map((failure) => ({ ...failure, error: sealing.openError(failure.error, task) })),
    };
    if (payload !== undefined) read.payload = shownOpened(payload, (bytes) => sealing.openPayload(bytes, task));
    if (result !== undefined) read.result = shownOpened(result, (bytes) => sealing.openResult(bytes, task));
    return read;
  }

  #parent(parent: ParentOutcome): ParentOutcome {
    const { id, name, result, error } = parent;
    // The name of one that is no longer retained is not known.
    const origin: Origin = { id, name: parent.state === 'unknown' ? undefined : name };
    if (error !== undefined) return { ...parent, error: this.#sealing.openError(error, origin) };
    if (result === undefined) return parent;
    return { ...parent, result: opened(result, (bytes) => this.#sealing.openResult(bytes, origin)) };
  }

  #event(event: TaskEvent): TaskEvent {
    if (event.type !== 'failed' && event.type !== 'dead') return event;
    return { ...event, error: this.#sealing.openError(event.error, event) };
  }

  // ── As it is ──────────────────────────────────────────────────────────────────────────────────────────────────────

  cancelTask(id: string): Promise<'cancelled' | 'requested'> {
    return this.#broker.cancelTask(id);
  }

  retryTask(id: string): Promise<void> {
    return this.#broker.retryTask(id);
  }

  retryTasks(filter: TaskFilter): Promise<BulkReport> {
    return this.#broker.retryTasks(filter);
  }

  cancelTasks(filter: TaskFilter): Promise<BulkReport> {
    return this.#broker.cancelTasks(filter);
  }

  deadGroups(filter: { queue?: string | undefined }): Promise<DeadGroups> {
    return this.#broker.deadGroups(filter);
  }

  pauseQueue(queue: string): Promise<void> {
    return this.#broker.pauseQueue(queue);
  }

  resumeQueue(queue: string): Promise<void> {
    return this.#broker.resumeQueue(queue);
  }

  purgeQueue(queue: string): Promise<number> {
    return this.#broker.purgeQueue(queue);
  }

  redriveQueue(queue: string): Promise<number> {
    return this.#broker.redriveQueue(queue);
  }

  setRetention(queue: string, retention: Partial<Retention>): Promise<Retention> {
    return this.#broker.setRetention(queue, retention);
  }

  setLimits(queue: string, limits: QueueLimitsChange): Promise<QueueLimits> {
    return this.#broker.setLimits(queue, limits);
  }

  status(): Promise<Status> {
    return this.#broker.status();
  }

  reportScaling(report: ScalingReport): Promise<void> {
    return this.#broker.reportScaling(report);
  }

  close(options: { timeoutMs: number }): Promise<void> {
    return this.#broker.close(options);
  }
}
