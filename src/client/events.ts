import type { Broker, TaskEvent } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { formatTaskId, parseTaskId } from '../ids.ts';
import { checkName, LIMITS } from '../limits.ts';
import { checkKeys } from '../task/options.ts';
import { Task } from './task.ts';

/** Without either: of all tasks. Not both. */
export interface EventOptions {
  queue?: string | undefined;
  /** A task, or its id. */
  task?: Task | string | undefined;
}

interface Buffered {
  readonly event: TaskEvent;
  /** How many tasks it happened to, whose ids follow on, and of how many it was told. */
  readonly count: number;
  told: number;
}

type Result = IteratorResult<TaskEvent, undefined>;

const DONE = { done: true, value: undefined } as const;

/**
 * What becomes of tasks, from the moment `client.events` has resolved. At most LIMITS.eventsBufferedMax events (those of one
 * `enqueueMany` count as one) wait to be taken; what comes beyond that is dropped, and `{ type: 'dropped' }` stands where it
 * is missing.
 */
export class TaskEvents implements AsyncIterableIterator<TaskEvent, undefined> {
  #buffer: Buffered[] = [];
  /** Of those in the buffer. */
  #taken = 0;
  #dropped: number | null = 0;
  #waiting: { resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];
  #over: { error: MillraceError | undefined } | undefined;
  #end: () => void = () => {};

  /** Rejects with INVALID_ARGUMENT, UNSUPPORTED (RabbitMQ without a store), BUFFER_FULL (too many streams), TIMEOUT, CLOSED. */
  static async open(broker: Broker, options: EventOptions): Promise<TaskEvents> {
    checkKeys('events', options, ['queue', 'task']);
    const { queue, task } = options;
    if (queue !== undefined && task !== undefined) {
      const message = 'events are those of a queue or of a task, not both: a task is in one queue';
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    if (queue !== undefined) checkName('queue', queue, LIMITS.queueNameBytesMax);
    const id = task instanceof Task ? task.id : task;
    if (id !== undefined && typeof id !== 'string') {
      throw new MillraceError('INVALID_ARGUMENT', `task must be a task or its id, not ${shown(id)}`);
    }
    const events = new TaskEvents();
    events.#end = await broker.watch(
      { queue, task: id },
      {
        event: (event, count) => events.#add(event, count),
        ended: (error) => events.#ended(error.code === 'CLOSED' ? undefined : error),
      },
    );
    return events;
  }

  private constructor() {}

  /** Rejects, once all that came before is taken, with why no more comes: DISCONNECTED, STORAGE_FAILED, … */
  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      const event = this.#take();
      if (event !== undefined) resolve({ done: false, value: event });
      else if (this.#over === undefined) this.#waiting.push({ resolve, reject });
      else if (this.#over.error === undefined) resolve(DONE);
      else {
        reject(this.#over.error);
        this.#over = { error: undefined };
      }
    });
  }

  /** Ends it; what was not taken is forgotten. */
  async return(): Promise<Result> {
    this.#end();
    this.#buffer = [];
    this.#taken = 0;
    this.#dropped = 0;
    this.#ended(undefined);
    return DONE;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #add(event: TaskEvent, count: number): void {
    if (this.#over !== undefined) return;
    const length = this.#buffer.length - this.#taken;
    const bound = LIMITS.eventsBufferedMax / (this.#dropped === 0 ? 1 : 2);
    if (length >= bound) {
      this.#drop(event, count);
      return;
    }
    this.#tellDropped();
    this.#buffer.push({ event, count, told: 0 });
    while (this.#waiting.length > 0) {
      const taken = this.#take();
      if (taken === undefined) return;
      this.#waiting.shift()?.resolve({ done: false, value: taken });
    }
  }

  #drop(event: TaskEvent, count: number): void {
    const more = event.type === 'dropped' ? event.count : count;
    this.#dropped = this.#dropped === null || more === null ? null : this.#dropped + more;
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#buffer.push({ event: { type: 'dropped', count: this.#dropped }, count: 1, told: 0 });
    this.#dropped = 0;
  }

  #take(): TaskEvent | undefined {
    if (this.#taken === this.#buffer.length) this.#tellDropped();
    const next = this.#buffer[this.#taken];
    if (next === undefined) return undefined;
    const { event, told } = next;
    next.told++;
    if (next.told === next.count && ++this.#taken * 2 > this.#buffer.length) {
      this.#buffer = this.#buffer.slice(this.#taken);
      this.#taken = 0;
    }
    if (told === 0 || event.type === 'dropped') return event;
    return { ...event, id: formatTaskId(parseTaskId(event.id) + told) };
  }

  #ended(error: MillraceError | undefined): void {
    if (this.#over !== undefined) return;
    this.#over = { error };
    for (const [index, { resolve, reject }] of this.#waiting.splice(0).entries()) {
      if (error === undefined || index > 0) resolve(DONE);
      else {
        reject(error);
        this.#over = { error: undefined };
      }
    }
  }
}
