import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { manyBytesBound } from '../../protocol/batch-writer.ts';
import type { Payload, RelatedTask, SubmittedTask, TaskHeaders, TaskIds, TaskSpec, When } from '../contract.ts';
import { QueuesRefused } from '../queues-refused.ts';
import type { NewTasks, Store, Submission, Unpublished } from '../store.ts';
import { DeadlineTimer } from '../tcp/deadlines.ts';
import type { Link } from './link.ts';
import { bodyOf, headOf, tailOf } from './message.ts';
import type { MessageIds } from './message-ids.ts';
import type { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import { parcel } from './parcel.ts';
import { Portion } from './portion.ts';
import type { ReplyQueue } from './reply-queue.ts';
import { routeTask } from './routes.ts';
import { checkSubmission } from './submission.ts';

/** Enqueues of one client: each is a parcel of messages that the publisher sends until they are confirmed. */
interface Waiter {
  readonly deadlineMs: number;
  readonly expire: (error: MillraceError) => void;
  done: boolean;
}

/** What one call enqueues. */
interface Entry {
  readonly spec: TaskSpec;
  readonly ids: readonly string[];
  readonly payloads: readonly Payload[];
  /** Of each of them. */
  readonly headers: TaskHeaders | undefined;
  readonly enqueuedAtMs: number;
  /** 0: at once. */
  readonly delayMs: number;
  /** The wall-clock time that was asked for; 0: none. */
  readonly atMs: number;
  readonly settled: (error: MillraceError | undefined) => void;
}

export interface ProducerOptions {
  readonly clock: Clock;
  readonly link: Link;
  readonly ids: MessageIds;
  readonly names: Names;
  readonly outbound: Outbound;
  /** Undefined: nobody waits for results. */
  readonly replyQueue: ReplyQueue | undefined;
  readonly enqueueTimeoutMs: number;
  readonly store: Store | undefined;
}

export class Producer {
  readonly #options: ProducerOptions;
  readonly #clock: Clock;
  readonly #deadlines: DeadlineTimer;
  readonly #heads = new WeakMap<TaskSpec, string>();
  /** In the order of their deadlines; settled ones leave from the front. */
  #waiters: Waiter[] = [];
  #taskCount = 0;
  #byteCount = 0;
  #idle: (() => void)[] = [];
  /** Of this turn, for the store. */
  #gathered: Entry[] = [];
  #closed: MillraceError | undefined;

  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#deadlines = new DeadlineTimer(options.clock, (nowMs) => this.#due(nowMs));
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When, headers?: TaskHeaders): Promise<string> {
    return new Promise((resolve, reject) => {
      const bytes = manyBytesBound([payload], headersBound(headers));
      const id = this.#room(1, bytes).next();
      const what = { spec, ids: [id], payloads: [payload], headers };
      this.#submit(what, when, bytes, () => resolve(id), reject);
    });
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When, headers?: TaskHeaders): Promise<TaskIds> {
    return new Promise((resolve, reject) => {
      const bytes = manyBytesBound(payloads, headersBound(headers));
      const ids = this.#room(payloads.length, bytes);
      const list: string[] = [];
      for (let index = 0; index < payloads.length; index++) list.push(ids.next());
      const taken = new IdList(list);
      if (payloads.length === 0) resolve(taken);
      else this.#submit({ spec, ids: list, payloads, headers }, when, bytes, () => resolve(taken), reject);
    });
  }

  /**
   * With a store only. What is to wait for others is in the store then; what is not is published as well, like other tasks.
   * The answer does not wait for tasks that were let go meanwhile.
   */
  submit(store: Store, tasks: readonly RelatedTask[]): Promise<readonly SubmittedTask[]> {
    return new Promise((resolve, reject) => {
      if (tasks.some(({ spec }) => spec.concurrencyKey !== undefined)) throw noKeys();
      const bytes = checkSubmission(tasks);
      const source = this.#room(tasks.length, bytes);
      const ids = tasks.map(() => source.next());
      let submission: Submission | undefined;
      const answer = (): void => resolve((submission as Submission).tasks);
      const settled = this.#await(ids.length, bytes, answer, reject);
      const nowMs = this.#clock.wallMs();
      const entries = tasks.map((task, index) => this.#entryOf(task, ids[index] as string, nowMs, () => {}));
      const rows = tasks.map(({ spec, payload, headers, dependsOn, unique }, index) => {
        const { enqueuedAtMs, runAtMs } = timesOf(entries[index] as Entry);
        return { id: ids[index] as string, spec, payload, headers, dependsOn, unique, enqueuedAtMs, runAtMs };
      });
      store.submit(rows).then(
        (done) => {
          submission = done;
          const ready = entries.filter((_, index) => done.tasks[index]?.isNew && tasks[index]?.dependsOn.length === 0);
          this.#publishAll(store, done, ready, settled);
        },
        (error: unknown) => settled(refusalOf(error)),
      );
    });
  }

  /** Resolves when nothing is unconfirmed. */
  drained(): Promise<void> {
    if (this.#taskCount === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Nothing more is taken; what is unconfirmed settles with the way out. */
  close(error: MillraceError): void {
    this.#closed ??= error;
    this.#deadlines.cancel();
  }

  #room(count: number, bytesBound: number): MessageIds {
    if (this.#closed !== undefined) throw this.#closed;
    const tasks = this.#taskCount + count;
    const bytes = this.#byteCount + bytesBound;
    if (tasks <= LIMITS.clientBufferTasksMax && bytes <= LIMITS.clientBufferBytesMax) return this.#options.ids;
    const message = `${tasks} tasks (${bytes} bytes) would wait unconfirmed and ${this.#state()}; at most ${LIMITS.clientBufferTasksMax} tasks and ${LIMITS.clientBufferBytesMax} bytes may: await earlier enqueues before adding more`;
    throw new MillraceError('BUFFER_FULL', message, { details: { tasks, bytes } });
  }

  #submit(
    what: Pick<Entry, 'spec' | 'ids' | 'payloads' | 'headers'>,
    when: When,
    bytes: number,
    resolve: () => void,
    reject: (error: MillraceError) => void,
  ): void {
    // Throws before anything is counted.
    this.#headOf(what.spec);
    const nowMs = this.#clock.wallMs();
    const settled = this.#await(what.ids.length, bytes, resolve, reject);
    const entry: Entry = { ...what, ...startOf(when, nowMs), settled };
    if (this.#options.store === undefined) this.#publish(entry, settled);
    else this.#gather(entry);
  }

  /** Counts what is enqueued until it is settled; its caller learns of that, or that its time is over. */
  #await(count: number, bytes: number, resolve: () => void, reject: (error: MillraceError) => void): Entry['settled'] {
    const deadlineMs = this.#clock.steadyMs() + this.#options.enqueueTimeoutMs;
    const waiter: Waiter = { deadlineMs, expire: reject, done: false };
    this.#waiters.push(waiter);
    this.#deadlines.need(deadlineMs);
    this.#taskCount += count;
    this.#byteCount += bytes;
    this.#options.replyQueue?.want();
    return (error: MillraceError | undefined): void => {
      waiter.done = true;
      this.#taskCount -= count;
      this.#byteCount -= bytes;
      if (error === undefined) resolve();
      else reject(error);
      if (this.#taskCount > 0) return;
      this.#waiters = [];
      for (const idle of this.#idle.splice(0)) idle();
    };
  }

  #publish(entry: Entry, settled: Entry['settled']): void {
    const { names, outbound, replyQueue } = this.#options;
    const { spec, ids, payloads, headers, enqueuedAtMs, delayMs, atMs } = entry;
    const head = this.#headOf(spec);
    const tail = tailOf(enqueuedAtMs, atMs, headers);
    const bodies: Buffer[] = [];
    for (let index = 0; index < ids.length; index++) {
      bodies.push(bodyOf(head, ids[index] as string, tail, payloads[index] as Payload));
    }
    const { exchange, routingKey, needs } = routeTask(names, spec, delayMs);
    const allNeeds = replyQueue === undefined ? needs : [...needs, replyQueue.need];
    const replyTo = replyQueue?.need;
    const dueMs = delayMs > 0 ? this.#clock.steadyMs() + delayMs : 0;
    const reroute = delayMs > 0 ? () => routeTask(names, spec, dueMs - this.#clock.steadyMs()) : undefined;
    outbound.send(parcel({ exchange, routingKey, dueMs, reroute, needs: allNeeds, replyTo }, bodies, ids, settled));
  }

  // ── With a store ──────────────────────────────────────────────────────────────────────────────────────────────────

  #gather(entry: Entry): void {
    this.#gathered.push(entry);
    if (this.#gathered.length > 1) return;
    this.#clock.defer(() => {
      const gathered = this.#gathered;
      this.#gathered = [];
      this.#remember(this.#options.store as Store, gathered);
    });
  }

  /** Remembered first, then published: what is lost in between is in the store's outbox. */
  #remember(store: Store, entries: readonly Entry[]): void {
    store.insert(together(entries)).then(
      (unpublished) => this.#publishAll(store, unpublished, entries, () => {}),
      (error: unknown) => {
        // Nothing was stored, because of queues that are too many: what goes to others is not refused with them.
        const others: Entry[] = [];
        for (const entry of entries) {
          const { queue } = entry.spec;
          if (!(error instanceof QueuesRefused)) entry.settled(refusalOf(error));
          else if (error.queues.has(queue)) entry.settled(new QueuesRefused([queue]));
          else others.push(entry);
        }
        if (others.length > 0) this.#remember(store, others);
      },
    );
  }

  /** `over` comes after each entry was told, with the first error that one was told. */
  #publishAll(
    store: Store,
    unpublished: Unpublished,
    entries: readonly Entry[],
    over: (error: MillraceError | undefined) => void,
  ): void {
    const portion = new Portion(store, unpublished, entries.length, over);
    for (const entry of entries) {
      this.#publish(entry, (error) => portion.answered(entry.ids, error, entry.settled));
    }
  }

  #entryOf({ spec, payload, headers, when }: RelatedTask, id: string, nowMs: number, settled: Entry['settled']): Entry {
    return { spec, ids: [id], payloads: [payload], headers, ...startOf(when, nowMs), settled };
  }

  #headOf(spec: TaskSpec): string {
    let head = this.#heads.get(spec);
    if (head === undefined) {
      if (spec.concurrencyKey !== undefined) throw noKeys();
      head = headOf(spec, 1);
      this.#heads.set(spec, head);
    }
    return head;
  }

  #due(nowMs: number): number {
    const waiters = this.#waiters;
    let first = 0;
    while (first < waiters.length) {
      const waiter = waiters[first] as Waiter;
      if (!waiter.done && waiter.deadlineMs > nowMs) break;
      if (!waiter.done) waiter.expire(this.#timeout(waiter.deadlineMs));
      first++;
    }
    waiters.splice(0, first);
    return waiters[0]?.deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  #timeout(deadlineMs: number): MillraceError {
    const { enqueueTimeoutMs, outbound } = this.#options;
    const fault = outbound.faultSince(deadlineMs - enqueueTimeoutMs);
    const state = fault === undefined ? this.#state() : `${this.#state()}; meanwhile the broker said: ${fault}`;
    const message = `the enqueue was not confirmed within ${enqueueTimeoutMs} ms (${state}): it may or may not have been enqueued, and this client goes on sending it until it is closed; enqueueing it again can run it twice`;
    return new MillraceError('TIMEOUT', message, { details: { timeoutMs: enqueueTimeoutMs } });
  }

  /** Why it takes so long. */
  #state(): string {
    const { link } = this.#options;
    if (!link.ready) return `there is no connection: ${link.lastReason}`;
    if (link.blockedReason !== undefined) return `the broker takes no messages now: ${link.blockedReason}`;
    return 'the broker does not confirm as fast';
  }
}

