import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../../test/twins/manual-clock.ts';
import { settlesWithin } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { Link } from './link.ts';
import { ReplyQueue } from './reply-queue.ts';
import type { Topology } from './topology.ts';

class Channel extends EventEmitter {
  consumers = 0;
  /** Resolved by nobody: a broker that says nothing. */
  hangs = false;

  prefetch(): Promise<void> {
    return this.hangs ? new Promise(() => {}) : Promise.resolve();
  }

  async consume(): Promise<void> {
    this.consumers++;
  }
}

class Model {
  readonly channels: Channel[] = [];
  nextHangs = false;

  async createChannel(): Promise<Channel> {
    const channel = new Channel();
    channel.hangs = this.nextHangs;
    this.nextHangs = false;
    this.channels.push(channel);
    return channel;
  }
}

let clock: ManualClock;
let model: Model;
let replies: ReplyQueue;
const link = {
  get model() {
    return model;
  },
  async answer(_: unknown, call: Promise<unknown>, timeoutMs: number) {
    if (!(await settlesWithin(clock, timeoutMs, call))) throw new Error('no answer');
    return call;
  },
};
const topology = { ensure: async () => {}, forget: () => {} };

beforeEach(() => {
  clock = new ManualClock();
  model = new Model();
  replies = new ReplyQueue(
    clock,
    link as unknown as Link,
    topology as unknown as Topology,
    'replies',
    60_000,
    () => {},
  );
});

function consumers(): number[] {
  return model.channels.map((channel) => channel.consumers);
}

test('is read once, however often it is said that there is a connection', async () => {
  replies.want();
  replies.ready();
  await turn();
  replies.ready();
  await turn();
  expect(consumers()).toEqual([1]);
});

test('is read anew when its channel ends, and once more when its connection does', async () => {
  replies.want();
  await turn();
  model.channels[0]?.emit('close');
  clock.advance(5000);
  await turn();
  expect(consumers()).toEqual([1, 1]);
  const [first, second] = model.channels;
  model = new Model();
  replies.ready();
  await turn();
  // What was lost with the connection before says so late.
  first?.emit('close');
  second?.emit('close');
  clock.advance(5000);
  await turn();
  expect(consumers()).toEqual([1]);
});

test('is read over another channel when the broker does not answer on the first', async () => {
  model.nextHangs = true;
  replies.want();
  await turn();
  clock.advance(LIMITS.amqpCallTimeoutMs);
  await turn();
  clock.advance(5000);
  await turn();
  expect(consumers()).toEqual([0, 1]);
  model.channels[0]?.emit('close');
  clock.advance(5000);
  await turn();
  expect(consumers()).toEqual([0, 1]);
});
