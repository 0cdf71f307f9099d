import amqplib, { type Channel, type ChannelModel, type ConsumeMessage, type Options } from 'amqplib';
import { parseAddress } from '../../src/broker/rabbitmq/address.ts';
import { RabbitBroker } from '../../src/broker/rabbitmq/rabbit-broker.ts';
import { Client } from '../../src/client/client.ts';
import { type ClientOptions, connect } from '../../src/index.ts';
import { SystemClock, type Timer } from '../../src/io/clock.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { DEFAULTS } from '../../src/limits.ts';
import { Deferred, until, within } from '../conformance/events.ts';
import { TcpProxy } from '../conformance/tcp-proxy.ts';
import type { Portion, SharedRabbit } from '../support/services.ts';

/** Time that goes by so many times faster. */
class HurriedClock extends SystemClock {
  readonly #factor: number;
  readonly #startMs = super.steadyMs();

  constructor(factor: number) {
    super();
    this.#factor = factor;
  }

  override steadyMs(): number {
    return this.#startMs + (super.steadyMs() - this.#startMs) * this.#factor;
  }

  override setTimer(delayMs: number, callback: () => void): Timer {
    return super.setTimer(delayMs / this.#factor, callback);
  }
}

/** A virtual host of its own, clients of it, and what another program sees there. */
export class AmqpScene {
  readonly url: string;
  readonly channel: Channel;
  readonly #vhost: Portion;
  readonly #model: ChannelModel;
  readonly #clients: Client[] = [];
  readonly #proxies: TcpProxy[] = [];

  static async open(rabbit: SharedRabbit): Promise<AmqpScene> {
    const vhost = await rabbit.vhost();
    const model = await amqplib.connect(vhost.url);
    return new AmqpScene(vhost, model, await model.createConfirmChannel());
  }

  private constructor(vhost: Portion, model: ChannelModel, channel: Channel) {
    this.url = vhost.url;
    this.channel = channel;
    this.#vhost = vhost;
    this.#model = model;
    model.on('error', () => {});
    channel.on('error', () => {});
  }

  async connect(options: ClientOptions = {}, url = this.url): Promise<Client> {
    const client = await connect(url, options);
    this.#clients.push(client);
    return client;
  }

  /** A client for which time goes by so many times faster: for what it waits for that no option sets. */
  async hurried(factor: number, url = this.url): Promise<Client> {
    const clock = new HurriedClock(factor);
    const { connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs, reconnect } = DEFAULTS;
    const { queueType, replies, prefix } = DEFAULTS.amqp;
    const broker = await RabbitBroker.connect({
      ...{ clock, random: new SystemRandom(), address: parseAddress(url), tls: {}, reconnect, store: undefined },
      ...{ queueType, replies, prefix, clientName: 'hurried', process: { host: 'here', pid: process.pid } },
      connectTimeoutMs: connectTimeoutMs * factor,
      enqueueTimeoutMs: enqueueTimeoutMs * factor,
      callTimeoutMs: callTimeoutMs * factor,
    });
    const client = new Client(broker, { clock, workerName: 'hurried' });
    this.#clients.push(client);
    return client;
  }

  /** A way to the broker that can be cut, and the URL of it. */
  async proxy(): Promise<{ proxy: TcpProxy; url: string }> {
    const direct = new URL(this.url);
    const proxy = await TcpProxy.start(Number(direct.port === '' ? 5672 : direct.port));
    this.#proxies.push(proxy);
    direct.port = String(proxy.port);
    return { proxy, url: direct.href };
  }

  /** As another program would. */
  publish(queue: string, body: string | Buffer, options: Options.Publish = {}): void {
    this.channel.sendToQueue(queue, Buffer.from(body), options);
  }

  /** The next message of a queue that has one, or will. Rejects naming the queue. */
  async get(queue: string): Promise<ConsumeMessage> {
    await until(() => this.#exists(queue), Boolean, `that there is a queue ${queue}`);
    const channel = await this.#model.createChannel();
    channel.on('error', () => {});
    try {
      // Others are not sent while this one is not acknowledged.
      await channel.prefetch(1);
      const arrived = new Deferred<ConsumeMessage | null>();
      const { consumerTag } = await channel.consume(queue, arrived.resolve);
      const message = await within(arrived.promise, `a message in the queue ${queue}`);
      if (message === null) throw new Error(`the queue ${queue} was deleted while a message of it was waited for`);
      await channel.cancel(consumerTag);
      channel.ack(message);
      return message;
    } finally {
      await channel.close().catch(() => {});
    }
  }

  /** Asking for a queue that is not there ends the channel that asks. */
  async #exists(queue: string): Promise<boolean> {
    const channel = await this.#model.createChannel();
    channel.on('error', () => {});
    try {
      await channel.checkQueue(queue);
    } catch {
      return false;
    }
    await channel.close();
    return true;
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close({ timeoutMs: 0 })));
    await this.#model.close().catch(() => {});
    for (const proxy of this.#proxies) await proxy.stop();
    await this.#vhost.drop();
  }
}
