import { expect } from 'vitest';
import { type Client, defineTask, type Worker } from '../../src/index.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

export const working: Behaviours = {
  'no more handlers run at once than the concurrency says, and no fewer': async (place) => {
    const client = await place.connect();
    let running = 0;
    let most = 0;
    await client.work(
      {
        step: async () => {
          most = Math.max(most, ++running);
          await new Promise((resolve) => setImmediate(resolve));
          running--;
        },
      },
      { concurrency: 3 },
    );
    const batches = [await client.enqueueMany('step', new Array(50).fill(0)), await client.enqueueMany('step', [1])];
    await Promise.all(batches.map((batch) => batch.results()));
    expect(most).toBe(3);
  },

  'a worker holds no more tasks than its prefetch says': async (place) => {
    const client = await place.connect();
    const { started, go } = await stuck(client, { concurrency: 1, prefetch: 3 });
    const tasks = await client.enqueueMany('stuck', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await started.count(1);
    // What it holds beside the one that started may still be on its way.
    const { workers } = await until(
      () => client.status(),
      (status) => (status.workers[0]?.held ?? 0) >= 3,
    );
    expect(workers).toMatchObject([{ held: 3, running: 1 }]);
    const counts = await until(
      () => client.queue('default').status(),
      ({ active }) => active >= 3,
    );
    expect(counts).toMatchObject({ ready: 7, active: 3 });
    go.resolve();
    await tasks.results();
    expect(started.all).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  },

  'two workers with room share what is there': async (place) => {
    const client = await place.connect();
    const options = { concurrency: 5, prefetch: 20 };
    const first = await stuck(client, options);
    const second = await stuck(await place.connect(), options);
    const tasks = await client.enqueueMany('stuck', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await Promise.all([first.started.count(5), second.started.count(5)]);
    first.go.resolve();
    second.go.resolve();
    await tasks.results();
    expect(first.started.all).toHaveLength(5);
    expect(second.started.all).toHaveLength(5);
  },

  'one worker takes the tasks of several queues': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    await client.work({ step: (input, { queue }) => ran.add(`${queue} ${input}`) }, { queues: ['left', 'right'] });
    await client.enqueue('step', 1, { queue: 'left' });
    await client.enqueue('step', 2, { queue: 'right' });
    await client.enqueue('step', 3, { queue: 'nobody' });
    await client.enqueue('step', 4, { queue: 'left' });
    expect((await ran.count(3)).toSorted()).toEqual(['left 1', 'left 4', 'right 2']);
    expect(await client.queue('nobody').status()).toMatchObject({ ready: 1 });
  },

  'no queue of a busy worker starves, also when another is filled all the time': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    await client.enqueueMany('step', new Array(500).fill(0), { queue: 'busy' });
    await client.enqueueMany('step', new Array(5).fill(0), { queue: 'calm' });
    const refills: Promise<unknown>[] = [];
    const refill = (queue: string): void => {
      ran.add(queue);
      if (queue === 'busy' && ran.all.length < 400) refills.push(client.enqueue('step', 0, { queue }));
    };
    await client.work({ step: async (_, { queue }) => refill(queue) }, { queues: ['busy', 'calm'], concurrency: 2 });
    await ran.count(505);
    await Promise.all(refills);
    expect(ran.all.lastIndexOf('calm')).toBeLessThan(100);
  },

  'a worker takes the queues of its definitions': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    const left = defineTask('left.task', { queue: 'left' });
    const right = defineTask('right.task', { queue: 'right' });
    const worker = await client.work([
      left.handle((_, { queue }) => ran.add(queue)),
      right.handle((_, { queue }) => ran.add(queue)),
    ]);
    expect(worker.queues.toSorted()).toEqual(['left', 'right']);
    await client.enqueue(left, null);
    await client.enqueue(right, null);
    expect((await ran.count(2)).toSorted()).toEqual(['left', 'right']);
  },

  'stop() waits for what runs and hands back what did not start, uncharged': async (place) => {
    const client = await place.connect();
    const { worker, started, go } = await stuck(client, { concurrency: 2, prefetch: 6 });
    const tasks = [...(await client.enqueueMany('stuck', [1, 2, 3, 4, 5, 6]))];
    await started.count(2);
    const stopped = worker.stop({ timeoutMs: 60_000 });
    expect(await ready(client, 4)).toMatchObject({ ready: 4, active: 2 });
    go.resolve();
    expect(await stopped).toEqual({ finished: 2, abandoned: 0 });
    expect(started.all).toEqual([1, 2]);
    expect(await client.queue('default').status()).toMatchObject({ ready: 4, active: 0, completed: 2 });
    await client.work({ stuck: (_, { attempt }) => attempt });
    expect(await Promise.all(tasks.slice(2).map((task) => task.result()))).toEqual([1, 1, 1, 1]);
  },

  'stop() resolves although a handler never ends; its task is aborted and handed back uncharged': async (place) => {
    const client = await place.connect();
    const started = new Deferred<AbortSignal>();
    const worker = await client.work({
      endless: (_, { signal }) => {
        started.resolve(signal);
        return new Promise(() => {});
      },
    });
    const task = await client.enqueue('endless', null);
    const signal = await started.promise;
    expect(await worker.stop({ timeoutMs: 20 })).toEqual({ finished: 0, abandoned: 1 });
    expect(signal.reason).toMatchObject({ code: 'STOPPING' });
    expect(await task.info()).toMatchObject({ state: 'ready', attempt: 0, failures: [] });
    await client.work({ endless: (_, { attempt }) => attempt });
    expect(await task.result()).toBe(1);
  },

  'a second stop() can only shorten what the first one waits': async (place) => {
    const client = await place.connect();
    const { worker, started } = await stuck(client, { concurrency: 1 });
    await client.enqueue('stuck', 'x');
    await started.count(1);
    const stopped = worker.stop({ timeoutMs: 600_000 });
    const later = worker.stop({ timeoutMs: 900_000 });
    expect(await Promise.race([stopped, later, worker.stop({ timeoutMs: 20 })])).toEqual({ finished: 0, abandoned: 1 });
  },

  'what a handler returns after its worker was stopped is ignored': async (place) => {
    const client = await place.connect();
    const { worker, started, go } = await stuck(client, { concurrency: 1 });
    const task = await client.enqueue('stuck', 'x');
    await started.count(1);
    await worker.stop({ timeoutMs: 0 });
    go.resolve();
    await client.work({ stuck: () => 'by the second' });
    expect(await task.result()).toBe('by the second');
  },

  'stop() again gives the same answer, and the worker says that it ended': async (place) => {
    const client = await place.connect();
    const { worker } = await stuck(client, {});
    const [first, second] = await Promise.all([worker.stop(), worker.stop()]);
    expect(first).toEqual({ finished: 0, abandoned: 0 });
    expect(second).toBe(first);
    expect(await worker.ended).toBeUndefined();
  },

  'a stopped worker gets nothing, and another one can be started': async (place) => {
    const client = await place.connect();
    const { worker, started } = await stuck(client, {});
    await worker.stop();
    const task = await client.enqueue('stuck', null);
    await client.work({ stuck: () => 'second worker' });
    expect(await task.result()).toBe('second worker');
    expect(started.all).toEqual([]);
  },

  'what runs and completes while the worker stops is durable when stop() resolves': async (place) => {
    const client = await place.connect();
    const { worker, started, go } = await stuck(client, { concurrency: 20 });
    const tasks = await client.enqueueMany('stuck', new Array(20).fill(0));
    await started.count(20);
    const stopped = worker.stop();
    go.resolve();
    expect(await stopped).toEqual({ finished: 20, abandoned: 0 });
    for (const task of tasks) expect(await task.info()).toMatchObject({ state: 'completed' });
  },

  'handlers that never wait do not keep the process from anything else': async (place) => {
    const client = await place.connect();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const busy = defineTask('busy');
    await client.work([busy.handle(() => burn(2))], { concurrency: 50 });
    await client.enqueueMany(busy, new Array(100).fill(0));
    const task = await client.enqueue('busy', null);
    await task.result();
    clearInterval(timer);
    expect(turns).toBeGreaterThan(8);
  },

  'two workers of one client run beside each other': async (place) => {
    const client = await place.connect();
    const both = await Promise.all([
      stuck(client, { concurrency: 1, prefetch: 1 }),
      stuck(client, { concurrency: 1, prefetch: 1 }),
    ]);
    const tasks = await client.enqueueMany('stuck', [1, 2]);
    await Promise.all(both.map(({ started }) => started.count(1)));
    for (const { go } of both) go.resolve();
    await tasks.results();
  },

  'two handlers with one name, no handler, and a bound that is none are refused': async (place) => {
    const client = await place.connect();
    const one = defineTask('one').handle(() => 1);
    for (const start of [
      () => client.work([one, one]),
      () => client.work([]),
      () => client.work({}),
      () => client.work([one], { concurrency: 0 }),
      () => client.work([one], { concurrency: 10, prefetch: 9 }),
      () => client.work([one], { queues: [] }),
      () => client.work([one], { queues: [''] }),
    ]) {
      expect((await failure(start)).code).toBe('INVALID_ARGUMENT');
    }
    expect((await client.status()).workers).toEqual([]);
  },
};

interface Stuck {
  worker: Worker;
  started: Arrivals<unknown>;
  go: Deferred;
}

/** A worker whose handlers wait for `go`. */
async function stuck(client: Client, options: Parameters<Client['work']>[1]): Promise<Stuck> {
  const started = new Arrivals<unknown>();
  const go = new Deferred();
  const handler = async (input: unknown): Promise<void> => {
    started.add(input);
    await go.promise;
  };
  return { worker: await client.work({ stuck: handler }, options), started, go };
}

function ready(client: Client, count: number): Promise<{ ready: number; active: number }> {
  return until(
    () => client.queue('default').status(),
    (status) => status.ready === count,
  );
}

function burn(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs);
}
