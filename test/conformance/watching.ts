import { expect } from 'vitest';
import { defineTask, LIMITS, type TaskEvent, type TaskEvents } from '../../src/index.ts';
import { Deferred, failure } from './events.ts';
import type { Behaviours } from './place.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

/** Takes events until one of this type has come for each of `count` tasks; they are all given. */
async function upTo(events: TaskEvents, type: TaskEvent['type'], count = 1): Promise<TaskEvent[]> {
  const seen: TaskEvent[] = [];
  for (let left = count; left > 0; ) {
    const { done, value } = await events.next();
    if (done === true) throw new Error(`ended after ${JSON.stringify(seen)}`);
    seen.push(value);
    if (value.type === type) left--;
  }
  return seen;
}

function typesOf(events: readonly TaskEvent[], id: string): string[] {
  return events.flatMap((event) => (event.type !== 'dropped' && event.id === id ? [event.type] : []));
}

export const watching: Behaviours = {
  'a task is told to have started before its progress is, however soon it tells of that': async (place) => {
    const client = await place.connect();
    const events = await client.events({ queue: 'default' });
    await client.work({
      soon: async (_, context) => {
        context.progress(0.5);
        await new Promise((resolve) => setImmediate(resolve));
      },
    });
    await client.enqueue('soon', null);
    const types: string[] = [];
    for await (const { type } of events) {
      types.push(type);
      if (type === 'completed') break;
    }
    expect(types).toEqual(['enqueued', 'started', 'progress', 'completed']);
  },

  'the life of a task is told in order, with its attempts': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    const moody = defineTask('moody', { maxAttempts: 3, backoff: AT_ONCE, queue: 'moods' });
    await client.work(
      [
        moody.handle((_, { attempt }) => {
          if (attempt === 1) throw new Error('not yet');
        }),
      ],
      { queues: ['moods'] },
    );
    const { id } = await client.enqueue(moody, null);
    const seen = await upTo(events, 'completed');
    expect(typesOf(seen, id)).toEqual([...['enqueued', 'started', 'failed', 'started', 'completed']]);
    const about = { id, queue: 'moods', name: 'moody', atMs: expect.any(Number) };
    expect(seen[0]).toEqual({ type: 'enqueued', ...about });
    expect(seen.find(({ type }) => type === 'failed')).toMatchObject({
      ...about,
      attempt: 1,
      error: { message: 'not yet', code: 'HANDLER_FAILED' },
    });
    expect(seen.at(-1)).toEqual({ type: 'completed', ...about, attempt: 2 });
  },

  'progress is told while the task runs': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    const events = await client.events();
    await client.work({
      long: async (_, context) => {
        context.progress({ done: 1, of: 3 });
        await go.promise;
      },
    });
    const { id } = await client.enqueue('long', null);
    const seen = await upTo(events, 'progress');
    expect(seen.at(-1)).toMatchObject({ id, attempt: 1, progress: { value: { done: 1, of: 3 } } });
    go.resolve();
    await upTo(events, 'completed');
  },

  'a task that used its attempts is told as failed, then as dead': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    await client.work({
      broken: () => {
        throw new Error('never');
      },
    });
    const { id } = await client.enqueue('broken', null, { maxAttempts: 1 });
    const seen = await upTo(events, 'dead');
    expect(typesOf(seen, id)).toEqual(['enqueued', 'started', 'failed', 'dead']);
    expect(seen.at(-1)).toMatchObject({ attempt: 1, error: { message: 'never' } });
  },

  'cancelled and purged tasks are told as cancelled': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    const [first, second] = [await client.enqueue('a', 1), await client.enqueue('b', 2)];
    await first.cancel();
    await client.queue('default').purge();
    const seen = await upTo(events, 'cancelled', 2);
    expect(typesOf(seen, first.id)).toEqual(['enqueued', 'cancelled']);
    expect(typesOf(seen, second.id)).toEqual(['enqueued', 'cancelled']);
  },

  'only the events of the queue, or of the task, are told': async (place) => {
    const client = await place.connect();
    const watched = await client.enqueue('step', 0, { queue: 'one' });
    const ofTask = await client.events({ task: watched });
    const ofId = await client.events({ task: watched.id });
    const ofQueue = await client.events({ queue: 'two' });
    const other = await client.enqueue('step', 1, { queue: 'one' });
    const inTwo = await client.enqueue('step', 2, { queue: 'two' });
    await client.work({ step: () => {} }, { queues: ['one', 'two'] });
    await Promise.all([watched.result(), other.result(), inTwo.result()]);
    for (const [events, id, types] of [
      [ofTask, watched.id, ['started', 'completed']],
      [ofId, watched.id, ['started', 'completed']],
      [ofQueue, inTwo.id, ['enqueued', 'started', 'completed']],
    ] as const) {
      const seen = await upTo(events, 'completed');
      expect(typesOf(seen, id)).toEqual(types);
      expect(seen).toHaveLength(types.length);
    }
  },

  'the tasks of a large batch are told one by one': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    const batch = await client.enqueueMany('step', new Array(5000).fill(0));
    const seen = await upTo(events, 'enqueued', 5000);
    expect(seen.map((event) => event.type !== 'dropped' && event.id)).toEqual([...batch.ids]);
  },

  'a reader that does not keep up is told how much it missed, and holds nobody up': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    const count = LIMITS.eventsBufferedMax + 500;
    await client.work({ step: () => {} });
    await (await client.enqueueMany('step', new Array(count).fill(0))).results();
    // So that nothing of the batch is on its way any more.
    await client.status();
    const last = await client.enqueue('last', null);
    await last.cancel();
    await client.status();
    const types = new Map<string, number>();
    let missed = 0;
    for (let told = 0; told + missed < 3 * count + 2; ) {
      const { value } = await events.next();
      if (value?.type === 'dropped') missed += value.count ?? Number.NaN;
      else {
        told++;
        types.set(value?.type ?? '', (types.get(value?.type ?? '') ?? 0) + 1);
      }
    }
    expect(missed).toBeGreaterThan(0);
    expect(types.get('enqueued')).toBeGreaterThanOrEqual(LIMITS.eventsBufferedMax);
  },

  'those of one enqueueMany wait for their reader as one event': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    const count = LIMITS.eventsBufferedMax + 500;
    const { ids } = await client.enqueueMany('step', new Array(count).fill(0));
    await client.status();
    const seen = await upTo(events, 'enqueued', count);
    expect(seen.map((event) => event.type !== 'dropped' && event.id)).toEqual([...ids]);
  },

  'a loop over events ends when it is left, and when the client is closed': async (place) => {
    const client = await place.connect();
    const events = await client.events();
    await client.enqueue('step', null);
    for await (const { type } of events) {
      expect(type).toBe('enqueued');
      break;
    }
    expect(await events.next()).toEqual({ done: true, value: undefined });
    const others = await client.events();
    const waiting = others.next();
    await client.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect((await failure(client.events())).code).toBe('CLOSED');
  },

  'events that nobody could mean are refused, and more streams than a client may have': async (place) => {
    const client = await place.connect();
    const wrong: unknown[] = [{ queue: '' }, { queue: 'q', task: '1-1' }, { task: 5 }, { que: 'q' }, 5];
    for (const options of wrong) {
      expect((await failure(client.events(options as { queue: string }))).code).toBe('INVALID_ARGUMENT');
    }
    const streams = [];
    for (let i = 0; i < LIMITS.watchesPerConnectionMax; i++) streams.push(await client.events());
    expect((await failure(client.events())).code).toBe('BUFFER_FULL');
    await streams[0]?.return();
    await client.events();
  },
};
