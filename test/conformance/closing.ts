import { expect } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { Deferred, failure, HeldHandler } from './events.ts';
import type { Behaviours } from './place.ts';

export const closing: Behaviours = {
  'whatever waits when the client is closed rejects with CLOSED': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('nobody', null);
    const waits = [task.result(), task.result({ timeoutMs: 60_000 }), client.task(task.id).result()].map(failure);
    await client.close();
    expect((await Promise.all(waits)).map((error) => error.code)).toEqual(['CLOSED', 'CLOSED', 'CLOSED']);
  },

  'whatever is asked of a closed client rejects with CLOSED': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const task = await client.enqueue('nobody', null);
    await client.close();
    for (const call of [
      () => client.enqueue('nobody', null),
      () => client.enqueueMany('nobody', [1, 2]),
      () => task.result(),
      () => task.info(),
      () => task.cancel(),
      () => client.status(),
      () => client.tasks.list(),
      () => client.queue('default').pause(),
      () => client.schedule('hourly', { everyMs: 3_600_000, task: 'nobody' }),
      () => client.schedules.list(),
      () => client.work({ nobody: () => 1 }),
    ]) {
      expect((await failure(call)).code).toBe('CLOSED');
    }
    expect(await keeper.tasks.get(task.id)).toMatchObject({ state: 'ready' });
  },

  'enqueues that were not awaited are durable when close() resolves': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const tasks = Promise.all(Array.from({ length: 100 }, (_, i) => client.enqueue('late', i)));
    await client.close();
    expect(new Set((await tasks).map((task) => task.id)).size).toBe(100);
    expect(await keeper.queue('default').status()).toMatchObject({ ready: 100 });
  },

  'close() stops the workers and waits for what runs': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const long = new HeldHandler(() => 'finished');
    await client.work({ long: long.run });
    const task = await keeper.enqueue('long', null);
    await long.started.promise;
    const closed = client.close();
    long.go.resolve();
    await closed;
    expect(await keeper.task(task.id).result()).toBe('finished');
  },

  'a worker that is starting while its client closes does not outlive it': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const started = new Deferred();
    const go = new Deferred();
    await client.work({
      long: () => {
        started.resolve();
        return go.promise;
      },
    });
    await keeper.enqueue('long', null);
    await started.promise;
    const starting = failure(client.work({ late: () => 1 }));
    const closed = client.close();
    expect((await failure(() => client.work({ later: () => 1 }))).code).toBe('CLOSED');
    expect((await starting).code).toBe('CLOSED');
    go.resolve();
    await closed;
    expect(client.workers).toEqual([]);
  },

  'close() resolves although a handler never ends, and its task goes back uncharged': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const started = new Deferred();
    await client.work({
      endless: () => {
        started.resolve();
        return new Promise(() => {});
      },
    });
    const task = await keeper.enqueue('endless', null);
    await started.promise;
    await client.close({ timeoutMs: 20 });
    expect(await keeper.tasks.get(task.id)).toMatchObject({ state: 'ready', attempt: 0 });
  },

  'stop() and close() resolve whatever time they are given': async (place) => {
    for (const timeoutMs of [0, -1, Number.NaN, 0.5, Number.POSITIVE_INFINITY]) {
      const client = await place.connect();
      const worker = await client.work({ any: () => 1 });
      expect(await worker.stop({ timeoutMs })).toEqual({ finished: 0, abandoned: 0 });
      await client.work({ any: () => 1 });
      await client.close({ timeoutMs });
    }
  },

  'close() twice, or of a client that did nothing, resolves': async (place) => {
    const client = await place.connect();
    await Promise.all([client.close(), client.close()]);
    await client.close();
  },

  'a client that is disposed of is closed': async (place) => {
    const client = await place.connect();
    await client[Symbol.asyncDispose]();
    expect((await failure(() => client.enqueue('nobody', null))).code).toBe('CLOSED');
  },

  'a client closed inside one of its handlers does not hang': async (place) => {
    const keeper = await place.connect();
    const client = await place.connect();
    const called = new Deferred();
    let closed: Promise<void> | undefined;
    const last = defineTask('last');
    await client.work([
      last.handle(() => {
        closed = client.close({ timeoutMs: 50 });
        called.resolve();
        return 'the end';
      }),
    ]);
    const task = await keeper.enqueue(last, null);
    await called.promise;
    await closed;
    expect(await task.result()).toBe('the end');
  },
};
