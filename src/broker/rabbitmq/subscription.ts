import type { Channel, ConsumeMessage, Message } from 'amqplib';
import { MillraceError } from '../../errors.ts';
import { type Clock, setPatientTimer, settlesWithin, type Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { ChannelModel } from './amqplib.ts';
import type { Link } from './link.ts';
import type { MessageReader } from './message.ts';
import { BANDS, type Names } from './names.ts';
import { type Need, refusalOf, type Topology } from './topology.ts';

/**
 * The channel over which one worker gets its messages and acknowledges them, with a consumer for each of its queues.
 *
 *   closed ──open()──▶ opening ──all consumers taken──▶ open ──channel or connection lost──▶ closed
 *                         ▲                                            │
 *                         └──────── the channel alone: after a pause ──┘
 *
 * One that has never been open is given up after the connect timeout: its owner's caller waits for it. A queue that is
 * deleted is declared and consumed anew. Delivery tags hold for one channel only: `lost` says that all
 * of them are void.
 */
export interface Source {
  readonly queue: string;
  /** The broker's name for it. */
  readonly name: string;
  /** Of the suspects, one at a time. */
  readonly suspect: boolean;
  readonly reader: MessageReader;
}

export interface SubscriptionOwner {
  arrived(message: ConsumeMessage, source: Source): void;
  /** Consumers are there, for the first time or again. */
  opened(): void;
  /** Everything that was delivered is the broker's again. */
  lost(reason: string): void;
  /** The broker refuses what is needed, for good, or did not give it in time for the first time. */
  refused(error: MillraceError): void;
}

interface ConsumerState {
  readonly source: Source;
  readonly prefetch: number;
  tag: string | undefined;
  /** Looks in a row by which its queue has no consumer. */
  misses: number;
}

const LOOK_MS = 15_000;
/** Once is no news: RabbitMQ says 0 as well of a quorum queue whose leader does not answer it within 250 ms. */
const MISSES_MAX = 2;
const REOPEN_MS_MIN = 50;
const REOPEN_MS_MAX = 5000;

export class Subscription {
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #topology: Topology;
  readonly #owner: SubscriptionOwner;
  readonly #consumers: ConsumerState[];
  /** What has to be there. */
  readonly #needs: readonly Need[];
  #channel: Channel | undefined;
  #isOpen = false;
  /** Over which a channel is being opened. */
  #opening: ChannelModel | undefined;
  #reopening: Timer | undefined;
  #stopped = false;
  #failures = 0;
  /** From the first connection until it is open for the first time. */
  #patience: Timer | undefined;
  #everOpen = false;
  #lastReason = 'it did not answer';
  #paused: ReadonlySet<string> = new Set();
  /** Changes of what is consumed, one after the other. */
  #changing: Promise<void> = Promise.resolve();
  /** amqplib acknowledges messages, of which it reads the tag. */
  readonly #acked = { fields: { deliveryTag: 0 } } as unknown as Message;

  constructor(
    clock: Clock,
    link: Link,
    topology: Topology,
    names: Names,
    queues: readonly { readonly queue: string; readonly reader: MessageReader }[],
    prefetch: number,
    owner: SubscriptionOwner,
  ) {
    this.#clock = clock;
    this.#link = link;
    this.#topology = topology;
    this.#owner = owner;
    const consumers: ConsumerState[] = [];
    for (const { queue, reader } of queues) {
      for (const band of BANDS) {
        const source = { queue, name: names.band(queue, band), suspect: false, reader };
        consumers.push({ source, prefetch, tag: undefined, misses: 0 });
      }
    }
    for (const { queue, reader } of queues) {
      const source = { queue, name: names.suspect(queue), suspect: true, reader };
      consumers.push({ source, prefetch: 1, tag: undefined, misses: 0 });
    }
    this.#consumers = consumers;
    // Without a queue for dead letters, tasks that are dead could not leave their worker: it would hold more and more of them.
    const dead = queues.map(({ queue }): Need => ({ kind: 'queue', name: names.dead(queue) }));
    this.#needs = [...consumers.map(({ source }) => needOf(source)), ...dead];
  }

  /** Connected. */
  open(model: ChannelModel): void {
    if (!this.#everOpen && this.#patience === undefined) {
      this.#patience = setPatientTimer(this.#clock, this.#link.connectTimeoutMs, () => this.#giveUp());
      this.#patience.unref();
    }
    this.#begin(model);
  }

  /** The connection is gone, and the channel with it. */
  disconnected(reason: string): void {
    this.#lastReason = reason;
    this.#lose(reason);
  }

  ack(tag: number, multiple: boolean): void {
    this.#acked.fields.deliveryTag = tag;
    this.#write((channel) => channel.ack(this.#acked, multiple));
  }

  /** Gives the message back; the broker puts it where it was. */
  giveBack(tag: number): void {
    this.#acked.fields.deliveryTag = tag;
    this.#write((channel) => channel.nack(this.#acked, false, true));
  }

  /** Resolves when the broker has seen everything that was acknowledged; rejects when the channel is lost first. */
  async seen(): Promise<void> {
    await this.#channel?.prefetch(1);
  }

  /** Queues from which nothing is to be taken now. Resolves as `stop` does. */
  async pause(queues: ReadonlySet<string>): Promise<void> {
    this.#paused = queues;
    this.#change();
    await settlesWithin(this.#clock, LIMITS.amqpCloseTimeoutMs, this.#changing);
  }

  /** No more deliveries. Always resolves, when the broker has said so, or its time is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#change();
    await settlesWithin(this.#clock, LIMITS.amqpCloseTimeoutMs, this.#changing);
  }

  /** Once at a time: of two channels the first would consume for ever, and nobody would read what it brings. */
  #begin(model: ChannelModel): void {
    if (this.#opening === model) return;
    this.#opening = model;
    this.#reopening?.cancel();
    const done = (): void => {
      if (this.#opening === model) this.#opening = undefined;
    };
    this.#open(model).then(
      () => {
        done();
        // The channel was lost in the moment in which its consumers were taken.
        if (this.#link.model === model && this.#channel === undefined) this.#openLater(model);
      },
      (error: unknown) => {
        done();
        this.#failed(model, error);
      },
    );
  }

  async #open(model: ChannelModel): Promise<void> {
    await this.#topology.ensure(this.#needs);
    if (this.#link.model !== model) return;
    const channel = await this.#link.answer(model, model.createChannel(), LIMITS.amqpCallTimeoutMs);
    let reason = 'the broker closed the channel';
    channel.on('error', (error) => {
      reason = error.message;
    });
    channel.on('close', () => this.#channelClosed(model, channel, reason));
    if (this.#link.model !== model) return;
    this.#channel = channel;
    for (const consumer of this.#consumers) consumer.tag = undefined;
    await this.#link.answer(model, this.#consume(channel, this.#wanted()), LIMITS.amqpCallTimeoutMs);
    if (this.#channel !== channel) return;
    this.#isOpen = true;
    this.#everOpen = true;
    this.#patience?.cancel();
    this.#failures = 0;
    this.#owner.opened();
    // What changed meanwhile.
    this.#change();
    this.#lookLater(channel);
  }

  #wanted(): ConsumerState[] {
    if (this.#stopped) return [];
    return this.#consumers.filter(({ source }) => !this.#paused.has(source.queue));
  }

  async #consume(channel: Channel, consumers: readonly ConsumerState[]): Promise<void> {
    let prefetch = 0;
    for (const consumer of consumers) {
      const { source } = consumer;
      if (consumer.prefetch !== prefetch) {
        prefetch = consumer.prefetch;
        await channel.prefetch(prefetch);
      }
      const { consumerTag } = await channel.consume(
        source.name,
        (message) => {
          if (message === null) this.#cancelled(channel, consumer);
          else if (this.#channel === channel) this.#owner.arrived(message, source);
        },
        // Understood by RabbitMQ 4.3, ignored by those before.
        { arguments: { 'x-consumer-timeout': CONSUMER_TIMEOUT_MS } },
      );
      consumer.tag = consumerTag;
      consumer.misses = 0;
    }
  }

  /** Brings what is consumed to what is wanted. */
  #change(): void {
    this.#inTurn(async (channel, model) => {
      const wanted = new Set(this.#wanted());
      for (const consumer of this.#consumers) if (!wanted.has(consumer)) await this.#cancel(channel, model, consumer);
      const missing = [...wanted].filter(({ tag }) => tag === undefined);
      if (missing.length === 0) return;
      await this.#link.answer(model, this.#consume(channel, missing), LIMITS.amqpCallTimeoutMs);
    });
  }

  #inTurn(change: (channel: Channel, model: ChannelModel) => Promise<void>): void {
    this.#changing = this.#changing.then(async () => {
      const { channel, model } = { channel: this.#channel, model: this.#link.model };
      if (channel === undefined || model === undefined || !this.#isOpen) return;
      try {
        await change(channel, model);
      } catch {
        // The channel is lost, or hung and is given up: the next is opened with what is wanted then.
      }
    });
  }

  async #cancel(channel: Channel, model: ChannelModel, consumer: ConsumerState): Promise<void> {
    const { tag } = consumer;
    if (tag === undefined) return;
    consumer.tag = undefined;
    await this.#link.answer(model, channel.cancel(tag), LIMITS.amqpCallTimeoutMs);
  }

  /** RabbitMQ 3.10 does not tell consumers of a quorum queue that is deleted and declared again in the same moment. */
  #lookLater(channel: Channel): void {
    this.#clock
      .setTimer(LOOK_MS, () => {
        if (this.#channel !== channel) return;
        this.#look(channel).then(
          () => this.#lookLater(channel),
          // The connection is lost, or slow: then there is nothing to learn.
          () => this.#lookLater(channel),
        );
      })
      .unref();
  }

  async #look(channel: Channel): Promise<void> {
    for (const consumer of this.#consumers) {
      const { tag } = consumer;
      if (tag === undefined) continue;
      const { consumerCount } = await this.#topology.use((each) => each.checkQueue(consumer.source.name));
      if (this.#channel !== channel) return;
      if (consumer.tag !== tag) continue;
      consumer.misses = consumerCount === 0 ? consumer.misses + 1 : 0;
      if (consumer.misses >= MISSES_MAX) this.#renew(channel, consumer, tag);
    }
  }

  /** One that lives after all would go on beside the next, with a prefetch of its own; one that is gone is cancelled for nothing. */
  #renew(channel: Channel, consumer: ConsumerState, tag: string): void {
    this.#inTurn(async (current, model) => {
      if (current !== channel || consumer.tag !== tag) return;
      await this.#cancel(channel, model, consumer);
      this.#declareAnew(channel, consumer);
    });
  }

  /** The broker ended a consumer: its queue was deleted, or moved to another node. */
  #cancelled(channel: Channel, consumer: ConsumerState): void {
    if (this.#channel !== channel) return;
    consumer.tag = undefined;
    this.#declareAnew(channel, consumer);
  }

  #declareAnew(channel: Channel, consumer: ConsumerState): void {
    const need = needOf(consumer.source);
    this.#topology.forget([need]);
    this.#topology.ensure([need]).then(
      () => this.#change(),
      () => this.#reopen(channel),
    );
  }

  #reopen(channel: Channel): void {
    const { model } = this.#link;
    if (model === undefined) return;
    this.#link.answer(model, channel.close(), LIMITS.amqpCloseTimeoutMs).catch(() => {
      // It is closed already, or its connection is given up: either opens the next.
    });
  }

  #channelClosed(model: ChannelModel, channel: Channel, reason: string): void {
    if (this.#channel !== channel || this.#link.model !== model) return;
    this.#lastReason = reason;
    this.#lose(reason);
    // Else whoever opens it learns of it too.
    if (this.#opening !== model) this.#openLater(model);
  }

  /** Those of its consumers that were taken first may have brought something before it was open. */
  #lose(reason: string): void {
    if (this.#channel === undefined) return;
    this.#channel = undefined;
    this.#isOpen = false;
    this.#owner.lost(reason);
  }

  #failed(model: ChannelModel, error: unknown): void {
    if (this.#link.model !== model) return;
    const refusal = refusalOf(error);
    this.#lastReason = refusal.message;
    this.#topology.forget(this.#needs);
    if (refusal.code === 'CONFLICT' || refusal.code === 'UNSUPPORTED') {
      this.#patience?.cancel();
      this.#owner.refused(refusal);
    } else if (this.#channel === undefined) this.#openLater(model);
    else this.#reopen(this.#channel);
  }

  #giveUp(): void {
    if (this.#everOpen || this.#stopped || this.#link.closed) return;
    const timeoutMs = this.#link.connectTimeoutMs;
    const message = `the broker did not let this worker consume within ${timeoutMs} ms (connectTimeoutMs): ${this.#lastReason}`;
    this.#owner.refused(new MillraceError('TIMEOUT', message, { details: { timeoutMs } }));
  }

  #openLater(model: ChannelModel): void {
    const delayMs = Math.min(REOPEN_MS_MIN * 2 ** this.#failures++, REOPEN_MS_MAX);
    this.#reopening?.cancel();
    this.#reopening = this.#clock.setTimer(delayMs, () => {
      if (this.#link.model === model && this.#channel === undefined) this.#begin(model);
    });
    this.#reopening.unref();
  }

  #write(call: (channel: Channel) => void): void {
    const channel = this.#channel;
    if (channel === undefined) return;
    try {
      call(channel);
    } catch {
      // The channel was closed in this turn: `lost` follows.
    }
  }
}

/** The longest that a task may run, and then some: it is the worker that ends what runs too long. */
const CONSUMER_TIMEOUT_MS = LIMITS.timeoutMsMax * 2;

function needOf({ name, suspect }: Source): Need {
  return { kind: suspect ? 'suspect' : 'queue', name };
}
