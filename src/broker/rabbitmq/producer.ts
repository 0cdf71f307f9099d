import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { manyBytesBound } from '../../protocol/batch-writer.ts';
import type { Payload, TaskIds, TaskSpec, When } from '../contract.ts';
import { DeadlineTimer } from '../tcp/deadlines.ts';
import type { Link } from './link.ts';
import { bodyOf, headOf, tailOf } from './message.ts';
import type { MessageIds } from './message-ids.ts';
import type { Names } from './names.ts';
import type { Outbound } from './outbound.ts';
import { parcel } from './publisher.ts';
import type { ReplyQueue } from './reply-queue.ts';
import { routeTask } from './routes.ts';

/** Enqueues of one client: each is a parcel of messages that the publisher sends until they are confirmed. */
interface Waiter {
  readonly deadlineMs: number;
  readonly expire: (error: MillraceError) => void;
  done: boolean;
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
  #closed: MillraceError | undefined;

  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#deadlines = new DeadlineTimer(options.clock, (nowMs) => this.#due(nowMs));
  }

  enqueue(spec: TaskSpec, payload: Payload, when: When): Promise<string> {
    return new Promise((resolve, reject) => {
      const bytes = manyBytesBound([payload]);
      const id = this.#room(1, bytes).next();
      this.#submit(spec, [id], [payload], when, bytes, () => resolve(id), reject);
    });
  }

  enqueueMany(spec: TaskSpec, payloads: readonly Payload[], when: When): Promise<TaskIds> {
    return new Promise((resolve, reject) => {
      const bytes = manyBytesBound(payloads);
      const ids = this.#room(payloads.length, bytes);
      const list: string[] = [];
      for (let index = 0; index < payloads.length; index++) list.push(ids.next());
      const taken = new IdList(list);
      if (payloads.length === 0) resolve(taken);
      else this.#submit(spec, list, payloads, when, bytes, () => resolve(taken), reject);
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
    spec: TaskSpec,
    ids: readonly string[],
    payloads: readonly Payload[],
    when: When,
    bytes: number,
    resolve: () => void,
    reject: (error: MillraceError) => void,
  ): void {
    const { names, outbound, replyQueue } = this.#options;
    const nowMs = this.#clock.wallMs();
    const head = this.#headOf(spec);
    const tail = tailOf(Math.floor(nowMs), when.kind === 'at' ? when.ms : 0);
    const bodies: Buffer[] = [];
    for (let index = 0; index < ids.length; index++) {
      bodies.push(bodyOf(head, ids[index] as string, tail, payloads[index] as Payload));
    }
    replyQueue?.want();
    const delayMs = when.kind === 'delay' ? when.ms : when.kind === 'at' ? when.ms - nowMs : 0;
    const { exchange, routingKey, needs } = routeTask(names, spec, delayMs);
    const waiter: Waiter = {
      deadlineMs: this.#clock.steadyMs() + this.#options.enqueueTimeoutMs,
      expire: reject,
      done: false,
    };
    this.#waiters.push(waiter);
    this.#deadlines.need(waiter.deadlineMs);
    this.#taskCount += ids.length;
    this.#byteCount += bytes;
    const allNeeds = replyQueue === undefined ? needs : [...needs, replyQueue.need];
    outbound.send(
      parcel({ exchange, routingKey, needs: allNeeds, replyTo: replyQueue?.name }, bodies, ids, (error) => {
        waiter.done = true;
        this.#taskCount -= ids.length;
        this.#byteCount -= bytes;
        if (error === undefined) resolve();
        else reject(error);
        if (this.#taskCount > 0) return;
        this.#waiters = [];
        for (const idle of this.#idle.splice(0)) idle();
      }),
    );
  }

  #headOf(spec: TaskSpec): string {
    let head = this.#heads.get(spec);
    if (head === undefined) {
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
      if (!waiter.done) waiter.expire(this.#timeout());
      first++;
    }
    waiters.splice(0, first);
    return waiters[0]?.deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  #timeout(): MillraceError {
    const { enqueueTimeoutMs } = this.#options;
    const message = `the enqueue was not confirmed within ${enqueueTimeoutMs} ms (${this.#state()}): it may or may not have been enqueued, and this client goes on sending it until it is closed; enqueueing it again can run it twice`;
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
