import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { Channel, ChannelModel, Options } from './amqplib.ts';
import { duePattern, levelMs, patternOf } from './delay.ts';
import type { Names } from './names.ts';

/**
 * Declares what is needed, when it is first needed, by whoever comes first: every declaration may be repeated, and says
 * the same each time. What was declared over this link is not declared again, until it is missed.
 */
export type QueueType = 'quorum' | 'classic';

export type Need =
  /** A queue of tasks or of dead letters. */
  | { readonly kind: 'queue'; readonly name: string }
  /** Counts deliveries: always a quorum queue. */
  | { readonly kind: 'suspect'; readonly name: string }
  /** On one node: `move` gives it another name when that node is down. */
  | { readonly kind: 'reply'; readonly name: string; readonly expiresMs: number; readonly move: () => void }
  /** The ladder up to a level, and the way from its end to a queue. */
  | { readonly kind: 'delay'; readonly level: number; readonly queue: string };

export class Topology {
  readonly #clock: Clock;
  readonly #names: Names;
  readonly #type: QueueType;
  readonly #model: () => ChannelModel | undefined;
  readonly #declared = new Set<string>();
  /** Levels of the ladder that were declared, counted from below. */
  #levels = 0;
  #last = { queues: Promise.resolve(), ladder: Promise.resolve() };

  constructor(clock: Clock, names: Names, type: QueueType, model: () => ChannelModel | undefined) {
    this.#clock = clock;
    this.#names = names;
    this.#type = type;
    this.#model = model;
  }

  has(need: Need): boolean {
    if (need.kind !== 'delay') return this.#declared.has(need.name);
    return this.#levels > need.level && this.#declared.has(`#.${need.queue}`);
  }

  /** Rejects with CONFLICT when something of that name is there and different, UNSUPPORTED without the right, DISCONNECTED. */
  ensure(needs: readonly Need[]): Promise<void> {
    const missing = needs.filter((need) => !this.has(need));
    if (missing.length === 0) return Promise.resolve();
    const ladder = missing.filter(({ kind }) => kind === 'delay');
    const queues = this.#inTurn(
      'queues',
      missing.filter(({ kind }) => kind !== 'delay'),
    );
    // The ladder leads to a queue, and takes longer: who does not need it does not wait for it.
    return ladder.length === 0 ? queues : queues.then(() => this.#inTurn('ladder', ladder));
  }

