import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connect, defineTask } from '../../src/index.ts';
import { Arrivals, failure, until } from '../conformance/events.ts';
import { sharedRabbit } from '../support/services.ts';
import { AmqpScene } from './scene.ts';

const rabbit = await sharedRabbit();

describe.skipIf(rabbit === undefined)('queues', () => {
  let scene: AmqpScene;

  beforeEach(async () => {
    if (rabbit !== undefined) scene = await AmqpScene.open(rabbit);
  });

  afterEach(() => scene.close());

  test('that are there with other arguments are an error that names the argument and the way out', async () => {
    await scene.channel.assertQueue('millrace.default', { durable: true, arguments: { 'x-queue-type': 'classic' } });
    const client = await scene.connect();
    const calls = [client.enqueue('any', 1), client.work({ any: () => 1 })];
    for (const error of await Promise.all(calls.map(failure))) {
      expect(error.code).toBe('CONFLICT');
      expect(error.message).toContain('x-queue-type');
      expect(error.message).toContain('queueType');
      expect(error.details).toMatchObject({ argument: 'x-queue-type', name: 'millrace.default' });
    }
    await client.enqueue('any', 1, { queue: 'other' });
  });

  test('of dead letters that are there with other arguments are an error of a worker that starts, and the end of one that needs them', async () => {
    const other = { durable: true, arguments: { 'x-queue-type': 'classic' } };
    const client = await scene.connect();
    const worker = await client.work({ bad: () => Promise.reject(new Error('no')) });
    await scene.channel.deleteQueue('millrace.default.dead');
    await scene.channel.assertQueue('millrace.default.dead', other);
    const { id } = await client.enqueue('bad', 1, { maxAttempts: 1 });
    const ended = await worker.ended;
    expect(ended?.code).toBe('CONFLICT');
    expect(ended?.message).toContain(id);
    expect(ended?.message).toContain('millrace.default.dead');
    const error = await failure(client.work({ bad: () => {} }));
    expect(error.code).toBe('CONFLICT');
    expect(error.details).toMatchObject({ name: 'millrace.default.dead' });
    await until(
      () => client.queue('default').status(),
      ({ ready }) => ready === 1,
    );
  });

  test('that somebody deletes are made again: by the next enqueue, and by a worker that waits', async () => {
    const client = await scene.connect();
    await client.enqueue('any', 'lost with the queue');
    await scene.channel.deleteQueue('millrace.default');
    const ran = new Arrivals<unknown>();
    const kept = await client.enqueueMany('any', ['a', 'b']);
    expect(kept.length).toBe(2);
    await client.work({ any: (input) => ran.add(input) });
    expect(await ran.count(2)).toEqual(['a', 'b']);
    await scene.channel.deleteQueue('millrace.default');
    await client.enqueue('any', 'c');
    expect(await ran.count(3)).toEqual(['a', 'b', 'c']);
  });

  test('of the delay ladder that somebody deletes are made again', async () => {
    const client = await scene.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ later: (input) => ran.add(input) });
    await client.enqueue('later', 1, { delayMs: 20 });
    await ran.count(1);
    for (const level of ['00', '01', '02']) {
      await scene.channel.deleteQueue(`millrace-delay.${level}`).catch(() => {});
      await scene.channel.deleteExchange(`millrace-delay.${level}`);
    }
    await scene.channel.deleteExchange('millrace-due');
    await client.enqueue('later', 2, { delayMs: 20 });
    expect(await ran.count(2)).toEqual([1, 2]);
  });

  test('can be classic, with the same behaviour', async () => {
    const client = await scene.connect({ amqp: { queueType: 'classic' } });
    const kind = defineTask<number, number>('twice', { backoff: { type: 'fixed', delayMs: 20, jitter: false } });
    await client.work([
      kind.handle((input, { attempt }) => {
        if (attempt === 1) throw new Error('once more');
        return input * attempt;
      }),
    ]);
    const task = await client.enqueue(kind, 21, { delayMs: 10 });
    expect(await task.result()).toBe(42);
  });

  test('of another prefix are nobody else’s', async () => {
    const one = await scene.connect({ amqp: { prefix: 'one' } });
    const two = await scene.connect({ amqp: { prefix: 'two' } });
    await one.enqueue('any', 1);
    expect((await failure(two.queue('default').purge())).code).toBe('NOT_FOUND');
    expect(await one.queue('default').purge()).toBe(1);
  });

  test('are purged of what is ready, and their dead letters redriven with fresh attempts', async () => {
    const client = await scene.connect();
    let broken = true;
    const attempts = new Arrivals<number>();
    const worker = await client.work({
      moody: (_, { attempt }) => {
        attempts.add(attempt);
        if (broken) throw new Error('not today');
        return 'well again';
      },
    });
    const tasks = await client.enqueueMany('moody', [1, 2, 3], { maxAttempts: 1 });
    await Promise.allSettled([...tasks].map((task) => task.result()));
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, dead: 3 });
    scene.publish('millrace.default.dead', 'no task at all');
    broken = false;
    expect(await client.queue('default').redrive()).toBe(3);
    expect(await tasks.results()).toEqual(['well again', 'well again', 'well again']);
    expect(attempts.all).toEqual([1, 1, 1, 1, 1, 1]);
    await worker.stop();
    await client.enqueueMany('moody', [1, 2, 3, 4], { priority: 7 });
    await client.enqueue('moody', 5);
    expect(await client.queue('default').purge()).toBe(5);
  });

  test('what needs a store says so', async () => {
    const client = await scene.connect();
    const task = await client.enqueue('any', 1);
    const other = await scene.connect();
    for (const call of [
      () => task.info(),
      () => task.cancel(),
      () => task.retry(),
      () => client.tasks.list(),
      () => client.queue('default').pause(),
      () => client.queue('default').resume(),
      () => client.queue('default').retention({ deadAgeMs: 1 }),
      () => client.schedule('hourly', { everyMs: 3_600_000, task: 'any' }),
      () => client.schedules.list(),
      () => client.enqueue('any', 1, { dependsOn: task }),
      () => client.enqueue('any', 1, { uniqueKey: 'one' }),
      () => client.flow((b) => b.add('any')),
      () => client.batch((b) => b.add('any'), { task: 'all' }),
      () => other.task(task.id).result(),
    ]) {
      const error = await failure(call);
      expect(error.code).toBe('UNSUPPORTED');
      expect(error.message).toContain('store');
    }
    const silent = await scene.connect({ amqp: { replies: 'none' } });
    const error = await failure((await silent.enqueue('any', 1)).result());
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.message).toContain('replies');
  });

  test('a wrong password, a wrong virtual host and a broker that is not there are told apart, at once for what is refused, and never with the password', async () => {
    const secret = 'swordfish';
    const wrongPassword = new URL(scene.url);
    wrongPassword.username = 'guest';
    wrongPassword.password = secret;
    const wrongVhost = new URL(scene.url);
    wrongVhost.pathname = '/nowhere';
    const nobody = new URL(scene.url);
    nobody.port = '1';
    nobody.username = 'guest';
    nobody.password = secret;
    for (const [url, named] of [
      [wrongPassword, 'ACCESS'],
      [wrongVhost, 'nowhere'],
    ] as const) {
      // It would go on trying for longer than the test may take.
      const error = await failure(connect(url.href, { connectTimeoutMs: 60_000 }));
      expect(error.code).toBe('DISCONNECTED');
      expect(error.message).toContain(named);
      expect(JSON.stringify(error) + error.stack).not.toContain(secret);
    }
    const refused = await failure(connect(nobody.href, { connectTimeoutMs: 300 }));
    expect(refused.code).toBe('DISCONNECTED');
    expect(refused.message).toContain('ECONNREFUSED');
    expect(JSON.stringify(refused) + refused.stack).not.toContain(secret);
    const client = await scene.connect();
    expect(client.url).not.toContain(':guest@');
  });
});
