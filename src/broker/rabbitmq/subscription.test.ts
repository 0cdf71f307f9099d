import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { settlesWithin } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { ChannelModel, ConsumeMessage } from './amqplib.ts';
import type { Link } from './link.ts';
import type { MessageReader } from './message.ts';
import { Names } from './names.ts';
import { Subscription } from './subscription.ts';
import type { Need, Topology } from './topology.ts';

const LOOK_MS = 15_000;
const NEVER = new Promise<never>(() => {});

class Channel extends EventEmitter {
  readonly consumed = new Set<string>();
  /** How often each queue was, less how often that was ended. */
  readonly consumers = new Map<string, number>();
  readonly deliver = new Map<string, (message: ConsumeMessage | null) => void>();
  readonly cancelled: string[] = [];
  cancelHangs = false;
  /** A queue of which the broker does not say whether it is consumed. */
  hangsAt: string | undefined;
  /** A queue that is not there: the broker closes the channel. */
  missing: string | undefined;

  async prefetch(): Promise<void> {}

  async consume(queue: string, callback: (message: ConsumeMessage | null) => void): Promise<{ consumerTag: string }> {
    if (queue === this.hangsAt) return NEVER;
    if (queue === this.missing) {
      this.emit('close');
      throw Object.assign(new Error('NOT_FOUND'), { code: 404 });
    }
    this.consumed.add(queue);
    this.consumers.set(queue, (this.consumers.get(queue) ?? 0) + 1);
    this.deliver.set(queue, callback);
    return { consumerTag: queue };
  }

  cancel(tag: string): Promise<void> {
    if (this.cancelHangs) return NEVER;
    this.cancelled.push(tag);
    this.consumed.delete(tag);
    this.consumers.set(tag, (this.consumers.get(tag) ?? 0) - 1);
    return Promise.resolve();
  }
}

class Model {
  readonly channel = new Channel();
  /** What it gives before its own. */
  before: Channel[] = [];
  created = 0;

  async createChannel(): Promise<Channel> {
    this.created++;
    return this.before.shift() ?? this.channel;
  }
}

let clock: ManualClock;
let model: Model | undefined;
let subscription: Subscription;
let arrived: number[];
/** What its owner was told. */
let told: string[];

const link = {
  get model() {
    return model;
  },
  connectTimeoutMs: 10_000,
  closed: false,
  async answer(_: unknown, call: Promise<unknown>, timeoutMs: number) {
    if (await settlesWithin(clock, timeoutMs, call)) return call;
    lose();
    throw new Error('no answer');
  },
};
/** Queues of which the broker says that nobody consumes them. */
const unconsumed = new Set<string>();
let declared: string[];
const topology = {
  ensure: async (needs: readonly Need[]) => {
    for (const need of needs) if (need.kind !== 'delay') declared.push(need.name);
  },
  forget: () => {},
  use: (calls: (channel: unknown) => Promise<unknown>) =>
    calls({ checkQueue: async (queue: string) => ({ consumerCount: unconsumed.has(queue) ? 0 : 1 }) }),
};

beforeEach(() => {
  clock = new ManualClock();
  model = undefined;
  arrived = [];
  told = [];
  declared = [];
  unconsumed.clear();
  const queues = ['a', 'b'].map((queue) => ({ queue, reader: {} as MessageReader }));
  subscription = new Subscription(
    clock,
    link as unknown as Link,
    topology as unknown as Topology,
    new Names('test'),
    queues,
    10,
    {
      arrived: ({ fields }) => arrived.push(fields.deliveryTag),
      opened: () => told.push('opened'),
      lost: () => told.push('lost'),
      refused: ({ code }) => told.push(code),
    },
  );
});

async function open(next: Model): Promise<void> {
  model = next;
  subscription.open(next as unknown as ChannelModel);
  await turn();
}

function lose(): void {
  model = undefined;
  subscription.disconnected('no answer');
}

function message(deliveryTag: number): ConsumeMessage {
  return { fields: { deliveryTag } } as ConsumeMessage;
}

test('a broker that does not answer a pause is given up, and the next one is asked for what is wanted then', async () => {
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

test('what came over a channel that is lost before all consumers are taken is said to be lost, and nothing of it comes later', async () => {
  const first = new Model();
  first.channel.hangsAt = 'test.b';
  await open(first);
  const late = first.channel.deliver.get('test.a');
  late?.(message(1));
  expect([arrived, told]).toEqual([[1], []]);
  lose();
  expect(told).toEqual(['lost']);
  late?.(message(2));
  await open(new Model());
  late?.(message(3));
  expect([arrived, told]).toEqual([[1], ['lost', 'opened']]);
});

test('a connection that is lost before there is a channel takes nothing with it', async () => {
  const first = new Model();
  first.createChannel = () => NEVER;
  await open(first);
  lose();
  await open(new Model());
  expect(told).toEqual(['opened']);
});

test('a queue that is gone when it is to be consumed is tried again once a pause, over one channel at a time', async () => {
  const broker = new Model();
  for (let i = 0; i < 4; i++) {
    const channel = new Channel();
    channel.missing = 'test.b';
    broker.before.push(channel);
  }
  await open(broker);
  for (let tries = 1; tries <= 4; tries++) {
    expect(broker.created).toBe(tries);
    expect(clock.timerCount).toBe(2);
    clock.advance(1000);
    await turn();
  }
  expect(broker.created).toBe(5);
  clock.advance(1000);
  await turn();
  expect(broker.created).toBe(5);
  expect(told).toEqual(['lost', 'lost', 'lost', 'lost', 'opened']);
});

test('a channel that ends in the moment in which its last consumer is taken is followed by another', async () => {
  const broker = new Model();
  const first = new Channel();
  broker.before.push(first);
  const consume = first.consume.bind(first);
  first.consume = async (queue, callback) => {
    const taken = await consume(queue, callback);
    if (queue === 'test.b.suspect') first.emit('close');
    return taken;
  };
  await open(broker);
  expect(told).toEqual(['lost']);
  clock.advance(1000);
  await turn();
  expect(told).toEqual(['lost', 'opened']);
  expect(broker.created).toBe(2);
});

test('a queue that for once seems to have no consumer keeps the one it has; when it stays so that is ended and another follows', async () => {
  const broker = new Model();
  await open(broker);
  const { consumers } = broker.channel;
  const looks = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await turn();
  };
  for (let i = 0; i < 3; i++) {
    unconsumed.add('test.a');
    await looks(LOOK_MS);
    unconsumed.clear();
    await looks(LOOK_MS);
  }
  expect(broker.channel.cancelled).toEqual([]);
  declared = [];
  unconsumed.add('test.a');
  await looks(LOOK_MS);
  await looks(LOOK_MS);
  expect(broker.channel.cancelled).toEqual(['test.a']);
  expect(declared).toEqual(['test.a']);
  expect([...consumers.values()]).toEqual(new Array(8).fill(1));
});
