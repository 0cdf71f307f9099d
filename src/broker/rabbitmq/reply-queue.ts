import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { Channel, ChannelModel, ConsumeMessage } from './amqplib.ts';
import type { Link } from './link.ts';
import type { Need, Topology } from './topology.ts';

/** A reply is acknowledged as soon as it is read: so many are on their way, or here unread, and the others wait in the broker. */
const PREFETCH = 200;
const RETRY_MS = 1000;

/**
 * The queue to which workers send the ends of this client's tasks: made with its first enqueue, read while connected. It lies
 * on one node of the broker; when that is down, another takes its place under another name.
 */
export class ReplyQueue {
  readonly need: Need & { readonly kind: 'reply' };
  #name: string;
  #moves = 0;
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #topology: Topology;
  readonly #arrived: (message: ConsumeMessage) => void;
  #wanted = false;
  #closed = false;
  #retrying = false;
  /** Over which it is read, or about to be; and the channel, once there is one. */
  #model: ChannelModel | undefined;
  #channel: Channel | undefined;

  constructor(
    clock: Clock,
    link: Link,
    topology: Topology,
    name: string,
    expiresMs: number,
    arrived: (message: ConsumeMessage) => void,
  ) {
    this.#clock = clock;
    this.#link = link;
    this.#topology = topology;
    this.#name = name;
    const current = (): string => this.#name;
    this.need = {
      kind: 'reply',
      get name() {
        return current();
      },
      expiresMs,
      move: () => {
        this.#name = `${name}.${++this.#moves}`;
      },
    };
    this.#arrived = arrived;
  }

  /** What answers need that go out from now on. */
  get wanted(): readonly Need[] {
    return this.#wanted && !this.#closed ? [this.need] : [];
  }

  /** Tasks are enqueued from now on. */
  want(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.ready();
  }

  /** Connected, for the first time or again: the queue may have been deleted, or have expired. */
  ready(): void {
    const { model } = this.#link;
    if (!this.#wanted || model === undefined || model === this.#model || this.#closed) return;
    this.#model = model;
    this.#topology.forget([this.need]);
    this.#consume(model).catch(() => this.#gone(model, this.#channel));
  }

  /** Nobody is going to ask for what comes. Always resolves. */
  async close(): Promise<void> {
    this.#closed = true;
    if (!this.#wanted || !this.#link.ready) return;
    await this.#topology
      .use((channel) => channel.deleteQueue(this.#name))
      .catch(() => {
        // It expires by itself.
      });
  }

  async #consume(model: ChannelModel): Promise<void> {
    await this.#topology.ensure([this.need]);
    const channel = await this.#link.answer(model, model.createChannel(), LIMITS.amqpCallTimeoutMs);
    channel.on('error', () => {
      // `close` follows.
    });
    channel.on('close', () => this.#gone(model, channel));
    if (this.#model !== model) return;
    this.#channel = channel;
    await this.#link.answer(model, channel.prefetch(PREFETCH), LIMITS.amqpCallTimeoutMs);
    const consuming = channel.consume(this.#name, (message) => {
      if (message === null) {
        // Deleted, or its node went down: it is made anew when the channel has ended, …
        this.#link.answer(model, channel.close(), LIMITS.amqpCloseTimeoutMs).catch(() => {
          // … or the connection, which is given up when it does not answer.
        });
        return;
      }
      this.#arrived(message);
      channel.ack(message);
    });
    await this.#link.answer(model, consuming, LIMITS.amqpCallTimeoutMs);
  }

  /** Read anew after a pause; unless it is already, over another channel. */
  #gone(model: ChannelModel, channel: Channel | undefined): void {
    if (this.#model !== model || this.#channel !== channel) return;
    this.#model = undefined;
    this.#channel = undefined;
    this.#later(model);
  }

  #later(model: ChannelModel): void {
    if (this.#retrying) return;
    this.#retrying = true;
    this.#clock
      .setTimer(RETRY_MS, () => {
        this.#retrying = false;
        if (this.#link.model === model) this.ready();
      })
      .unref();
  }
}
