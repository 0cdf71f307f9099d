import amqplib from 'amqplib';
import sql from 'postgres';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createVhost, deleteVhost } from '../../scripts/services/vhosts.mjs';
import { Arrivals, failure, until } from '../conformance/events.ts';
import {
  type Rabbit,
  rabbitPrograms,
  type SharedPostgres,
  type SharedRabbit,
  sharedPostgres,
  startRabbit,
} from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const available = await rabbitPrograms();
const postgres = available ? await sharedPostgres() : undefined;

/** For the names of tests that are skipped. */
const NO_STORE = postgres === undefined ? ' (not here: there is no PostgreSQL)' : '';

const CLASSIC = { amqp: { queueType: 'classic' } } as const;
const FULL = {
  pattern: '^millrace\\.default$',
  definition: { 'max-length': 0, overflow: 'reject-publish' },
  'apply-to': 'queues',
};

/** A broker whose limits and rights the tests set. */
class Strict implements SharedRabbit {
  readonly outlivesRun = false;
  readonly #rabbit: Rabbit;
  vhostName = '';
  #count = 0;

  static async start(): Promise<Strict> {
    return new Strict(await startRabbit({ management: true, config: { max_message_size: 100_000 } }));
  }

  private constructor(rabbit: Rabbit) {
    this.#rabbit = rabbit;
  }

  async vhost(): Promise<{ url: string; drop: () => Promise<void> }> {
    const { url, managementUrl } = this.#rabbit as { url: string; managementUrl: string };
    const name = `strict-${++this.#count}`;
    this.vhostName = name;
    await createVhost(url, managementUrl, name);
    return { url: `${url}/${name}`, drop: () => deleteVhost(url, managementUrl, name) };
  }

