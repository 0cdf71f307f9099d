import type {
  Broker,
  BulkReport,
  DeadGroups,
  Payload,
  ScheduleInfo,
  Status,
  SubmittedTask,
  TaskFilter,
  TaskInfo,
  TaskPage,
  TaskSpec,
} from '../broker/contract.ts';
import { clientClosed, MillraceError, shown } from '../errors.ts';
import { type Clock, settlesWithin } from '../io/clock.ts';
import { checkName, LIMITS, parseHeaders } from '../limits.ts';
import { SealedBroker } from '../sealing/sealed-broker.ts';
import type { Sealing } from '../sealing/sealing.ts';
import { encodePayload } from '../task/codec.ts';
import type { TaskKind } from '../task/definition.ts';
import type { Handlers } from '../task/handlers.ts';
import { checkKeys, type EnqueueOptions, resolveWhen, SpecTable } from '../task/options.ts';
import { idOf, type Relations, resolveRelations } from '../task/relations.ts';
import { validate } from '../task/schema.ts';
import type { Tracing } from '../task/tracing.ts';
import type { HandlersModule } from '../worker/handlers-module.ts';
import type { WorkerHooks } from '../worker/hooks.ts';
import type { WorkerOptions } from '../worker/options.ts';
import { stopTimeoutMs, Worker } from '../worker/worker.ts';
import { type Enqueuer, TracedEnqueuer } from './enqueuer.ts';
import { type EventOptions, TaskEvents } from './events.ts';
import { allOf, type BatchCallback, type Flow, FlowBuilder, FlowTask, type Preparation, TaskGroup } from './flow.ts';
import { Queue } from './queue.ts';
import { checkSchedule, type ScheduleKind, type ScheduleName, Schedules } from './schedules.ts';
import { Task, TaskBatch } from './task.ts';

/** What a client needs of the process. */
export interface ClientWorld {
  readonly clock: Clock;
  /** For workers that were given none. */
  readonly workerName: string;
  /** Of all its workers, before their own. */
  readonly hooks?: WorkerHooks | undefined;
  readonly tracing?: Tracing | undefined;
  readonly sealing?: Sealing | undefined;
}

/** Task names whose default spec is kept. */
const NAMES_KEPT = 1000;

/** Enqueues tasks, looks after them, and runs workers. Made by `connect`; the same over every backend. */
export class Client {
  /** Tasks: one by its id, or many by what they have in common. */
  readonly tasks: Tasks;
  readonly schedules: Schedules;
  readonly #broker: Broker;
  readonly #enqueuer: Enqueuer;
  readonly #world: ClientWorld;
  readonly #specs = new Map<string, SpecTable>();
  readonly #workers = new Set<Worker>();
  /** Calls of `work` that are under way. */
  readonly #starts = new Set<Promise<Worker>>();
  /** Gives them up. */
  readonly #closes = new AbortController();
  #closing: Promise<void> | undefined;

  constructor(given: Broker, world: ClientWorld) {
    const broker = world.sealing === undefined ? given : new SealedBroker(given, world.sealing);
    this.#broker = broker;
    this.#enqueuer = world.tracing === undefined ? broker : new TracedEnqueuer(broker, world.tracing);
    this.#world = world;
    this.tasks = new Tasks(broker);
    this.schedules = new Schedules(broker);
  }

  get url(): string {
    return this.#broker.url;
  }

