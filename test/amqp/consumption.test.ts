import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Consumer } from '../../src/broker/contract.ts';
import { parseAddress } from '../../src/broker/rabbitmq/address.ts';
import { RabbitConsumption } from '../../src/broker/rabbitmq/consumption.ts';
import type { HeldRun } from '../../src/broker/rabbitmq/held-task.ts';
import type { Dialing } from '../../src/broker/rabbitmq/link.ts';
import { Names } from '../../src/broker/rabbitmq/names.ts';
import type { Parcel } from '../../src/broker/rabbitmq/parcel.ts';
import { RabbitBroker } from '../../src/broker/rabbitmq/rabbit-broker.ts';
import type { Shared } from '../../src/broker/rabbitmq/shared.ts';
import type { End, EndReport, Verdict } from '../../src/broker/store.ts';
import type { MillraceError } from '../../src/errors.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { DEFAULTS } from '../../src/limits.ts';
import { Deferred, until } from '../conformance/events.ts';
import { ManualClock } from '../twins/manual-clock.ts';

const { dialed } = vi.hoisted(() => ({ dialed: { connect: (): Promise<unknown> => Promise.reject(new Error('no')) } }));
vi.mock('amqplib', () => ({ connect: () => dialed.connect() }));

const QUEUE = 'millrace.default';
const NEVER = new Promise<never>(() => {});

/** Of a broker that does what the test says: what comes in one turn, and in which order, is left to chance by a real one. */
class Channel extends EventEmitter {
  readonly #consumers = new Map<string, (message: ConsumeMessage) => void>();
  readonly acked: [tag: number, multiple: boolean][] = [];
  #tag = 0;
  /** A queue of which it does not say whether it is consumed. */
  hangsAt: string | undefined;

  async assertQueue(): Promise<void> {}
  async close(): Promise<void> {}
  async prefetch(): Promise<void> {}
  async cancel(): Promise<void> {}

  async consume(queue: string, callback: (message: ConsumeMessage) => void): Promise<{ consumerTag: string }> {
    if (queue === this.hangsAt) return NEVER;
    this.#consumers.set(queue, callback);
    return { consumerTag: queue };
  }

  consumes(queue: string): boolean {
    return this.#consumers.has(queue);
  }

  deliver(id: string, { attempt = 1, redelivered = false } = {}): void {
    const content = Buffer.from(JSON.stringify({ task: 'any', payload: 1, id, attempt }));
    const fields = { deliveryTag: ++this.#tag, redelivered, exchange: '', routingKey: QUEUE, consumerTag: QUEUE };
    const message = { content, fields, properties: { headers: {} } } as unknown as ConsumeMessage;
    this.#consumers.get(QUEUE)?.(message);
  }

  ack({ fields }: ConsumeMessage, multiple: boolean): void {
    this.acked.push([fields.deliveryTag, multiple]);
  }

  nack(): void {}
}

class Model extends EventEmitter {
  readonly connection = {};
  readonly channels: Channel[] = [];
  hangsAt: string | undefined;
  closed = false;

  async createChannel(): Promise<Channel> {
    const channel = new Channel();
    channel.hangsAt = this.hangsAt;
    this.channels.push(channel);
    return channel;
  }

  /** The one that consumes. */
  async consuming(): Promise<Channel> {
    await until(
      async () => this.channels.some((channel) => channel.consumes(QUEUE)),
      Boolean,
      'that a channel consumes',
    );
    return this.channels.find((channel) => channel.consumes(QUEUE)) as Channel;
  }

