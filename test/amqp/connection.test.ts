import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Client } from '../../src/index.ts';
import { Arrivals, Deferred, failure } from '../conformance/events.ts';
import { sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const rabbit = await sharedRabbit();

/** Handlers that say that they started, and wait. */
class Held {
  readonly started = new Arrivals<{ input: unknown; attempt: number; signal: AbortSignal }>();
  readonly go = new Deferred();
  /** What the worker says of its connection. */
  readonly said = new Arrivals<string>();

  async work(
    client: Client,
    options: Parameters<Client['work']>[1] = {},
  ): Promise<Awaited<ReturnType<Client['work']>>> {
    const say = (_: object, message: string): void => this.said.add(message);
    return client.work(
      {
        task: async (input, { attempt, signal }) => {
          this.started.add({ input, attempt, signal });
          await this.go.promise;
          return attempt;
        },
      },
      { ...options, logger: { info: say, warn: say, error: say } },
    );
  }
}

describe.skipIf(rabbit === undefined)('a connection', () => {
  let scene: AmqpScene;

  beforeEach(async () => {
    if (rabbit !== undefined) scene = await AmqpScene.open(rabbit);
  });

  afterEach(() => scene.close());

  test('that is cut in the middle of enqueues loses none of them, and doubles none of the ids', async () => {
    const { proxy, url } = await scene.proxy();
    const client = await scene.connect({}, url);
    await client.enqueue('number', -1);
    const ids: string[] = [];
    let next = 0;
    let more = new Deferred();
    const producer = async (): Promise<void> => {
      while (next < 1500) {
        ids.push((await client.enqueue('number', next++)).id);
        if (ids.length % 300 === 0) more.resolve();
      }
    };
    const producers = Promise.all(Array.from({ length: 20 }, producer));
    for (let cuts = 0; cuts < 4; cuts++) {
      await more.promise;
      more = new Deferred();
      proxy.cut();
    }
    await producers;
    expect(new Set(ids).size).toBe(1500);
    const ran = new Set<number>();
    const all = new Deferred();
    const worker = await scene.connect();
    await worker.work({
      number: (input) => {
        ran.add(Number(input));
        if (ran.size === 1501) all.resolve();
      },
    });
    await all.promise;
  });

  test('that is cut keeps what runs: the handler is not started again, and its end counts', async () => {
    const { proxy, url } = await scene.proxy();
    const producer = await scene.connect();
    const held = new Held();
    await held.work(await scene.connect({}, url), { concurrency: 3, prefetch: 3 });
    const tasks = await producer.enqueueMany('task', [1, 2, 3]);
    await held.started.count(3);
    proxy.cut();
    await held.said.count(2);
    expect(held.said.all).toEqual(['the connection was lost; running tasks go on', 'the connection is back']);
    held.go.resolve();
    expect(await tasks.results()).toEqual([1, 1, 1]);
    expect(held.started.all.map(({ input }) => input)).toEqual([1, 2, 3]);
  });

  test('that is cut while two attempts of one task run keeps the tags of the old channel from the new one', async () => {
    const { proxy, url } = await scene.proxy();
    const client = await scene.connect({}, url);
    const [begun, old, ended] = [new Arrivals<string>(), new Deferred(), new Deferred()];
    const never = new Promise<void>(() => {});
    const said = new Arrivals<string>();
    const say = (_: object, message: string): void => said.add(message);
    await client.work(
      {
        fill: () => 1,
        same: async (_, { attempt }) => {
          begun.add(`same ${attempt}`);
          await (attempt === 1 ? old.promise : never);
          ended.resolve();
        },
        victim: () => {
          begun.add('victim');
          return never;
        },
      },
      { concurrency: 4, logger: { info: say, warn: say, error: say } },
    );
    for (const id of ['f1', 'f2']) scene.publish('millrace.default', JSON.stringify({ task: 'fill', payload: 1, id }));
    scene.publish('millrace.default', '{"task":"same","payload":1,"id":"same"}');
    await begun.count(1);
    scene.publish('millrace.default', '{"task":"same","payload":1,"id":"same","attempt":2}');
    scene.publish('millrace.default', '{"task":"victim","payload":1,"id":"victim"}');
    await begun.count(3);
    const back = { same: new Deferred(), victim: new Deferred() };
    proxy.cut();
    const direct = await scene.connect();
    await said.count(2);
    // Behind the messages that are back with the worker that runs them.
    await (await direct.enqueue('fill', 0)).result();
    old.resolve();
    await ended.promise;
    // What the worker acknowledges for it goes before what comes later.
    for (let i = 0; i < 5; i++) await (await direct.enqueue('fill', i)).result();
    proxy.refuse();
    proxy.cut();
    await direct.work({ same: () => back.same.resolve(), victim: () => back.victim.resolve() }, { concurrency: 4 });
    await Promise.all([back.same.promise, back.victim.promise]);
  });

  test('that is cut while a task without an id runs does not begin it again', async () => {
    const { proxy, url } = await scene.proxy();
    const held = new Held();
    const client = await scene.connect({}, url);
    await held.work(client, { concurrency: 3 });
    await client.work({ quick: () => 1 }, { queues: ['quick'] });
    scene.publish('millrace.default', '{"task":"task","payload":"nameless"}');
    await held.started.count(1);
    // By then the message without an id, in whose place it runs, is acknowledged.
    const other = await scene.connect();
    for (let i = 0; i < 20; i++) await (await other.enqueue('quick', i, { queue: 'quick' })).result();
    proxy.cut();
    await held.said.count(2);
    scene.publish('millrace.default', '{"task":"task","payload":"later"}');
    await held.started.count(2);
    held.go.resolve();
    expect(held.started.all.map(({ input }) => input)).toEqual(['nameless', 'later']);
  });

  test('that is cut while all that a worker may hold ends does not keep the next task from it', async () => {
    const { proxy, url } = await scene.proxy();
    const producer = await scene.connect();
    const held = new Held();
    await held.work(await scene.connect({}, url), { concurrency: 1, prefetch: 1 });
    const first = await producer.enqueue('task', 1);
    await held.started.count(1);
    proxy.refuse();
    proxy.cut();
    await held.said.count(1);
    held.go.resolve();
    await turn();
    proxy.pass();
    expect(await first.result()).toBe(1);
    expect(await (await producer.enqueue('task', 2)).result()).toBe(1);
    expect(held.started.all.map(({ input }) => input)).toEqual([1, 2]);
  });

  test('that is cut while tasks flow loses none of them', async () => {
    const { proxy, url } = await scene.proxy();
    const producer = await scene.connect();
    const worker = await scene.connect({}, url);
    const ran = new Arrivals<number>();
    await worker.work({
      number: async (input) => {
        await new Promise((resolve) => setImmediate(resolve));
        ran.add(Number(input));
        return input;
      },
    });
    const numbers = Array.from({ length: 3000 }, (_, i) => i);
    const tasks = await producer.enqueueMany('number', numbers);
    const results = tasks.results();
    for (const count of [300, 900, 1500]) {
      await ran.count(count);
      proxy.cut();
    }
    expect(await results).toEqual(numbers);
  });

  test('of a worker that does not come back gives its tasks to another, uncharged the first time', async () => {
    const { proxy, url } = await scene.proxy();
    const producer = await scene.connect();
    const lost = new Held();
    const stuckClient = await scene.connect({ reconnect: { initialDelayMs: 60_000, maxDelayMs: 60_000 } }, url);
    await lost.work(stuckClient, { concurrency: 2, prefetch: 2 });
    const tasks = await producer.enqueueMany('task', [1, 2]);
    await lost.started.count(2);
    proxy.cut();
    const other = new Held();
    other.go.resolve();
    await other.work(await scene.connect());
    expect(await tasks.results()).toEqual([1, 1]);
  });

  test('whose channel the broker closes gets a new one', async () => {
    const client = await scene.connect();
    const held = new Held();
    held.go.resolve();
    await held.work(client);
    await (await client.enqueue('task', 1)).result();
    // A delay whose exchange is not there ends the channel that publishes it.
    await client.enqueue('task', 2, { delayMs: 1 });
    await scene.channel.deleteExchange('millrace-delay.00');
    await scene.channel.deleteExchange('millrace-delay.01');
    expect(await (await client.enqueue('task', 3, { delayMs: 1 })).result()).toBe(1);
    expect(await (await client.enqueue('task', 4)).result()).toBe(1);
  });

  test('that is refused again and again ends nothing: stop and close resolve, and what waits is told', async () => {
    const { proxy, url } = await scene.proxy();
    const [client, impatient] = [await scene.connect({}, url), await scene.connect({ enqueueTimeoutMs: 300 }, url)];
    const held = new Held();
    const worker = await held.work(client);
    const task = await client.enqueue('task', 1);
    await held.started.count(1);
    proxy.refuse();
    proxy.cut();
    const waiting = failure(task.result());
    const unconfirmed = await failure(impatient.enqueue('task', 2));
    expect(unconfirmed.code).toBe('TIMEOUT');
    expect(unconfirmed.message).toContain('there is no connection');
    expect(await worker.stop({ timeoutMs: 50 })).toEqual({ finished: 0, abandoned: 1 });
    await client.close({ timeoutMs: 100 });
    expect((await waiting).code).toBe('CLOSED');
    expect((await failure(client.enqueue('task', 3))).code).toBe('CLOSED');
  });

  test('on which nothing comes any more does not hold stop and close', async () => {
    const { proxy, url } = await scene.proxy();
    const client = await scene.connect({}, url);
    const held = new Held();
    const worker = await held.work(client);
    await client.enqueue('task', 1);
    await held.started.count(1);
    proxy.hold();
    await worker.stop({ timeoutMs: 50 });
    await client.close({ timeoutMs: 50 });
    proxy.pass();
  });

  test('on which the broker falls silent is given up: what is unconfirmed goes over the next', async () => {
    const { proxy, url } = await scene.proxy();
    // Two looks at what is unconfirmed, and a close that nobody answers: fourteen seconds of its time.
    const client = await scene.hurried(5, url);
    await client.enqueue('task', 1);
    proxy.strand();
    await client.enqueue('task', 2);
    expect(JSON.parse((await scene.get('millrace.default')).content.toString())).toMatchObject({ payload: 1 });
    expect(JSON.parse((await scene.get('millrace.default')).content.toString())).toMatchObject({ payload: 2 });
  });

  test('given up after giveUpAfterMs ends its workers with DISCONNECTED', async () => {
    const { proxy, url } = await scene.proxy();
    const client = await scene.connect({ reconnect: { giveUpAfterMs: 200, initialDelayMs: 20, maxDelayMs: 50 } }, url);
    const worker = await new Held().work(client);
    proxy.refuse();
    proxy.cut();
    expect((await worker.ended)?.code).toBe('DISCONNECTED');
    expect((await failure(client.enqueue('task', 1))).code).toBe('DISCONNECTED');
  });
});