  /** Those that this client runs. */
  get workers(): readonly Worker[] {
    return [...this.#workers];
  }

  /**
   * Resolves once the task is durable. Enqueues of one turn travel together, so `Promise.all` over many is cheap.
   * Rejects with INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE, BUFFER_FULL, QUEUE_FULL, DISK_FULL, TIMEOUT, CLOSED.
   */
  async enqueue<Input, Result>(
    kind: TaskKind<Input, Result>,
    input: NoInfer<Input>,
    options?: EnqueueOptions,
  ): Promise<Task<Result>>;
  async enqueue<Result = unknown>(name: string, input?: unknown, options?: EnqueueOptions): Promise<Task<Result>>;
  async enqueue(target: TaskKind<unknown, unknown> | string, input: unknown, options?: EnqueueOptions): Promise<Task> {
    const relations = options === undefined ? undefined : resolveRelations(options, idOf);
    if (relations !== undefined) return this.#submitOne(target, input, options, relations);
    const when = resolveWhen(options);
    const headers = parseHeaders(options?.headers);
    const spec = this.#specOf(target, options);
    const format = typeof target === 'string' ? undefined : target;
    const encoded = encodeInput(format, input, 'input');
    const payload = encoded instanceof Promise ? await encoded : encoded;
    return new Task(this.#broker, await this.#enqueuer.enqueue(spec, payload, when, headers), format);
  }

  async #submitOne(
    target: TaskKind<unknown, unknown> | string,
    input: unknown,
    options: EnqueueOptions | undefined,
    relations: Relations,
  ): Promise<Task> {
    const { task, format } = await this.#prepare(target, input, options);
    const [submitted] = await this.#enqueuer.submit([{ ...task, ...relations }]);
    const { id, isNew } = submitted as SubmittedTask;
    return new Task(this.#broker, id, format, isNew);
  }

  /**
   * Enqueues one task for each input, all with the same options, all or none; at most 65,536 and 16 MiB in one call.
   * Resolves once they are durable, rejects like `enqueue`.
   */
  async enqueueMany<Input, Result>(
    kind: TaskKind<Input, Result>,
    inputs: readonly NoInfer<Input>[],
    options?: EnqueueOptions,
  ): Promise<TaskBatch<Result>>;
  async enqueueMany<Result = unknown>(
    name: string,
    inputs: readonly unknown[],
    options?: EnqueueOptions,
  ): Promise<TaskBatch<Result>>;
  async enqueueMany(
    target: TaskKind<unknown, unknown> | string,
    inputs: readonly unknown[],
    options?: EnqueueOptions,
  ): Promise<TaskBatch> {
    if (!Array.isArray(inputs)) {
      throw new MillraceError('INVALID_ARGUMENT', `enqueueMany takes an array of inputs, not ${shown(inputs)}`);
    }
    if (resolveRelations(options, idOf) !== undefined) {
      const message =
        'enqueueMany takes no dependsOn and no uniqueKey: use client.flow for tasks that have to do with others';
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    const when = resolveWhen(options);
    const headers = parseHeaders(options?.headers);
    const spec = this.#specOf(target, options);
    const format = typeof target === 'string' ? undefined : target;
    const schema = format?.input;
    if (schema !== undefined) {
      for (const [index, input] of inputs.entries()) await validate(schema, input, `input ${index} of ${format?.name}`);
    }
    const payloads = inputs.map((input) => encodeInput(format, input));
    return new TaskBatch(this.#broker, await this.#enqueuer.enqueueMany(spec, payloads, when, headers), format);
  }

  /**
   * Submits tasks that depend on each other, all or none: `build` adds them. Resolves once they are durable. Rejects with what
   * `build` throws, with INVALID_ARGUMENT for a circle, NOT_FOUND for a parent that does not exist or is no longer retained,
   * QUEUE_FULL, UNSUPPORTED (RabbitMQ without a store), and like `enqueue`.
   */
  async flow(build: (flow: FlowBuilder) => unknown): Promise<Flow> {
    const builder = new FlowBuilder((target, input, options) => this.#prepare(target, input, options));
    await build(builder);
    return builder.submit(this.#broker, this.#enqueuer);
  }

  /**
   * Submits a group of tasks and one that runs when all of them have ended, dead and cancelled ones included. Rejects like
   * `flow`, and with INVALID_ARGUMENT for an empty group.
   */
  async batch<Input, Result>(
    build: (flow: FlowBuilder) => unknown,
    callback: BatchCallback<TaskKind<Input, Result>, NoInfer<Input>>,
  ): Promise<TaskGroup<Result>>;
  async batch<Result = unknown>(
    build: (flow: FlowBuilder) => unknown,
    callback: BatchCallback,
  ): Promise<TaskGroup<Result>>;
  async batch(
    build: (flow: FlowBuilder) => unknown,
    callback: BatchCallback<TaskKind<unknown, unknown> | string>,
  ): Promise<TaskGroup> {
    checkKeys('batch', callback, ['task', 'input', 'options']);
    const builder = new FlowBuilder((target, input, options) => this.#prepare(target, input, options));
    await build(builder);
    if (builder.length === 0) throw new MillraceError('INVALID_ARGUMENT', 'a batch has at least one task');
    const dependsOn = Array.from({ length: builder.length }, (_, index) => new FlowTask(builder, index));
    const last = builder.add(callback.task as string, callback.input, {
      ...callback.options,
      dependsOn: allOf(dependsOn),
    });
    const flow = await builder.submit(this.#broker, this.#enqueuer);
    return new TaskGroup(flow.tasks.slice(0, -1), flow.task(last));
  }

  /**
   * Enqueues a task each time that a cron expression or an interval says, over restarts, once for each time. Replaces the
   * schedule of that name: when it is due begins anew only if that is what changes, and a pause stays. Resolves once it is
   * durable. Rejects with INVALID_ARGUMENT, INVALID_PAYLOAD, PAYLOAD_TOO_LARGE (64 KiB), QUEUE_FULL, DISK_FULL, UNSUPPORTED.
   */
  async schedule<Input>(name: string, options: ScheduleKind<Input>): Promise<ScheduleInfo>;
  async schedule(name: string, options: ScheduleName): Promise<ScheduleInfo>;
  async schedule(name: string, options: ScheduleKind<unknown> | ScheduleName): Promise<ScheduleInfo> {
    checkSchedule(name, options);
    const { task, payload, cron, timeZone, everyMs, misfire } = options;
    const headers = parseHeaders(options.headers);
    const spec = this.#specOf(task, options);
    const format = typeof task === 'string' ? undefined : task;
    const encoded = await encodeInput(format, payload, 'payload');
    return await this.#broker.schedules.set(name, {
      ...{ cron, timeZone, everyMs, misfire, spec, headers },
      payload: encoded,
    });
  }

  /** A task by its id, for its result and more. With the definition, results are read as it says. */
  task<Result = unknown>(id: string, kind?: TaskKind<unknown, Result>): Task<Result> {
    return new Task(this.#broker, id, kind);
  }

  /** Throws INVALID_ARGUMENT. */
  queue(name: string): Queue {
    checkName('queue', name, LIMITS.queueNameBytesMax);
    return new Queue(this.#broker, name);
  }

  status(): Promise<Status> {
    return this.#broker.status();
  }

  /**
   * What becomes of all tasks, of those of a queue, or of one, as it happens: resolves when nothing will be missed from
   * then on. Read it with `for await`, which ends it when it is left; it ends by itself with the client. Rejects with
   * INVALID_ARGUMENT, UNSUPPORTED (RabbitMQ without a store), BUFFER_FULL (more than LIMITS.watchesPerConnectionMax), TIMEOUT, CLOSED.
   */
  events(options: EventOptions = {}): Promise<TaskEvents> {
    return TaskEvents.open(this.#broker, options);
  }

  /**
   * Starts a worker in this process. Several may run beside each other; `close` stops them. Handlers may come from a module,
   * as they must for `threads`. Rejects with INVALID_ARGUMENT, HANDLERS (a module that cannot be loaded, or has none),
   * DISCONNECTED, STOPPING, CLOSED.
   */
  async work(handlers: Handlers | HandlersModule, options: WorkerOptions = {}): Promise<Worker> {
    const start = this.#start(handlers, options);
    this.#starts.add(start);
    try {
      return await start;
    } finally {
      this.#starts.delete(start);
    }
  }

  async #start(handlers: Handlers | HandlersModule, options: WorkerOptions): Promise<Worker> {
    if (this.#closing !== undefined) throw clientClosed();
    const worker = await Worker.start(this.#broker, handlers, options, {
      clock: this.#world.clock,
      defaultName: this.#world.workerName,
      signal: this.#closes.signal,
      hooks: this.#world.hooks,
      tracing: this.#world.tracing,
      sealing: this.#world.sealing,
      onEnded: (ended) => void this.#workers.delete(ended),
    });
    if (this.#closing === undefined) {
      this.#workers.add(worker);
      return worker;
    }
    await worker.stop({ timeoutMs: 0 });
    throw clientClosed();
  }

  /**
   * Stops the workers, then sends what waits, each for up to `timeoutMs` (default 10,000), then closes. Waits that are
   * still open, and workers that are starting, reject with CLOSED. Always resolves.
   */
  close(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    this.#closing ??= this.#close(stopTimeoutMs(options));
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#closes.abort(clientClosed());
    await Promise.all([...this.#workers].map((worker) => worker.stop({ timeoutMs })));
    await this.#broker.close({ timeoutMs });
    // A module of handlers that is loaded in this thread may load for ever.
    if (this.#starts.size > 0) await settlesWithin(this.#world.clock, timeoutMs, Promise.allSettled(this.#starts));
  }

  async #prepare(
    target: TaskKind<unknown, unknown> | string,
    input: unknown,
    options: EnqueueOptions | undefined,
  ): ReturnType<Preparation> {
    const when = resolveWhen(options);
    const headers = parseHeaders(options?.headers);
    const spec = this.#specOf(target, options);
    const format = typeof target === 'string' ? undefined : target;
    return { task: { spec, payload: await encodeInput(format, input, 'input'), when, headers }, format };
  }

  #specOf(target: TaskKind<unknown, unknown> | string, options: EnqueueOptions | undefined): TaskSpec {
    if (typeof target !== 'string') {
      if (target?.specs instanceof SpecTable) return target.specs.resolve(options);
      throw new MillraceError(
        'INVALID_ARGUMENT',
        `a task is named by a text or by what defineTask made, not by ${shown(target)}`,
      );
    }
    let specs = this.#specs.get(target);
    if (specs === undefined) {
      specs = new SpecTable(target, {});
      if (this.#specs.size >= NAMES_KEPT) this.#specs.clear();
      this.#specs.set(target, specs);
    }
    return specs.resolve(options);
  }
}

const PICK_KEYS = ['queue', 'name', 'state', 'error', 'errorGroup', 'fromMs', 'toMs', 'worker', 'order'];
const FILTER_KEYS = [...PICK_KEYS, 'after', 'limit'];

/** What is to be changed. */
export type TaskPick = Omit<TaskFilter, 'after' | 'limit'>;

/** Looking at tasks and changing what becomes of them. */
export class Tasks {
  readonly #broker: Broker;

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /**
   * A page of tasks, in the order in which they were enqueued, or the newest first; pass the page's `next` as `after` for the
   * one behind it. A page may be short, or empty, and have a `next`: so many tasks were looked at. Rejects INVALID_ARGUMENT.
   */
  async list(filter: TaskFilter = {}): Promise<TaskPage> {
    checkKeys('tasks.list', filter, FILTER_KEYS);
    return this.#broker.listTasks(filter);
  }

  /**
   * Retries what the filter names, in bounded steps of which each is done whole: dead tasks become ready again with fresh
   * attempts, scheduled ones ready now. Resolves with how many; what is enqueued meanwhile stays as it is. The filter must name
   * something beside `order` (`fromMs: 0` means all). Rejects INVALID_ARGUMENT, and like all calls: then some steps may be done.
   */
  retryMany(filter: TaskPick): Promise<number> {
    return inSteps('tasks.retryMany', filter, (step) => this.#broker.retryTasks(step));
  }

  /** As `retryMany`: cancels what waits, and asks what runs to end. */
  cancelMany(filter: TaskPick): Promise<number> {
    return inSteps('tasks.cancelMany', filter, (step) => this.#broker.cancelTasks(step));
  }

  /** What the dead tasks of a queue, or of all, have died of: groups for `errorGroup` of the other calls. */
  async deadGroups(filter: { queue?: string | undefined } = {}): Promise<DeadGroups> {
    checkKeys('tasks.deadGroups', filter, ['queue']);
    if (filter.queue !== undefined) checkName('queue', filter.queue, LIMITS.queueNameBytesMax);
    return this.#broker.deadGroups(filter);
  }

  /** Rejects with NOT_FOUND. */
  get(id: string): Promise<TaskInfo> {
    return this.#broker.getTask(id);
  }

  /** See `Task.cancel`. */
  cancel(id: string): Promise<'cancelled' | 'requested'> {
    return this.#broker.cancelTask(id);
  }

  /** See `Task.retry`. */
  retry(id: string): Promise<void> {
    return this.#broker.retryTask(id);
  }
}

async function inSteps(
  what: string,
  filter: TaskPick,
  change: (step: TaskFilter) => Promise<BulkReport>,
): Promise<number> {
  checkKeys(what, filter, PICK_KEYS);
  let count = 0;
  let after: string | undefined;
  do {
    const report = await change({ ...filter, after });
    count += report.count;
    after = report.next;
  } while (after !== undefined);
  return count;
}

/** As it is; or, given what the schema is to call it, once that has checked it: a promise if that takes time. */
function encodeInput(kind: TaskKind<unknown, unknown> | undefined, input: unknown): Payload;
function encodeInput(
  kind: TaskKind<unknown, unknown> | undefined,
  input: unknown,
  unchecked: 'input' | 'payload',
): Payload | Promise<Payload>;
function encodeInput(
  kind: TaskKind<unknown, unknown> | undefined,
  input: unknown,
  unchecked?: 'input' | 'payload',
): Payload | Promise<Payload> {
  if (unchecked !== undefined && kind?.input !== undefined) {
    const checked = validate(kind.input, input, `the ${unchecked} of ${kind.name}`);
    if (checked instanceof Promise) return checked.then(() => encodeInput(kind, input));
  }
  if (kind !== undefined && (kind.payload === 'bytes') !== input instanceof Uint8Array) {
    const message =
      kind.payload === 'bytes'
        ? `${kind.name} takes a Uint8Array (it was defined with payload: 'bytes'), not a ${typeof input}`
        : `${kind.name} was given bytes: define it with payload: 'bytes'`;
    throw new MillraceError('INVALID_PAYLOAD', message);
  }
  return encodePayload(input, 'the input');
}