  createConfirmChannel(): Promise<Channel> {
    return this.createChannel();
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  cut(): void {
    this.emit('close', new Error('cut'));
  }
}

let clock: ManualClock;
let next: Model;
let consumption: RabbitConsumption;
let close: () => Promise<void>;
let runs: HeldRun[];
let revoked: string[];
let ended: MillraceError[];

const OPTIONS = { workerName: 'worker', queues: ['default'], concurrency: 10, prefetch: 10 };

const consumer: Consumer = {
  deliver: (run) => runs.push(run as HeldRun),
  revoke: (run, index, reason) => revoked.push(`${run.id(index)} ${reason}`),
  connection: () => {},
  ended: (error) => ended.push(error),
};

function dialingOf(reconnect: Dialing['reconnect']): Dialing {
  const random = new SystemRandom();
  const address = parseAddress('amqp://broker');
  return { address, tls: {}, clock, random, reconnect, connectTimeoutMs: 10_000, clientName: 'test' };
}

function begin(store?: Shared['store']): Promise<void> {
  const dialing = dialingOf(DEFAULTS.reconnect);
  const shared: Shared = {
    dialing,
    clock,
    random: dialing.random,
    names: new Names('millrace'),
    queueType: 'quorum',
    outbound: { send: ({ settled }: Parcel) => settled(undefined) } as unknown as Shared['outbound'],
    newId: () => 'new',
    store,
    process: { host: 'here', pid: 1 },
  };
  consumption = new RabbitConsumption(shared, OPTIONS, consumer, () => {});
  close = () => consumption.close();
  return consumption.start();
}

beforeEach(() => {
  clock = new ManualClock();
  next = new Model();
  dialed.connect = async () => next;
  [runs, revoked, ended] = [[], [], []];
});

afterEach(async () => {
  await close();
});

/** The ids of the tasks that were handed out, in order. */
async function handedOut(count: number): Promise<string[]> {
  const ids = async (): Promise<string[]> => runs.flatMap((run) => run.tasks.map(({ message }) => message.id));
  await until(ids, ({ length }) => length >= count, `${count} tasks`);
  await turn();
  return ids();
}

function complete(run: HeldRun | undefined): void {
  consumption.begun(run as HeldRun, 0);
  consumption.complete(run as HeldRun, 0, undefined);
}

/** The connection is lost; resolves when there is another. */
async function reconnect(hangsAt?: string): Promise<Model> {
  const lost = next;
  next = new Model();
  next.hangsAt = hangsAt;
  lost.cut();
  clock.advance(60_000);
  await next.consuming();
  return next;
}

test('what a lost connection brought while the consumers were being taken has no tag on the next', async () => {
  await begin();
  const first = await next.consuming();
  first.deliver('x');
  expect(await handedOut(1)).toEqual(['x']);
  consumption.begun(runs[0] as HeldRun, 0);
  const second = await (await reconnect('millrace.default.low')).consuming();
  second.deliver('x', { redelivered: true });
  second.deliver('y');
  await turn();
  const third = await (await reconnect()).consuming();
  third.deliver('y', { redelivered: true });
  third.deliver('z');
  expect(await handedOut(3)).toEqual(['x', 'y', 'z']);
  // Its tag was 1, which is now that of another.
  complete(runs[0]);
  await turn();
  expect(third.acked).toEqual([]);
  third.deliver('x', { redelivered: true });
  await turn();
  expect(third.acked).toEqual([[3, false]]);
  for (const run of runs.slice(1)) for (let at = 0; at < run.length; at++) consumption.complete(run, at, undefined);
  await turn();
  expect(third.acked.slice(1)).toEqual([[2, true]]);
});

test('what ended during an outage is acknowledged as soon as it comes again, though not all consumers are taken yet', async () => {
  await begin();
  (await next.consuming()).deliver('x');
  await handedOut(1);
  consumption.begun(runs[0] as HeldRun, 0);
  const again = await reconnect('millrace.default.low');
  complete(runs[0]);
  await turn();
  const channel = await again.consuming();
  channel.deliver('x', { redelivered: true });
  await turn();
  expect(channel.acked).toEqual([[1, true]]);
});

test('of two messages of one task that come in one turn the later one is acknowledged and not begun, unless it is of a later attempt', async () => {
  await begin();
  const channel = await next.consuming();
  for (const redelivered of [false, true]) {
    channel.deliver(`same-${redelivered}`, { redelivered });
    channel.deliver(`same-${redelivered}`, { redelivered });
  }
  channel.deliver('earlier', { attempt: 2 });
  channel.deliver('earlier', { attempt: 1 });
  channel.deliver('later', { attempt: 1 });
  channel.deliver('later', { attempt: 2 });
  expect(await handedOut(5)).toEqual(['same-false', 'same-true', 'earlier', 'later', 'later']);
  expect(channel.acked).toEqual([
    [2, false],
    [4, false],
    [6, false],
  ]);
  const last = runs.at(-1) as HeldRun;
  consumption.begun(last, last.length - 1);
  // Each is still known as what it is.
  const again = await (await reconnect()).consuming();
  for (const id of ['same-false', 'same-true']) again.deliver(id, { redelivered: true });
  again.deliver('earlier', { attempt: 2, redelivered: true });
  await turn();
  expect(await handedOut(5)).toHaveLength(5);
});

test('a task whose cancel comes before the answer of the store that it may run is not begun', async () => {
  const mayRun = new Deferred<Verdict[]>();
  const ends: End[] = [];
  const store = {
    watched: false,
    heartbeat: () => {},
    left: () => {},
    begin: () => mayRun.promise,
    end: async (_: string, ended: readonly End[]): Promise<EndReport> => {
      ends.push(...ended);
      return { verdicts: ended.map(() => 'cancelled'), unpublished: { entries: [] } };
    },
  };
  await begin(store as unknown as Shared['store']);
  const channel = await next.consuming();
  channel.deliver('x');
  await turn();
  consumption.cancelRequested(['x']);
  mayRun.resolve(['run']);
  await until(
    async () => channel.acked,
    ({ length }) => length > 0,
    'an acknowledgement',
  );
  expect(runs).toEqual([]);
  expect(ends.map(({ id, kind }) => [id, kind])).toEqual([['x', 'released']]);
});

test('a client that gives its own connection up ends its workers, though theirs are there', async () => {
  const dialing = dialingOf({ ...DEFAULTS.reconnect, giveUpAfterMs: 1000 });
  const broker = await RabbitBroker.connect({
    ...dialing,
    ...{ queueType: 'quorum', replies: 'all', prefix: 'millrace', process: { host: 'here', pid: 1 }, store: undefined },
    enqueueTimeoutMs: 1000,
    callTimeoutMs: 1000,
  });
  close = () => broker.close();
  const own = next;
  next = new Model();
  await broker.consume(OPTIONS, consumer);
  dialed.connect = () => Promise.reject(new Error('no route'));
  own.cut();
  for (let i = 0; i < 20; i++) {
    clock.advance(100);
    await turn();
  }
  expect(ended.map(({ code }) => code)).toEqual(['DISCONNECTED']);
  expect(next.closed).toBe(true);
  await broker.close();
  expect(ended).toHaveLength(1);
});
