import { MillraceError } from '../../errors.ts';
import { settlesWithin } from '../../io/clock.ts';
import { DEFAULTS, LIMITS, NO_LIMITS } from '../../limits.ts';
import { VERSION } from '../../version.ts';
import type { QueueStatus, Status } from '../contract.ts';
import type { Channel, ConsumeMessage } from './amqplib.ts';
import { copyOf, MessageReader } from './message.ts';
import { BANDS } from './names.ts';
import type { Replies } from './replies.ts';
import { sendTask } from './routes.ts';
import type { Shared } from './shared.ts';
import type { QueueType, Topology } from './topology.ts';

/**
 * What can be asked of the broker's queues without a store. A broker tells a client how many messages are ready in a queue,
 * and nothing of those that workers hold, that wait in the ladder, or that have ended.
 */
export class QueueOperations {
  readonly #shared: Shared;
  readonly #topology: Topology;
  readonly #replies: Replies;
  readonly #options: { readonly queueType: QueueType; readonly callTimeoutMs: number };
  /** Queues that this client has used: a broker does not list its queues over AMQP. */
  readonly #seen = new Set<string>();
  readonly #startedAtMs: number;

  constructor(
    shared: Shared,
    topology: Topology,
    replies: Replies,
    options: { readonly queueType: QueueType; readonly callTimeoutMs: number },
  ) {
    this.#shared = shared;
    this.#topology = topology;
    this.#replies = replies;
    this.#options = options;
    this.#startedAtMs = shared.clock.wallMs();
  }

  saw(queue: string): void {
    if (this.#seen.size < LIMITS.queuesMax) this.#seen.add(queue);
  }

  /** Removes what is ready; what waits in the ladder comes later. Rejects with NOT_FOUND. */
  async purge(queue: string): Promise<number> {
    const { names } = this.#shared;
    let count = 0;
    let found = false;
    for (const name of [...BANDS.map((band) => names.band(queue, band)), names.suspect(queue)]) {
      const purged = await this.#ifThere((channel) => channel.purgeQueue(name));
      if (purged === undefined) continue;
      found = true;
      count += purged.messageCount;
    }
    if (!found) throw noQueue(queue);
    return count;
  }

  /** Makes dead tasks ready again, with fresh attempts. Messages that are no tasks stay. Rejects with NOT_FOUND. */
  async redrive(queue: string, reopen: (ids: readonly string[]) => void): Promise<number> {
    const { names } = this.#shared;
    const name = names.dead(queue);
    const there = await this.#ifThere((channel) => channel.checkQueue(name));
    if (there === undefined) {
      if ((await this.#ready(queue)) === undefined) throw noQueue(queue);
      return 0;
    }
    // What is no task is held until the end, and goes back when the channel is closed.
    return this.#topology.use(
      (channel) => this.#moveAll(channel, name, queue, there.messageCount, reopen),
      LIMITS.timeoutMsMax,
    );
  }

  async status(stopping: boolean): Promise<Status> {
    const queues: QueueStatus[] = [];
    for (const name of this.#seen) {
      const status = await this.#queueStatus(name);
      if (status !== undefined) queues.push(status);
    }
    const none = { p50: 0, p95: 0, p99: 0, count: 0 };
    return {
      ...this.server(stopping),
      queues,
      workers: [],
      throughput: { enqueued: 0, completed: 0, failed: 0 },
      latencyMs: { start: none, total: none },
    };
  }

  /** The part of a status that is about this process. */
  server(stopping: boolean): Pick<Status, 'server' | 'journal' | 'memory' | 'replies'> {
    const nowMs = this.#shared.clock.wallMs();
    const { queueType } = this.#options;
    const known =
      this.#shared.store === undefined ? 'without a store: only ready and dead tasks are counted' : 'PostgreSQL';
    const { rss, heapUsed } = process.memoryUsage();
    return {
      server: {
        version: VERSION,
        pid: this.#shared.process.pid,
        startedAtMs: this.#startedAtMs,
        uptimeMs: nowMs - this.#startedAtMs,
        durability: `RabbitMQ (${queueType} queues), ${known}`,
        connections: 1,
        stopping,
      },
      journal: null,
      memory: { rssBytes: rss, heapBytes: heapUsed },
      replies: {
        undelivered: this.#shared.outbound.publisher.dropped,
        unreadable: this.#replies.unreadable,
        forgotten: this.#replies.forgotten,
      },
    };
  }

  async #queueStatus(name: string): Promise<QueueStatus | undefined> {
    const ready = await this.#ready(name);
    if (ready === undefined) return undefined;
    const { names } = this.#shared;
    const dead = await this.#ifThere((channel) => channel.checkQueue(names.dead(name)));
    return {
      name,
      paused: false,
      ready,
      active: 0,
      scheduled: 0,
      blocked: 0,
      completed: 0,
      dead: dead?.messageCount ?? 0,
      cancelled: 0,
      oldestReadyMs: 0,
      limits: NO_LIMITS,
      totals: { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 },
      retention: DEFAULTS.retention,
    };
  }

  /** Undefined when the broker has no queue for it. */
  async #ready(queue: string): Promise<number | undefined> {
    const { names } = this.#shared;
    let count: number | undefined;
    for (const name of [...BANDS.map((band) => names.band(queue, band)), names.suspect(queue)]) {
      const there = await this.#ifThere((channel) => channel.checkQueue(name));
      if (there !== undefined) count = (count ?? 0) + there.messageCount;
    }
    return count;
  }