  /** What an operator does; `VHOST` in the path stands for the test's. */
  async set(method: 'PUT' | 'DELETE', path: string, body?: object): Promise<void> {
    const response = await fetch(`${this.#rabbit.managementUrl}/api/${path.replace('VHOST', this.vhostName)}`, {
      method,
      headers: { authorization: `Basic ${btoa('guest:guest')}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  }

  stop(): Promise<void> {
    return this.#rabbit.stop();
  }
}

describe.skipIf(!available)('a broker that refuses', () => {
  let broker: Strict;
  let scene: AmqpScene;

  beforeAll(async () => {
    broker = await Strict.start();
  }, 120_000);

  afterAll(() => broker?.stop(), 60_000);

  beforeEach(async () => {
    scene = await AmqpScene.open(broker);
  });

  afterEach(() => scene.close());

  /** Of a classic queue, which looks at its limit for each message. */
  async function setFull(isFull: boolean): Promise<void> {
    if (isFull) await broker.set('PUT', 'policies/VHOST/full', FULL);
    else await broker.set('DELETE', 'policies/VHOST/full');
    const model = await amqplib.connect(scene.url);
    model.on('error', () => {});
    const channel = await model.createConfirmChannel();
    const isRefused = (): Promise<boolean> =>
      new Promise((resolve) => {
        channel.sendToQueue('millrace.default', Buffer.from('{}'), {}, (error) => resolve(error !== null));
      });
    // The broker applies a policy some time after it has said so.
    await until(
      isRefused,
      (refused) => refused === isFull,
      `that millrace.default is ${isFull ? '' : 'no longer '}full`,
    );
    await channel.purgeQueue('millrace.default');
    await model.close();
  }

  test('a message over its limit refuses that one, and takes the others', async () => {
    const client = await scene.connect();
    const big = failure(client.enqueue('any', 'x'.repeat(200_000)));
    const small = Array.from({ length: 20 }, (_, n) => client.enqueue('any', n));
    const error = await big;
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    expect(error.message).toContain('max_message_size');
    await Promise.all(small);
    await client.enqueue('any', 'later');
  });

  test.skipIf(postgres === undefined)(`a message over its limit takes it back from the store${NO_STORE}`, async () => {
    const database = await (postgres as SharedPostgres).database();
    const client = await scene.connect({ store: database.url });
    const error = await failure(client.enqueue('any', 'x'.repeat(200_000)));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, cancelled: 1 });
    await client.close();
    await database.drop();
  });

  test('to be written to says so to whoever enqueues', async () => {
    await broker.set('PUT', 'users/reader', { password: 'reader', tags: '' });
    await broker.set('PUT', 'permissions/VHOST/reader', { configure: '.*', write: '^millrace.*', read: '.*' });
    const url = new URL(scene.url);
    url.username = 'reader';
    url.password = 'reader';
    const client = await scene.connect({}, url.href);
    const error = await failure(client.enqueue('any', 1));
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.message).toContain('amq.default');
    await client.enqueue('any', 2, { delayMs: 60_000 });
  });

  test('to declare what a worker needs ends the start of the worker in time, with the reason', async () => {
    await broker.set('PUT', 'vhost-limits/VHOST/max-queues', { value: 0 });
    const client = await scene.connect({ connectTimeoutMs: 1500 });
    const error = await failure(client.work({ any: () => {} }));
    expect(error.code).toBe('TIMEOUT');
    expect(error.message).toContain('queue limit');
  });

  test('a task for a full queue says that it was not enqueued', async () => {
    const client = await scene.connect(CLASSIC);
    await client.enqueue('any', 1);
    await setFull(true);
    const error = await failure(client.enqueue('any', 2));
    expect(error.code).toBe('QUEUE_FULL');
    expect(error.message).toContain('it was not enqueued');
  });

  test.skipIf(postgres === undefined)(
    `a task that the store has already refuses nothing: it runs when there is room${NO_STORE}`,
    async () => {
      const database = await (postgres as SharedPostgres).database();
      const client = await scene.connect({ ...CLASSIC, store: database.url });
      await client.enqueue('any', 0);
      await setFull(true);
      const tasks = await client.enqueueMany('any', [1, 2]);
      expect(await client.queue('default').status()).toMatchObject({ ready: 3 });
      await setFull(false);
      await client.work({ any: (input: unknown) => input });
      expect(await tasks.results()).toEqual([1, 2]);
      await client.close();
      await database.drop();
    },
    60_000,
  );

  test('what is redriven leaves it dead, and says so; nothing of it runs twice when there is room', async () => {
    const client = await scene.connect(CLASSIC);
    let broken = true;
    const ran = new Arrivals<unknown>();
    const work = {
      moody: (input: unknown) => {
        if (broken) throw new Error('not today');
        ran.add(input);
      },
    };
    const worker = await client.work(work);
    const tasks = await client.enqueueMany('moody', [1, 2, 3], { maxAttempts: 1 });
    await Promise.allSettled([...tasks].map((task) => task.result()));
    await worker.stop();
    await setFull(true);
    const error = await failure(client.queue('default').redrive());
    expect(error.code).toBe('QUEUE_FULL');
    expect(error.message).toContain('0 of them');
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, dead: 3 });
    await setFull(false);
    broken = false;
    await client.work(work);
    expect(await client.queue('default').redrive()).toBe(3);
    await ran.count(3);
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, dead: 0 });
    expect(ran.all).toEqual([1, 2, 3]);
  });

  /** A database of its own for as long as `play` takes, which gets its URL. */
  async function remembering(play: (store: string) => Promise<void>): Promise<void> {
    if (postgres === undefined) return;
    const database = await postgres.database();
    try {
      await play(database.url);
    } finally {
      await database.drop();
    }
  }

  /** The broker as it is to a user who may do everything but write to queues. */
  async function asReader(): Promise<string> {
    await broker.set('PUT', 'users/reader', { password: 'reader', tags: '' });
    await broker.set('PUT', 'permissions/VHOST/reader', { configure: '.*', write: '^millrace.*', read: '.*' });
    const url = new URL(scene.url);
    url.username = 'reader';
    url.password = 'reader';
    return url.href;
  }

  test(
    'a queue that cannot be declared holds up neither those who ask for tasks in it, nor other queues',
    () =>
      remembering(async (store) => {
        const client = await scene.connect({ store, callTimeoutMs: 500 });
        const ran = new Arrivals<unknown>();
        const work = { tick: (input: unknown) => ran.add(input) };
        const ready = await client.work(work);
        await client.enqueue('tick', 'first');
        await ran.count(1);
        await broker.set('PUT', 'vhost-limits/VHOST/max-queues', { value: 0 });
        await client.schedule('stuck', { everyMs: 100, task: 'tick', payload: 'stuck', queue: 'elsewhere' });
        const asked = await client.schedules.runNow('stuck');
        expect(await asked.info()).toMatchObject({ queue: 'elsewhere', state: 'ready' });
        await client.schedules.pause('stuck');
        await client.schedule('flows', { everyMs: 100, task: 'tick', payload: 'flows' });
        await ran.count(3);
        expect(ran.all.slice(1, 3)).toEqual(['flows', 'flows']);
        await client.schedules.remove('flows');
        await broker.set('DELETE', 'vhost-limits/VHOST/max-queues');
        await client.work(work, { queues: ['elsewhere'] });
        expect(await asked.result()).toBe(undefined);
        await ready.stop();
        await client.close();
      }),
    60_000,
  );

  test(
    'a retry that a full queue refuses is done when there is room',
    () =>
      remembering(async (store) => {
        const client = await scene.connect({ ...CLASSIC, store });
        let broken = true;
        const work = {
          moody: () => {
            if (broken) throw new Error('not today');
            return 'well';
          },
        };
        const worker = await client.work(work);
        const task = await client.enqueue('moody', 1, { maxAttempts: 1 });
        await failure(task.result());
        await worker.stop();
        await setFull(true);
        await task.retry();
        expect(await task.info()).toMatchObject({ state: 'ready' });
        await setFull(false);
        broken = false;
        // As if a minute had passed, for which it is the retrier's to publish.
        const database = sql(store, { max: 1, connection: { search_path: 'millrace' } });
        await database`UPDATE outbox SET claimed_until = now()`;
        await database.end();
        await client.work(work);
        expect(await task.result()).toBe('well');
        await client.close();
      }),
    60_000,
  );

  test('what is asked of the store and refused for good is taken back, and says so', () =>
    remembering(async (store) => {
      const client = await scene.connect({ store });
      const worker = await client.work({
        bad: () => {
          throw new Error('not today');
        },
      });
      const task = await client.enqueue('bad', 1, { maxAttempts: 1 });
      await failure(task.result());
      await worker.stop();
      await client.schedule('yearly', { cron: '0 0 1 1 *', task: 'bad' });
      const reader = await scene.connect({ store }, await asReader());
      expect(await failure(reader.task(task.id).retry())).toMatchObject({ code: 'UNSUPPORTED' });
      expect(await task.info()).toMatchObject({ state: 'cancelled' });
      expect(await failure(reader.schedules.runNow('yearly'))).toMatchObject({ code: 'UNSUPPORTED' });
      const { lastTaskId } = await client.schedules.get('yearly');
      const refused = client.task(lastTaskId as string);
      await expect
        .poll(async () => (await refused.info()).log?.lines.map(({ text }) => text).join())
        .toContain('the broker refused it');
      expect(await refused.info()).toMatchObject({ state: 'cancelled' });
      await Promise.all([client.close(), reader.close()]);
    }));

  test('what goes with a refused task is published once', () =>
    remembering(async (store) => {
      const client = await scene.connect({ ...CLASSIC, store });
      await client.work({ root: () => {} }, { queues: ['roots'] });
      await client.enqueue('any', 1);
      await setFull(true);
      const flow = await client.flow((b) => {
        const root = b.add('root', null, { queue: 'roots' });
        b.add('any', 2, { dependsOn: root });
        b.add('any', 3, { dependsOn: root, queue: 'elsewhere' });
      });
      const [, full] = flow.tasks;
      const database = sql(store, { max: 1, connection: { search_path: 'millrace' } });
      await expect
        .poll(async () => (await database<{ ids: string[] }[]>`SELECT ids FROM outbox`).map(({ ids }) => ids))
        .toEqual([[full?.id]]);
      await database.end();
      await client.close();
    }));
});
