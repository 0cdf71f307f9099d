import amqplib, { type ChannelModel, type ConfirmChannel, type Options } from 'amqplib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { faultOf } from '../../src/broker/rabbitmq/channel-fault.ts';
import { type ParcelOptions, parcel } from '../../src/broker/rabbitmq/parcel.ts';
import { Publisher } from '../../src/broker/rabbitmq/publisher.ts';
import type { MillraceError } from '../../src/index.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const rabbit = await sharedRabbit();
const FULL: Options.AssertQueue = { arguments: { 'x-max-length': 0, 'x-overflow': 'reject-publish' } };

/** A publisher whose owner opens a channel as often as one ends, and counts them. */
class Bench {
  readonly publisher: Publisher;
  channels = 0;
  readonly #model: ChannelModel;
  #channel: ConfirmChannel | undefined;

  static async open(url: string): Promise<Bench> {
    const bench = new Bench(await amqplib.connect(url));
    await bench.#attach();
    return bench;
  }

  private constructor(model: ChannelModel) {
    this.#model = model;
    this.publisher = new Publisher(new SystemClock(), {
      stalled: () => {},
      refused: () => void this.#channel?.close(),
      restore: () => Promise.resolve(),
    });
  }

  async #attach(): Promise<void> {
    const channel = await this.#model.createConfirmChannel();
    let fault: ReturnType<typeof faultOf>;
    channel.on('error', (error) => {
      fault = faultOf('channel', error);
    });
    channel.on('close', () => {
      this.publisher.detach(fault);
      if (this.channels < 20) void this.#attach();
    });
    this.channels++;
    this.#channel = channel;
    this.publisher.attach(channel);
  }

  /** Resolves with why it came to nothing. */
  send(options: ParcelOptions, ids: readonly string[] = ['id']): Promise<MillraceError | undefined> {
    return new Promise((resolve) => {
      const bodies = ids.map((id) => Buffer.from(id));
      this.publisher.send(parcel(options, bodies, ids, resolve));
    });
  }

  async close(): Promise<void> {
    this.channels = Number.POSITIVE_INFINITY;
    await this.#model.close();
  }
}

describe.skipIf(rabbit === undefined)('what is published', () => {
  let scene: AmqpScene;
  let bench: Bench;

  beforeEach(async () => {
    if (rabbit === undefined) return;
    scene = await AmqpScene.open(rabbit);
    await scene.channel.assertQueue('open');
    await scene.channel.assertQueue('full', FULL);
    bench = await Bench.open(scene.url);
  });

  afterEach(async () => {
    await bench.close();
    await scene.close();
  });

  test('and refused by a full queue opens no other channel when nobody minds', async () => {
    expect(await bench.send({ routingKey: 'full', care: 'drop' })).toMatchObject({ code: 'QUEUE_FULL' });
    expect(bench.channels).toBe(1);
    expect(bench.publisher.dropped).toBe(1);
  });

  test('and refused by a full queue is tried over another channel once, not for each message', async () => {
    for (let count = 0; count < 3; count++) {
      expect(await bench.send({ routingKey: 'full' })).toMatchObject({ code: 'QUEUE_FULL' });
    }
    expect(bench.channels).toBe(2);
  });

  test('and refused in part says how much of it was', async () => {
    const refused = await bench.send({ routingKey: 'full' }, ['1', '2', '3']);
    expect(refused?.message).toContain('3 of 3 messages');
    expect(refused?.details).toMatchObject({ queue: 'full', refused: 3, confirmed: 0 });
  });

  test('and cannot be written is an error of that parcel alone', async () => {
    const results = Promise.all([
      bench.send({ routingKey: 'open' }, ['1']),
      bench.send({ routingKey: 'open' }, ['2', 'x'.repeat(300), '3']),
      bench.send({ routingKey: 'open', headers: { long: 'x'.repeat(70_000) } }, ['4']),
      bench.send({ routingKey: 'y'.repeat(300), care: 'drop' }, ['5']),
      bench.send({ routingKey: 'open' }, ['6']),
    ]);
    expect((await results).map((error) => error?.code)).toEqual([
      undefined,
      'INVALID_ARGUMENT',
      'PAYLOAD_TOO_LARGE',
      'INVALID_ARGUMENT',
      undefined,
    ]);
    expect(bench.channels).toBe(1);
    await bench.publisher.drained();
  });

  test('and must get back goes without what another program put into its properties when that cannot be written', async () => {
    const headers = { long: 'x'.repeat(70_000), 'millrace-reason': 'HANDLER_FAILED' };
    const id = 'ü'.repeat(200);
    const correlationId = id;
    expect(await bench.send({ routingKey: 'open', care: 'insist', headers, correlationId }, [id])).toBeUndefined();
    const { content, properties } = await scene.get('open');
    expect(content.toString()).toBe(id);
    expect(properties.headers).toEqual({ 'millrace-reason': 'HANDLER_FAILED' });
    const endless = await bench.send({ routingKey: 'z'.repeat(300), care: 'insist' });
    expect(endless?.code).toBe('INVALID_ARGUMENT');
  });

  test('and makes the broker close the channel is found among the innocent, and is not sent for ever', async () => {
    // The broker wants a list there.
    const bad = { routingKey: 'open', headers: { CC: 'no list' } };
    const results = await Promise.all([
      bench.send({ routingKey: 'open' }, ['1', '2']),
      bench.send(bad, ['bad']),
      bench.send({ ...bad, care: 'insist' }, ['worse']),
      bench.send({ routingKey: 'open' }, ['3']),
    ]);
    expect(results.map((error) => error?.code)).toEqual([undefined, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT', undefined]);
    expect(results[1]?.message).toContain('CC');
    expect(bench.channels).toBe(4);
    expect(await bench.send({ routingKey: 'open' }, ['4'])).toBeUndefined();
  });

  test('that nobody minds is not sent again when the broker closed the channel with it under way', async () => {
    const bad = { routingKey: 'open', headers: { CC: 'no list' } };
    const dropped = bench.send({ ...bad, care: 'drop' }, ['1']);
    const also = bench.send({ routingKey: 'open', care: 'drop' }, ['2']);
    expect([(await dropped)?.code, (await also)?.code]).toEqual(['DISCONNECTED', 'DISCONNECTED']);
    expect(bench.publisher.dropped).toBe(2);
    await bench.send({ routingKey: 'open' }, ['3']);
    expect(bench.channels).toBe(2);
  });
});