  async #ifThere<T>(call: (channel: Channel) => Promise<T>): Promise<T | undefined> {
    try {
      return await this.#topology.use(call);
    } catch (error) {
      if (error instanceof MillraceError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  /** At most `count`, not for ever: tasks may die as fast as they are made ready. */
  async #moveAll(
    channel: Channel,
    name: string,
    queue: string,
    count: number,
    reopen: (ids: readonly string[]) => void,
  ): Promise<number> {
    const progress: Redrive = { queue, moved: 0, underWay: 0, refusal: undefined };
    for (let left = count; left > 0; left -= LIMITS.amqpRedrivePortion) {
      const portion = Math.min(left, LIMITS.amqpRedrivePortion);
      const isEmpty = await this.#move(channel, name, progress, portion, reopen);
      if (progress.refusal !== undefined) throw redriveEnded(progress, progress.refusal);
      if (isEmpty) break;
    }
    return progress.moved;
  }

  /** True when there is nothing left. */
  async #move(
    channel: Channel,
    name: string,
    progress: Redrive,
    portion: number,
    reopen: (ids: readonly string[]) => void,
  ): Promise<boolean> {
    const { clock, newId } = this.#shared;
    const { callTimeoutMs } = this.#options;
    const reader = new MessageReader(progress.queue, newId, () => clock.wallMs());
    const sent: Promise<void>[] = [];
    let isEmpty = false;
    for (let index = 0; index < portion; index++) {
      const message = await channel.get(name);
      if (message === false) {
        isEmpty = true;
        break;
      }
      const moved = this.#send(channel, message as unknown as ConsumeMessage, reader, progress, reopen);
      if (moved !== undefined) sent.push(moved);
    }
    if (!(await settlesWithin(clock, callTimeoutMs, Promise.all(sent)))) {
      const text = `the broker did not confirm within ${callTimeoutMs} ms what was redriven`;
      throw redriveEnded(progress, new MillraceError('TIMEOUT', text, { details: { timeoutMs: callTimeoutMs } }));
    }
    return isEmpty;
  }

  /** Resolves when it is known whether it was moved. Undefined for what is no task: it stays, and goes back when the channel is closed. */
  #send(
    channel: Channel,
    message: ConsumeMessage,
    reader: MessageReader,
    progress: Redrive,
    reopen: (ids: readonly string[]) => void,
  ): Promise<void> | undefined {
    let task: ReturnType<MessageReader['read']>;
    try {
      task = reader.read(message);
    } catch {
      // It went to the dead letters because of that.
      return undefined;
    }
    reopen([task.id]);
    progress.underWay++;
    return new Promise((resolve) => {
      const settled = (error: MillraceError | undefined): void => {
        progress.underWay--;
        if (error !== undefined) progress.refusal ??= error;
        else if (acknowledge(channel, message)) progress.moved++;
        resolve();
      };
      // A queue that does not take it leaves it among the dead: it is not to come when nobody expects it any more.
      sendTask(this.#shared, task, copyOf(task, 1), 0, settled, 'refuse');
    });
  }
}

interface Redrive {
  readonly queue: string;
  /** Ready again, and gone from the dead letters. */
  moved: number;
  /** Sent, without an answer. */
  underWay: number;
  refusal: MillraceError | undefined;
}

/** False when the call had been given up, or its channel was lost: then the message is among the dead letters again. */
function acknowledge(channel: Channel, message: ConsumeMessage): boolean {
  try {
    channel.ack(message);
    return true;
  } catch {
    // amqplib throws when the channel is closed.
    return false;
  }
}

function redriveEnded({ queue, moved, underWay }: Redrive, cause: MillraceError): MillraceError {
  let message = `not all dead tasks of ${queue} were redriven: ${cause.message}. ${moved} of them are ready again, and those that the broker refused are still dead`;
  if (underWay > 0) {
    message += `; ${underWay} have no answer: this client goes on sending them, so they may run and be among the dead as well, and to redrive these would run them twice`;
  }
  return new MillraceError(cause.code, message, { cause, details: { ...cause.details, queue, moved, underWay } });
}

function noQueue(queue: string): MillraceError {
  const message = `there is no queue ${JSON.stringify(queue)}: it comes with its first task`;
  return new MillraceError('NOT_FOUND', message, { details: { queue } });
}
