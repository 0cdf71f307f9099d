import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { settlesWithin } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { ChannelModel } from './amqplib.ts';
import type { Link } from './link.ts';
import type { MessageReader } from './message.ts';
import { Names } from './names.ts';
import { Subscription } from './subscription.ts';
import type { Topology } from './topology.ts';

const NEVER = new Promise<never>(() => {});

class Channel extends EventEmitter {
  readonly consumed = new Set<string>();
  cancelHangs = false;

  async prefetch(): Promise<void> {}

  async consume(queue: string): Promise<{ consumerTag: string }> {
    this.consumed.add(queue);
    return { consumerTag: queue };
  }

  cancel(tag: string): Promise<void> {
    if (this.cancelHangs) return NEVER;
    this.consumed.delete(tag);
    return Promise.resolve();
  }
}

class Model {
  readonly channel = new Channel();

  async createChannel(): Promise<Channel> {
    return this.channel;
  }
}

test('a broker that does not answer a pause is given up, and the next one is asked for what is wanted then', async () => {
  const clock = new ManualClock();
  let model: Model | undefined = new Model();
  const lost = (): void => {
    model = undefined;
    subscription.disconnected('no answer');
  };
  const link = {
    get model() {
      return model;
    },
    connectTimeoutMs: 10_000,
    closed: false,
    async answer(_: unknown, call: Promise<unknown>, timeoutMs: number) {
      if (await settlesWithin(clock, timeoutMs, call)) return call;
      lost();
      throw new Error('no answer');
    },
  };
  const topology = { ensure: async () => {}, forget: () => {} };
  const queues = ['a', 'b'].map((queue) => ({ queue, reader: {} as MessageReader }));
  const subscription = new Subscription(
    clock,
    link as unknown as Link,
    topology as unknown as Topology,
    new Names('test'),
    queues,
    10,
    { arrived: () => {}, opened: () => {}, lost: () => {}, refused: () => {} },
  );
  const open = async (next: Model): Promise<void> => {
    model = next;
    subscription.open(next as unknown as ChannelModel);
    await turn();
  };
  const first = new Model();
  await open(first);
  expect(first.channel.consumed).toContain('test.a');
  first.channel.cancelHangs = true;
  void subscription.pause(new Set(['a']));
  await turn();
  clock.advance(LIMITS.amqpCallTimeoutMs);
  await turn();
  expect(model).toBe(undefined);
  const second = new Model();
  await open(second);
  expect(second.channel.consumed).not.toContain('test.a');
  expect(second.channel.consumed).toContain('test.b');
  void subscription.pause(new Set(['b']));
  await turn();
  expect(second.channel.consumed).toContain('test.a');
  expect(second.channel.consumed).not.toContain('test.b');
});
