import { expect } from 'vitest';
import { defineTask } from '../../src/index.ts';
import { Arrivals, Deferred } from './events.ts';
import type { Behaviours } from './place.ts';

export const order: Behaviours = {
  'tasks start in the order of their priorities, and of their enqueues within one': async (place) => {
    const client = await place.connect();
    const priorities = [4, 0, 9, 5, 0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 9, 1];
    const batches = priorities.map((priority, i) => client.enqueue('ordered', [priority, i], { priority }));
    await Promise.all(batches);
    const ran = new Arrivals<[number, number]>();
    await client.work([defineTask<[number, number]>('ordered').handle(async (input) => ran.add(input))], {
      concurrency: 1,
    });
    await ran.count(priorities.length);
    const expected = priorities.map((priority, i) => [priority, i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    expect(ran.all).toEqual(expected);
  },

  'a thousand tasks of several batches start in the order of their enqueues': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<number>();
    await client.work([defineTask<number>('next').handle(async (input) => ran.add(input))], { concurrency: 1 });
    const numbers = Array.from({ length: 1000 }, (_, i) => i);
    for (let from = 0; from < 1000; from += 100) await client.enqueueMany('next', numbers.slice(from, from + 100));
    expect(await ran.count(1000)).toEqual(numbers);
  },

  'a task of higher priority that comes later starts before those that wait': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    const go = new Deferred();
    const handler = defineTask<string>('step').handle(async (input) => {
      ran.add(input);
      if (input === 'first') await go.promise;
    });
    await client.work([handler], { concurrency: 1, prefetch: 1 });
    await client.enqueueMany('step', ['first', 'second', 'third']);
    await ran.count(1);
    await client.enqueue('step', 'urgent', { priority: 9 });
    await client.enqueue('step', 'whenever', { priority: 0 });
    go.resolve();
    expect(await ran.count(5)).toEqual(['first', 'urgent', 'second', 'third', 'whenever']);
  },

  'a task that was handed back is the first again': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<string>();
    const go = new Deferred();
    const held = defineTask<string>('held');
    const first = await client.work(
      [
        held.handle(async (input) => {
          ran.add(input);
          await go.promise;
        }),
      ],
      { concurrency: 1, prefetch: 3 },
    );
    await client.enqueueMany(held, ['a', 'b', 'c', 'd']);
    await ran.count(1);
    const stopped = first.stop();
    go.resolve();
    await stopped;
    await client.work([held.handle(async (input) => ran.add(input))], { concurrency: 1 });
    expect(await ran.count(4)).toEqual(['a', 'b', 'c', 'd']);
  },
};
