import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Client, type ClientOptions, connect } from '../../src/index.ts';
import { Arrivals, Deferred, failure } from '../conformance/events.ts';
import { Program } from '../conformance/program.ts';
import { type Rabbit, rabbitPrograms, startRabbit } from '../support/services.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;
const QUICK = { initialDelayMs: 50, maxDelayMs: 300 };

const here = await rabbitPrograms();

describe.skipIf(!here)('a broker', () => {
  let rabbit: Rabbit;
  const clients: Client[] = [];
  let tests = 0;
  let prefix = '';

  beforeAll(async () => {
    // The second is how often channels look for what was not acknowledged in time: once a minute by default.
    rabbit = await startRabbit({ config: { consumer_timeout: 2000, channel_tick_interval: 250 } });
  }, 150_000);

  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close({ timeoutMs: 0 })));
  });

  afterAll(() => rabbit?.stop());

  async function open(options: ClientOptions = {}): Promise<Client> {
    const client = await connect(rabbit.url, {
      reconnect: QUICK,
      amqp: { prefix },
      connectTimeoutMs: 60_000,
      ...options,
    });
    clients.push(client);
    return client;
  }

  function place(): void {
    prefix = `t${++tests}`;
  }

  test('that is restarted in order while tasks flow loses none of them', async () => {
    place();
    const producer = await open();
    const worker = await open();
    const ran = new Arrivals<number>();
    const kind = { maxAttempts: 5, backoff: AT_ONCE };
    await worker.work({
      number: async (input, { attempt }) => {
        await new Promise((resolve) => setImmediate(resolve));
        if (Number(input) % 10 === 0 && attempt === 1) throw new Error('once');
        ran.add(Number(input));
        return input;
      },
    });
    const ids: string[] = [];
    const results: Promise<unknown>[] = [];
    let next = 0;
    const produce = async (): Promise<void> => {
      while (next < 1200) {
        const task = await producer.enqueue('number', next++, kind);
        ids.push(task.id);
        results.push(task.result({ timeoutMs: 120_000 }));
      }
    };
    const produced = Promise.all(Array.from({ length: 20 }, produce));
    await ran.count(100);
    await rabbit.halt();
    await rabbit.start();
    await produced;
    expect((await Promise.all(results)).toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 1200 }, (_, i) => i),
    );
    expect(new Set(ids).size).toBe(1200);
  }, 180_000);

  test('whose producers close while their tasks end keeps its workers connected', async () => {
    place();
    const worker = await open();
    const said: string[] = [];
    const say = (_details: object, message: string): void => void said.push(message);
    const starts = new Map<string, number>();
    const ran = new Arrivals<number>();
    await worker.work(
      {
        number: (input, { id }) => {
          starts.set(id, (starts.get(id) ?? 0) + 1);
          ran.add(Number(input));
        },
      },
      { logger: { info: say, warn: say, error: say } },
    );
    for (let round = 0; round < 5; round++) {
      const producer = await open();
      await Promise.all(Array.from({ length: 200 }, (_, i) => producer.enqueue('number', i)));
      await producer.close();
    }
    await ran.count(1000);
    expect(said).toEqual([]);
    expect([...starts.values()].filter((count) => count > 1)).toEqual([]);
  }, 60_000);

  test('that is restarted in order still has what waits for its time', async () => {
    place();
    const producer = await open();
    const calledMs = Date.now();
    const tasks = await producer.enqueueMany('later', [1, 2, 3], { delayMs: 4000 });
    const results = tasks.results({ timeoutMs: 120_000 });
    await rabbit.halt();
    await rabbit.start();
    await (await open()).work({ later: (input) => [input, Date.now() - calledMs] });
    for (const [index, [input, afterMs]] of ((await results) as [number, number][]).entries()) {
      expect(input).toBe(index + 1);
      expect(afterMs).toBeGreaterThanOrEqual(4000);
    }
  }, 180_000);

  test('that is away keeps nobody from stopping and closing', async () => {
    place();
    const client = await open();
    const started = new Deferred();
    const worker = await client.work({
      hang: () => {
        started.resolve();
        return new Promise(() => {});
      },
    });
    await client.enqueue('hang', 1);
    await started.promise;
    await rabbit.kill();
    const enqueued = failure(client.enqueue('hang', 2));
    expect(await worker.stop({ timeoutMs: 50 })).toEqual({ finished: 0, abandoned: 1 });
    await client.close({ timeoutMs: 50 });
    expect((await enqueued).code).toBe('CLOSED');
    expect((await failure(connect(rabbit.url, { connectTimeoutMs: 300 }))).code).toBe('DISCONNECTED');
    await rabbit.start();
  }, 120_000);

  test('that takes no messages is said to, and gets them when it does again', async () => {
    place();
    const client = await open({ enqueueTimeoutMs: 1500 });
    await (await open()).enqueue('any', 0);
    await rabbit.ctl(['set_vm_memory_high_watermark', '0.00000001']);
    const blocked = await failure(
      (async () => {
        for (let n = 1; ; n++) await client.enqueue('any', n);
      })(),
    );
    expect(blocked.code).toBe('TIMEOUT');
    expect(blocked.message).toContain('memory');
    await rabbit.ctl(['set_vm_memory_high_watermark', '0.4']);
    const ran = new Arrivals<unknown>();
    await (await open()).work({ any: (input) => ran.add(input) });
    await ran.count(2);
    expect(ran.all.slice(0, 2)).toEqual([0, 1]);
  }, 120_000);

  test('ends a task that kills its workers, and charges nothing to those that were held beside it', async () => {
    place();
    const client = await open();
    const kinds = { maxAttempts: 2, backoff: AT_ONCE };
    const poison = await client.enqueue('die', null, kinds);
    const beside = await client.enqueueMany('block', new Array(20).fill(1), kinds);
    const dead = failure(poison.result({ timeoutMs: 110_000 }));
    const results = beside.results({ timeoutMs: 110_000 });
    let over = false;
    const done = Promise.all([dead, results]).finally(() => {
      over = true;
    });
    let deaths = 0;
    while (!over && deaths < 20) {
      const worker = Program.start('worker', [rabbit.url, '4', prefix]);
      const ended = await Promise.race([worker.ended, done.then(() => 'done' as const)]);
      if (ended === 'done') await worker.kill();
      else deaths++;
    }
    expect((await dead).cause).toMatchObject({ code: 'WORKER_LOST' });
    for (const { attempt } of (await results) as { attempt: number }[]) expect(attempt).toBe(1);
    // Twice before it was suspect, and then its two attempts.
    expect(deaths).toBeLessThanOrEqual(5);
  }, 120_000);

  test('whose consumer_timeout is shorter than a handler does not start it again beside itself, and its end counts', async () => {
    place();
    const client = await open();
    const started = new Arrivals<number>();
    const said = new Arrivals<string>();
    const say = (_: object, message: string): void => said.add(message);
    const go = new Deferred();
    await client.work(
      {
        long: async (_, { attempt }) => {
          started.add(attempt);
          await go.promise;
          return 'finished';
        },
        quick: () => 'quick',
      },
      { logger: { info: say, warn: say, error: say } },
    );
    const long = await client.enqueue('long', null, { maxAttempts: 3 });
    await started.count(1);
    const [lost, back] = ['the connection was lost; running tasks go on', 'the connection is back'];
    // Its time is over twice: for the message, and for the one that was brought again.
    expect(await said.count(4)).toEqual([lost, back, lost, back]);
    // What was brought again goes before what is enqueued now.
    for (let i = 0; i < 5; i++) await (await client.enqueue('quick', null)).result();
    go.resolve();
    expect(await long.result()).toBe('finished');
    expect(started.all).toEqual([1]);
  }, 60_000);
});