/** What they take in each message. */
function headersBound(headers: TaskHeaders | undefined): number {
  return headers === undefined ? 0 : Buffer.byteLength(JSON.stringify(headers));
}

function noKeys(): MillraceError {
  const message =
    'RabbitMQ hands out messages in their order, whatever their concurrencyKey: give each key a queue of its own, or use a Millrace server';
  return new MillraceError('UNSUPPORTED', message);
}

function startOf(when: When, nowMs: number): Pick<Entry, 'enqueuedAtMs' | 'delayMs' | 'atMs'> {
  const delayMs = when.kind === 'delay' ? when.ms : when.kind === 'at' ? when.ms - nowMs : 0;
  return { enqueuedAtMs: Math.floor(nowMs), delayMs, atMs: when.kind === 'at' ? when.ms : 0 };
}

function timesOf({ enqueuedAtMs, delayMs, atMs }: Entry): Pick<NewTasks, 'enqueuedAtMs' | 'runAtMs'> {
  if (delayMs <= 0) return { enqueuedAtMs, runAtMs: undefined };
  return { enqueuedAtMs, runAtMs: atMs > 0 ? atMs : enqueuedAtMs + delayMs };
}

function refusalOf(error: unknown): MillraceError {
  return error instanceof MillraceError ? error : new MillraceError('STORAGE_FAILED', String(error));
}