  /** One after the other: what the first declares the next need not. */
  #inTurn(turns: 'queues' | 'ladder', needs: readonly Need[]): Promise<void> {
    if (needs.length === 0) return Promise.resolve();
    const done = this.#last[turns].then(() => this.#declare(needs.filter((need) => !this.has(need))));
    this.#last[turns] = done.catch(() => {
      // Whoever asked is told; the next declares what it needs all the same.
    });
    return done;
  }

  /** It turned out not to be there. */
  forget(needs: readonly Need[]): void {
    for (const need of needs) {
      if (need.kind === 'delay') {
        this.#levels = 0;
        this.#declared.delete(`#.${need.queue}`);
      } else this.#declared.delete(need.name);
    }
  }

  #declare(needs: readonly Need[]): Promise<void> {
    if (needs.length === 0) return Promise.resolve();
    return this.use(async (channel) => {
      for (const need of needs) await this.#declareOne(channel, need);
    }).catch((error: unknown) => this.#elsewhere(needs, error));
  }

  /** A classic queue whose node is down is neither there nor can it be declared, until the node is back. */
  async #elsewhere(needs: readonly Need[], error: unknown): Promise<void> {
    const missing = needs.filter((need) => !this.has(need));
    const [first] = missing;
    if (first?.kind !== 'reply' || !isNodeDown(error)) throw error;
    first.move();
    await this.#declare(missing);
  }

  /** Runs calls on a channel of their own: one that the broker refuses takes nothing else with it. */
  async use<T>(calls: (channel: Channel) => Promise<T>, timeoutMs: number = LIMITS.amqpCallTimeoutMs): Promise<T> {
    const model = this.#model();
    if (model === undefined) throw new MillraceError('DISCONNECTED', 'there is no connection to the broker');
    const opening = model.createChannel();
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setPatientTimer(this.#clock, timeoutMs, () => reject(unanswered(timeoutMs)));
    });
    try {
      return await Promise.race([late, opening.then((channel) => calls(quiet(channel)))]);
    } catch (error) {
      throw refusalOf(error);
    } finally {
      timer?.cancel();
      opening
        .then((channel) => channel.close())
        .catch(() => {
          // The broker had closed it, as the error says.
        });
    }
  }

  async #declareOne(channel: Channel, need: Need): Promise<void> {
    switch (need.kind) {
      case 'queue':
        await channel.assertQueue(need.name, taskQueue(this.#type));
        break;
      case 'suspect':
        await channel.assertQueue(need.name, taskQueue('quorum'));
        break;
      case 'reply':
        await channel.assertQueue(need.name, {
          durable: true,
          expires: need.expiresMs,
          // Never a quorum queue: clients come and go, and RabbitMQ 3.10 ends the connection of whoever sends to one that is
          // being deleted, which here are workers.
          arguments: { 'x-queue-type': 'classic' },
        });
        break;
      case 'delay':
        await this.#declareLadder(channel, need.level);
        await channel.bindQueue(need.queue, this.#names.due, duePattern(need.queue));
        this.#declared.add(`#.${need.queue}`);
        return;
      default:
        need satisfies never;
    }
    this.#declared.add(need.name);
  }

  async #declareLadder(channel: Channel, top: number): Promise<void> {
    const names = this.#names;
    if (this.#levels === 0) await channel.assertExchange(names.due, 'topic', { durable: true });
    for (let level = this.#levels; level <= top; level++) {
      const name = names.delay(level);
      const below = level === 0 ? names.due : names.delay(level - 1);
      await channel.assertExchange(name, 'topic', { durable: true });
      await channel.assertQueue(name, delayQueue(this.#type, level, below));
      await channel.bindQueue(name, name, patternOf(level, 1));
      await channel.bindExchange(below, name, patternOf(level, 0));
      this.#levels = level + 1;
    }
  }
}

function isNodeDown(error: unknown): boolean {
  return error instanceof MillraceError && error.code === 'NOT_FOUND' && error.message.includes('home node');
}

function taskQueue(type: QueueType): Options.AssertQueue {
  const args: Record<string, unknown> = { 'x-queue-type': type };
  // Newer brokers drop a message after twenty deliveries unless they are told otherwise.
  if (type === 'quorum') args['x-delivery-limit'] = LIMITS.amqpDeliveriesMax;
  return { durable: true, arguments: args };
}

function delayQueue(type: QueueType, level: number, below: string): Options.AssertQueue {
  const args: Record<string, unknown> = { 'x-queue-type': type };
  if (type === 'quorum') {
    // The message is in the next queue before it leaves this one; that needs the overflow to be refused.
    args['x-dead-letter-strategy'] = 'at-least-once';
    args['x-overflow'] = 'reject-publish';
  }
  return { durable: true, messageTtl: levelMs(level), deadLetterExchange: below, arguments: args };
}

/** The call that an error concerns rejects with it. */
function quiet(channel: Channel): Channel {
  channel.on('error', () => {});
  return channel;
}

function unanswered(ms: number): MillraceError {
  return new MillraceError('TIMEOUT', `the broker did not answer within ${ms} ms`, { details: { timeoutMs: ms } });
}

const INEQUIVALENT = /inequivalent arg '([^']+)' for (queue|exchange) '([^']+)'/;

/** What the broker said, as one of our errors. */
export function refusalOf(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const { code, message } = error as { code?: unknown; message?: unknown };
  const text = String(message ?? error);
  const different = INEQUIVALENT.exec(text);
  if (code === 406 && different !== null) {
    const [, argument, what, name] = different;
    return new MillraceError(
      'CONFLICT',
      `the ${what} ${name} is there with another ${argument}: ${text}. Connect with the amqp option that it was made with (queueType, prefix), or delete it on the broker when it is empty`,
      { cause: error, details: { argument, name } },
    );
  }
  if (code === 403) {
    const message = `the broker does not allow it: ${text}. Give the user the permissions configure, write and read for our names`;
    return new MillraceError('UNSUPPORTED', message, { cause: error });
  }
  if (code === 404) return new MillraceError('NOT_FOUND', text, { cause: error });
  if (code === 405) return new MillraceError('CONFLICT', `another client uses it alone: ${text}`, { cause: error });
  return new MillraceError('DISCONNECTED', `the broker did not do it: ${text}`, { cause: error });
}
