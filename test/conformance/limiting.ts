import { expect } from 'vitest';
import { LIMITS, type Queue } from '../../src/index.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const NONE = { concurrency: null, rate: null, concurrencyPerKey: null, length: null };

/** How many handlers run at the same time, of all and by key. */
class Gauge {
  readonly started = new Arrivals<string>();
  most = 0;
  readonly mostOf = new Map<string, number>();
  readonly #running = new Map<string, number>();
  #all = 0;
  #gate = new Deferred();
  #letGo = 0;

  enter(key: string): void {
    const running = (this.#running.get(key) ?? 0) + 1;
    this.#running.set(key, running);
    this.mostOf.set(key, Math.max(running, this.mostOf.get(key) ?? 0));
    this.most = Math.max(this.most, ++this.#all);
    this.started.add(key);
  }

  leave(key: string): void {
    this.#running.set(key, (this.#running.get(key) ?? 0) - 1);
    this.#all--;
  }

  /** Runs until it is let go. */
  readonly handler = async (input: unknown): Promise<void> => {
    const key = String(input);
    this.enter(key);
    await this.#gate.promise;
    this.leave(key);
  };

  /** So many more run, so many of them together: each wave is let go when no more than these have come. */
  async waves(queue: Queue, count: number, together: number): Promise<void> {
    for (let left = count; left > 0; left -= together) {
      this.#letGo += together;
      await this.started.count(this.#letGo);
      expect((await queue.status()).active).toBe(together);
      expect([this.#all, this.started.all.length]).toEqual([together, this.#letGo]);
      const gate = this.#gate;
      this.#gate = new Deferred();
      gate.resolve();
    }
  }
}

export const limiting: Behaviours = {
  'no more tasks of a queue run at the same time than its concurrency, over all workers': async (place) => {
    const client = await place.connect();
    expect(await client.queue('few').limit({ concurrency: 3 })).toEqual({ ...NONE, concurrency: 3 });
    expect((await client.queue('few').status()).limits).toEqual({ ...NONE, concurrency: 3 });
    const gauge = new Gauge();
    const others = await place.connect();
    for (const each of [client, others]) await each.work({ step: gauge.handler }, { queues: ['few'], concurrency: 20 });
    const tasks = await client.enqueueMany('step', new Array(60).fill('x'), { queue: 'few' });
    await gauge.waves(client.queue('few'), 60, 3);
    await tasks.results();
    expect(gauge.most).toBe(3);
    expect(gauge.started.all).toHaveLength(60);
  },

  'a limited queue does not hold up others of the same worker': async (place) => {
    const client = await place.connect();
    await client.queue('few').limit({ concurrency: 1 });
    const go = new Deferred();
    const ran = new Arrivals<unknown>();
    await client.work(
      {
        step: async (input) => {
          ran.add(input);
          if (input === 'stuck') await go.promise;
        },
      },
      { queues: ['few', 'free'], concurrency: 5 },
    );
    const stuck = await client.enqueueMany('step', ['stuck', 'behind'], { queue: 'few' });
    await ran.count(1);
    await (await client.enqueueMany('step', [1, 2, 3], { queue: 'free' })).results();
    expect(ran.all).toEqual(['stuck', 1, 2, 3]);
    go.resolve();
    await stuck.results();
  },

  'tasks are handed out no faster than the rate of their queue': async (place) => {
    const client = await place.connect();
    await client.queue('paced').limit({ rate: { count: 10, periodMs: 200, burst: 2 } });
    const atMs: number[] = [];
    await client.work({ step: () => void atMs.push(performance.now()) }, { queues: ['paced'] });
    const beganMs = performance.now();
    await (await client.enqueueMany('step', new Array(12).fill(0), { queue: 'paced' })).results();
    // Two at once, then one every 20 ms; clocks of two processes and timers may differ by a little.
    for (const [index, startMs] of atMs.entries()) {
      expect(startMs - beganMs).toBeGreaterThanOrEqual(Math.max(0, index - 1) * 20 - 5);
    }
  },

  'status says what holds a queue up': async (place) => {
    const client = await place.connect();
    const queue = client.queue('few');
    await queue.limit({ concurrency: 1, rate: { count: 2, periodMs: LIMITS.ratePeriodMsMax } });
    const tasks = await client.enqueueMany('step', [1, 2, 3], { queue: 'few' });
    expect((await queue.status()).heldUpBy).toBeUndefined();
    const started = new Arrivals<unknown>();
    const go = new Deferred();
    await client.work(
      {
        step: async (input) => {
          started.add(input);
          await go.promise;
        },
      },
      { queues: ['few'] },
    );
    await started.count(1);
    expect((await queue.status()).heldUpBy).toBe('concurrency');
    go.resolve();
    await tasks.at(1).result();
    expect((await queue.status()).heldUpBy).toBe('rate');
    await queue.pause();
    expect((await queue.status()).heldUpBy).toBe('paused');
  },

  'limits are changed and lifted while tasks wait': async (place) => {
    const client = await place.connect();
    const queue = client.queue('few');
    await queue.limit({ concurrency: 1, rate: { count: 1, periodMs: LIMITS.ratePeriodMsMax } });
    const ran = new Arrivals<unknown>();
    await client.work({ step: (input) => ran.add(input) }, { queues: ['few'], concurrency: 10 });
    const tasks = await client.enqueueMany('step', [1, 2, 3, 4], { queue: 'few' });
    await tasks.at(0).result();
    expect(await queue.limit({ rate: { count: 2, periodMs: LIMITS.ratePeriodMsMax } })).toEqual({
      ...{ ...NONE, concurrency: 1 },
      rate: { count: 2, periodMs: LIMITS.ratePeriodMsMax, burst: 2 },
    });
    await tasks.at(2).result();
    expect(ran.all).toEqual([1, 2, 3]);
    expect(await queue.limit({ rate: null, concurrency: null })).toEqual(NONE);
    await tasks.at(3).result();
  },

  'tasks of different keys take turns, so that a long backlog of one does not hold up another': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.enqueueMany('step', new Array(200).fill('big'), { concurrencyKey: 'big' });
    await client.enqueueMany('step', new Array(5).fill('small'), { concurrencyKey: 'small' });
    await client.enqueueMany('step', new Array(3).fill('none'));
    await client.work({ step: (input) => ran.add(input) }, { concurrency: 1, prefetch: 1 });
    await ran.count(208);
    const first = ran.all.slice(0, 13);
    expect(first.filter((input) => input === 'small')).toHaveLength(5);
    expect(first.filter((input) => input === 'none')).toHaveLength(3);
  },

  'a higher priority goes first, whatever its key': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.enqueueMany('step', ['a1', 'a2'], { concurrencyKey: 'a' });
    await client.enqueueMany('step', ['b1', 'b2'], { concurrencyKey: 'b', priority: 7 });
    await client.work({ step: (input) => ran.add(input) }, { concurrency: 1, prefetch: 1 });
    expect(await ran.count(4)).toEqual(['b1', 'b2', 'a1', 'a2']);
  },

  'no more tasks of one key run at the same time than the queue says': async (place) => {
    const client = await place.connect();
    await client.queue('default').limit({ concurrencyPerKey: 2 });
    const gauge = new Gauge();
    await client.work({ step: gauge.handler }, { concurrency: 20 });
    const keys = ['a', 'b', 'c'];
    const batches = await Promise.all(
      keys.map((concurrencyKey) => client.enqueueMany('step', new Array(20).fill(concurrencyKey), { concurrencyKey })),
    );
    await gauge.waves(client.queue('default'), 60, 6);
    for (const batch of batches) await batch.results();
    for (const key of keys) expect(gauge.mostOf.get(key)).toBe(2);
    expect(gauge.started.all).toHaveLength(60);
  },

  'a key that fails its tasks does not lose its turn, and counts none of them twice': async (place) => {
    const client = await place.connect();
    await client.queue('default').limit({ concurrencyPerKey: 1 });
    const gauge = new Gauge();
    await client.work({
      step: async (input, { attempt }) => {
        await gauge.handler(input);
        if (attempt < 3) throw new Error('again');
      },
    });
    const options = { concurrencyKey: 'a', backoff: { type: 'fixed', delayMs: 0, jitter: false } } as const;
    const queue = client.queue('default');
    const tasks = await client.enqueueMany('step', new Array(10).fill('a'), options);
    await gauge.waves(queue, 30, 1);
    await tasks.results();
    expect((await queue.status()).totals).toEqual({ enqueued: 10, completed: 10, failed: 20, dead: 0, cancelled: 0 });
    const others = await client.enqueueMany('step', new Array(3).fill('a'), options);
    await gauge.waves(queue, 9, 1);
    await others.results();
    expect((await queue.status()).totals).toEqual({ enqueued: 13, completed: 13, failed: 26, dead: 0, cancelled: 0 });
    expect(gauge.mostOf.get('a')).toBe(1);
  },

  'limits and keys are found again after everything was closed and opened': async (place) => {
    const first = await place.connect();
    await first.queue('default').limit({ concurrencyPerKey: 1, concurrency: 5 });
    await first.enqueueMany('step', new Array(10).fill('a'), { concurrencyKey: 'a' });
    await first.enqueueMany('step', new Array(10).fill('b'), { concurrencyKey: 'b' });
    await place.restart();
    const client = await place.connect();
    expect((await client.queue('default').status()).limits).toEqual({ ...NONE, concurrencyPerKey: 1, concurrency: 5 });
    const gauge = new Gauge();
    await client.work({ step: gauge.handler });
    await gauge.waves(client.queue('default'), 20, 2);
    await until(
      () => client.queue('default').status(),
      ({ completed }) => completed === 20,
    );
    expect([gauge.mostOf.get('a'), gauge.mostOf.get('b')]).toEqual([1, 1]);
    expect(gauge.started.all.slice(0, 4).toSorted()).toEqual(['a', 'a', 'b', 'b']);
  },

  'a queue takes no more unfinished tasks than its length, and says how many it has room for': async (place) => {
    const client = await place.connect();
    const queue = client.queue('short');
    const options = { queue: 'short' };
    const refused = (room: number): object => ({ code: 'QUEUE_FULL', details: { queue: 'short', length: 4, room } });
    expect(await queue.limit({ length: 4 })).toEqual({ ...NONE, length: 4 });
    const tasks = await client.enqueueMany('step', [1, 2], options);
    expect(await failure(client.enqueueMany('step', [3, 4, 5], options))).toMatchObject(refused(2));
    // One of three that depend on each other waits for the others, and counts.
    const flow = (count: number) =>
      client.flow((builder) => {
        let last = builder.add('step', 0, options);
        for (let more = count - 1; more > 0; more--) last = builder.add('step', more, { ...options, dependsOn: last });
      });
    expect(await failure(flow(3))).toMatchObject(refused(2));
    await flow(2);
    expect(await failure(client.enqueue('step', 5, { ...options, delayMs: 60_000 }))).toMatchObject(refused(0));
    expect((await queue.status()).totals).toMatchObject({ enqueued: 4 });
    await client.enqueue('elsewhere', 1);
    await client.work({ step: () => 'done' }, { queues: ['short'] });
    await tasks.results();
    await until(
      () => queue.status(),
      ({ completed }) => completed === 4,
    );
    expect(await (await client.enqueue('step', 6, options)).result()).toBe('done');
  },

  'calls of one turn are refused one by one, those that do not fit, and nothing of other queues': async (place) => {
    const client = await place.connect();
    await client.queue('short').limit({ length: 3 });
    const options = { queue: 'short' };
    const outcomes = await Promise.allSettled([
      client.enqueue('step', 1, options),
      client.enqueueMany('step', [2, 3, 4], options),
      client.enqueue('step', 5),
      client.enqueueMany('step', [6, 7], options),
      client.enqueueMany('step', [8, 9]),
      client.enqueue('other', 10, options),
    ]);
    const states = ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected'];
    expect(outcomes.map(({ status }) => status)).toEqual(states);
    const ran = new Arrivals<unknown>();
    await client.work({ step: (input) => ran.add(input) }, { queues: ['default', 'short'], concurrency: 1 });
    expect((await ran.count(6)).toSorted()).toEqual([1, 5, 6, 7, 8, 9]);
    expect(ran.all.filter((input) => [5, 8, 9].includes(input as number))).toEqual([5, 8, 9]);
  },

  'a unique task that exists takes no room, however full its queue is': async (place) => {
    const client = await place.connect();
    await client.queue('short').limit({ length: 1 });
    const unique = (key: string) => client.enqueue('step', key, { queue: 'short', uniqueKey: key });
    const first = await unique('a');
    expect(await unique('a')).toMatchObject({ id: first.id, isNew: false });
    expect(await failure(unique('b'))).toMatchObject({ code: 'QUEUE_FULL', details: { queue: 'short', room: 0 } });
    expect((await client.queue('short').status()).ready).toBe(1);
  },

  'what is retried or redriven is taken beyond the length of its queue': async (place) => {
    const client = await place.connect();
    const queue = client.queue('short');
    const worker = await client.work(
      {
        step: () => {
          throw new Error('no');
        },
      },
      { queues: ['short'] },
    );
    const tasks = await client.enqueueMany('step', [1, 2, 3], { queue: 'short', maxAttempts: 1 });
    const outcomes = await Promise.allSettled([...tasks].map((task) => task.result()));
    expect(outcomes.map(({ status }) => status)).toEqual(new Array(3).fill('rejected'));
    await worker.stop();
    await queue.limit({ length: 1 });
    await client.tasks.retry(tasks.at(0).id);
    expect(await queue.redrive()).toBe(2);
    expect((await queue.status()).ready).toBe(3);
    expect(await failure(client.enqueue('step', 4, { queue: 'short' }))).toMatchObject({ code: 'QUEUE_FULL' });
  },

  'a limit or key outside its bounds is refused, and changes nothing': async (place) => {
    const client = await place.connect();
    const queue = client.queue('default');
    const wrong: unknown[] = [
      { concurrency: 0 },
      { concurrency: 1.5 },
      { concurrency: '3' },
      { concurrencyPerKey: -1 },
      { length: 0 },
      { length: LIMITS.queueLengthMax + 1 },
      { length: '5' },
      { rate: 5 },
      { rate: { count: 0, periodMs: 1000 } },
      { rate: { count: 1, periodMs: 0 } },
      { rate: { count: 1, periodMs: LIMITS.ratePeriodMsMax + 1 } },
      { rate: { count: 1, periodMs: 1000, burst: 0 } },
      { rate: { count: 1, periodMs: 1000, per: 'second' } },
      { conurrency: 1 },
      null,
    ];
    for (const limits of wrong) {
      expect((await failure(queue.limit(limits as { concurrency: number }))).code).toBe('INVALID_ARGUMENT');
    }
    for (const concurrencyKey of ['', 'x'.repeat(LIMITS.concurrencyKeyBytesMax + 1), 5]) {
      const error = await failure(() => client.enqueue('any', 1, { concurrencyKey: concurrencyKey as string }));
      expect(error.code).toBe('INVALID_ARGUMENT');
    }
    await client.enqueue('any', 1);
    expect((await queue.status()).limits).toEqual(NONE);
  },
};