/** Calls one after the other that enqueue the same kind of task at the same time, as one. */
function together(entries: readonly Entry[]): NewTasks[] {
  const batches: (NewTasks & { ids: string[]; payloads: Payload[] })[] = [];
  for (const entry of entries) {
    const { spec, ids, payloads, headers } = entry;
    const { enqueuedAtMs, runAtMs } = timesOf(entry);
    const last = batches.at(-1);
    const isSameTime = last?.enqueuedAtMs === enqueuedAtMs && last.runAtMs === runAtMs;
    if (last !== undefined && last.spec === spec && last.headers === headers && isSameTime) {
      for (const id of ids) last.ids.push(id);
      for (const payload of payloads) last.payloads.push(payload);
    } else batches.push({ spec, ids: [...ids], payloads: [...payloads], headers, enqueuedAtMs, runAtMs });
  }
  return batches;
}

class IdList implements TaskIds {
  readonly #ids: readonly string[];

  constructor(ids: readonly string[]) {
    this.#ids = ids;
  }

  get length(): number {
    return this.#ids.length;
  }

  at(index: number): string {
    const id = Number.isInteger(index) && index >= 0 ? this.#ids[index] : undefined;
    if (id !== undefined) return id;
    const message = `there is no id ${index}: the batch has ${this.length} tasks, counted from 0`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: index, length: this.length } });
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#ids[Symbol.iterator]();
  }
}
