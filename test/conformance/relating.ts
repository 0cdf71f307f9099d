import { expect } from 'vitest';
import { defineTask, type FlowTask, LIMITS, type Parent } from '../../src/index.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;
const ONCE = { maxAttempts: 1 };

/** Dependencies between tasks, flows and batches. */
export const relating: Behaviours = {
  'a task starts when all that it depends on have completed, and reads their results': async (place) => {
    const client = await place.connect();
    const a = await client.enqueue('number', 20);
    const b = await client.enqueue('number', 22);
    const sum = await client.enqueue<number>('sum', null, { dependsOn: [a, b.id] });
    expect(await sum.info()).toMatchObject({
      state: 'blocked',
      dependencies: { total: 2, open: 2, completed: 0, parents: [{ id: a.id, onFailure: 'cancel' }, { id: b.id }] },
    });
    expect((await a.info()).children).toEqual({ total: 1, ids: [sum.id] });
    const order = new Arrivals<string>();
    await client.work({
      number: (input) => {
        order.add('number');
        return input;
      },
      sum: async (_, context) => {
        order.add('sum');
        const parents = await context.parents();
        expect(parents.map(({ id, name, state }) => [id, name, state])).toEqual([
          [a.id, 'number', 'completed'],
          [b.id, 'number', 'completed'],
        ]);
        return parents.reduce((total, { result }) => total + Number(result), 0);
      },
    });
    expect(await sum.result()).toBe(42);
    expect(order.all).toEqual(['number', 'number', 'sum']);
    expect(await sum.info()).toMatchObject({ state: 'completed', dependencies: { total: 2, open: 0, completed: 2 } });
  },

  'what has completed already counts': async (place) => {
    const client = await place.connect();
    await client.work({ give: (input) => input, take: async (_, context) => (await context.parents())[0]?.result });
    const done = await client.enqueue('give', { n: 1 });
    await done.result();
    const child = await client.enqueue('take', null, { dependsOn: done });
    expect(await child.result()).toEqual({ n: 1 });
    expect(await child.info()).toMatchObject({ dependencies: { total: 1, open: 0, completed: 1 } });
  },

  'a task without dependencies has no parents': async (place) => {
    const client = await place.connect();
    await client.work({ plain: async (_, context) => context.parents() });
    const task = await client.enqueue('plain', null);
    expect(await task.result()).toEqual([]);
    expect((await task.info()).dependencies).toBeUndefined();
  },

  'a flow is submitted whole: a diamond over two queues runs in its order': async (place) => {
    const client = await place.connect();
    const step = defineTask<string, string>('step');
    let bottom: FlowTask<string> | undefined;
    const flow = await client.flow((b) => {
      const top = b.add(step, 'top');
      const left = b.add(step, 'left', { dependsOn: top, queue: 'other' });
      const right = b.add(step, 'right', { dependsOn: [top] });
      bottom = b.add(step, 'bottom', { dependsOn: [left, right] });
    });
    expect(flow.tasks).toHaveLength(4);
    expect(await client.queue('default').status()).toMatchObject({ ready: 1, blocked: 2 });
    expect(await client.queue('other').status()).toMatchObject({ ready: 0, blocked: 1 });
    const order = new Arrivals<string>();
    const seen = new Map<string, Parent[]>();
    await client.work(
      [
        step.handle(async (input, context) => {
          order.add(input);
          seen.set(input, await context.parents());
          return `${input} done`;
        }),
      ],
      { queues: ['default', 'other'] },
    );
    expect(await flow.task(bottom as FlowTask<string>).result()).toBe('bottom done');
    expect(order.all[0]).toBe('top');
    expect(order.all.slice(1, 3).toSorted()).toEqual(['left', 'right']);
    expect(order.all[3]).toBe('bottom');
    expect(seen.get('bottom')?.map(({ result }) => result)).toEqual(['left done', 'right done']);
    expect(await client.queue('default').status()).toMatchObject({ blocked: 0, completed: 3 });
  },

  'a chain runs one after the other': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.flow((b) => {
      let last: FlowTask | undefined;
      for (let i = 0; i < 50; i++) last = b.add('n', i, last === undefined ? {} : { dependsOn: last });
    });
    await client.work({ n: (input) => ran.add(input) });
    await ran.count(50);
    expect(ran.all).toEqual(Array.from({ length: 50 }, (_, i) => i));
  },

  'a fan-out of 10,000 and its fan-in end, with all results': async (place) => {
    const client = await place.connect();
    const count = 10_000;
    await client.work({
      source: () => 1,
      part: (input) => input,
      total: async (_, context) => {
        const parents = await context.parents();
        return [parents.length, parents.reduce((sum, { result }) => sum + Number(result), 0)];
      },
    });
    let last: FlowTask | undefined;
    const flow = await client.flow((b) => {
      const source = b.add('source');
      const parts = Array.from({ length: count }, (_, i) => b.add('part', i, { dependsOn: source }));
      last = b.add('total', null, { dependsOn: parts });
    });
    expect(await flow.task(last as FlowTask).result({ timeoutMs: 60_000 })).toEqual([count, (count * (count - 1)) / 2]);
  },

  'a task whose parent dies or is cancelled is cancelled, and so is what depends on that': async (place) => {
    const client = await place.connect();
    const dying = await client.enqueue('die', null, ONCE);
    const stopped = await client.enqueue('never', null, { delayMs: HOUR });
    const child = await client.enqueue('child', 1, { dependsOn: dying });
    const grandchild = await client.enqueue('child', 2, { dependsOn: child });
    const other = await client.enqueue('child', 3, { dependsOn: stopped });
    const ran = new Arrivals<unknown>();
    await client.work({ die: () => Promise.reject(new Error('no')), child: (input) => ran.add(input) });
    await stopped.cancel();
    for (const task of [child, grandchild, other]) {
      expect((await failure(task.result())).code).toBe('TASK_CANCELLED');
    }
    expect(ran.all).toEqual([]);
    const { blocked, cancelled, totals } = await client.queue('default').status();
    expect({ blocked, cancelled, totals }).toMatchObject({
      blocked: 0,
      cancelled: 4,
      totals: { cancelled: 4, dead: 1 },
    });
  },

  'a task that is to run all the same sees that its parent died, and why': async (place) => {
    const client = await place.connect();
    const dying = await client.enqueue('die', null, ONCE);
    const stopped = await client.enqueue('never', null, { delayMs: HOUR });
    const child = await client.enqueue<unknown>('child', null, {
      dependsOn: [{ task: dying, onFailure: 'run' }, stopped],
      onParentFailure: 'run',
    });
    await client.work({
      die: () => Promise.reject(new RangeError('no')),
      child: async (_, context) =>
        (await context.parents()).map(({ state, error }) => [state, error?.name ?? null, error?.message ?? null]),
    });
    await stopped.cancel();
    expect(await child.result()).toEqual([
      ['dead', 'RangeError', 'no'],
      ['cancelled', null, null],
    ]);
  },

  'a task that is to wait for a redrive stays blocked until its parent is retried and completes': async (place) => {
    const client = await place.connect();
    let isWell = false;
    await client.work({
      flaky: () => (isWell ? 'at last' : Promise.reject(new Error('not yet'))),
      child: async (_, context) => (await context.parents())[0]?.result,
    });
    const parent = await client.enqueue('flaky', null, ONCE);
    const child = await client.enqueue('child', null, { dependsOn: { task: parent, onFailure: 'wait' } });
    expect((await failure(parent.result())).code).toBe('TASK_DEAD');
    expect(await child.info()).toMatchObject({ state: 'blocked', dependencies: { open: 1 } });
    isWell = true;
    await parent.retry();
    expect(await child.result()).toBe('at last');
  },

  'a blocked task can be cancelled, and its parents go on': async (place) => {
    const client = await place.connect();
    const parent = await client.enqueue('parent', null);
    const child = await client.enqueue('child', null, { dependsOn: parent });
    expect(await child.cancel()).toBe('cancelled');
    expect(await client.queue('default').status()).toMatchObject({ blocked: 0, ready: 1 });
    await client.work({ parent: () => 'fine' });
    expect(await parent.result()).toBe('fine');
  },

  'a purge of the parents’ queue ends what depends on them': async (place) => {
    const client = await place.connect();
    const parent = await client.enqueue('parent', null, { queue: 'first' });
    const child = await client.enqueue('child', null, { dependsOn: parent });
    const runs = await client.enqueue('child', 'runs', { dependsOn: { task: parent, onFailure: 'run' } });
    expect(await client.queue('first').purge()).toBe(1);
    expect((await failure(child.result())).code).toBe('TASK_CANCELLED');
    await client.work({ child: (input) => input });
    expect(await runs.result()).toBe('runs');
  },

  'a purge takes what is blocked too': async (place) => {
    const client = await place.connect();
    const parent = await client.enqueue('parent', null, { queue: 'first' });
    const child = await client.enqueue('child', null, { dependsOn: parent });
    expect(await client.queue('default').purge()).toBe(1);
    expect((await failure(child.result())).code).toMatch(/TASK_CANCELLED|NOT_FOUND/);
    expect(await client.queue('default').status()).toMatchObject({ blocked: 0 });
  },

  'a delay of a task that depends on others counts from its enqueue': async (place) => {
    const client = await place.connect();
    const parent = await client.enqueue('parent', null);
    const child = await client.enqueue('child', null, { dependsOn: parent, delayMs: HOUR });
    const soon = await client.enqueue('child', 'soon', { dependsOn: parent, delayMs: 1 });
    await client.work({ parent: () => 1, child: (input) => input });
    expect(await soon.result()).toBe('soon');
    expect(await child.info()).toMatchObject({ state: 'scheduled' });
  },

  'parents are retained for as long as somebody depends on them': async (place) => {
    const client = await place.connect();
    await client.queue('default').retention({ completedCountMax: 0 });
    const go = new Deferred();
    await client.work(
      {
        fast: (input) => input,
        slow: () => go.promise,
        child: async (_, context) => (await context.parents()).map(({ result }) => result ?? null),
      },
      { concurrency: 5 },
    );
    const slow = await client.enqueue('slow', null);
    const held = await client.flow((b) => {
      const parts = [b.add('fast', 'a'), b.add('fast', 'b')];
      b.add('child', null, { dependsOn: [...parts, slow] });
    });
    await until(
      () => held.tasks[2]?.info() as Promise<{ dependencies?: { open: number } }>,
      ({ dependencies }) => dependencies?.open === 1,
    );
    const result = held.tasks[2]?.result();
    go.resolve();
    expect(await result).toEqual(['a', 'b', null]);
    await until(
      () => client.queue('default').status(),
      ({ completed }) => completed === 0,
    );
  },

  'what does not exist, a circle, or the same task twice is refused, and nothing is enqueued': async (place) => {
    const client = await place.connect();
    const known = await client.enqueue('known', null);
    const ended = known.id.replace(/.$/, 'z');
    const unknown = await failure(client.enqueue('child', null, { dependsOn: ended }));
    expect(unknown.code).toBe('NOT_FOUND');
    expect(unknown.message).toContain(ended);
    expect((await failure(client.enqueue('child', null, { dependsOn: [known, known.id] }))).code).toBe(
      'INVALID_ARGUMENT',
    );
    expect((await failure(client.enqueue('child', null, { dependsOn: 5 as unknown as string }))).code).toBe(
      'INVALID_ARGUMENT',
    );
    expect(
      (await failure(client.enqueue('child', null, { dependsOn: known, onParentFailure: 'die' as 'run' }))).code,
    ).toBe('INVALID_ARGUMENT');
    const orphan = await failure(client.enqueue('child', null, { onParentFailure: 'run' }));
    expect([orphan.code, orphan.message]).toEqual(['INVALID_ARGUMENT', expect.stringContaining('dependsOn')]);
    const partly = client.flow((b) => {
      b.add('fine', 1);
      b.add('child', 2, { dependsOn: ended });
    });
    expect((await failure(partly)).code).toBe('NOT_FOUND');
    let other: FlowTask | undefined;
    await client.flow((b) => {
      other = b.add('x');
    });
    const foreign = client.flow((b) => b.add('child', null, { dependsOn: other as FlowTask }));
    expect((await failure(foreign)).code).toBe('INVALID_ARGUMENT');
    const many = new Array<string>(LIMITS.dependenciesMax + 1).fill(known.id);
    expect((await failure(client.enqueue('child', null, { dependsOn: many }))).code).toBe('INVALID_ARGUMENT');
    expect((await failure(client.enqueueMany('child', [1], { dependsOn: known }))).code).toBe('INVALID_ARGUMENT');
    const { tasks } = await client.tasks.list();
    expect(tasks.map(({ name }) => name).filter((name) => name !== 'x')).toEqual(['known']);
  },

  'a batch tells how far it is, and its callback runs when all have ended': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work(
      {
        part: async (input) => {
          if (input === 'dies') throw new Error('no');
          if (input === 'waits') await go.promise;
          return input;
        },
        report: async (input, context) => [input, (await context.parents()).map(({ state }) => state)],
      },
      { concurrency: 5 },
    );
    const group = await client.batch(
      (b) => {
        b.add('part', 'dies', ONCE);
        b.add('part', 'waits');
        b.add('part', 'done');
      },
      { task: 'report', input: 'all' },
    );
    expect(group.tasks).toHaveLength(3);
    await until(
      () => group.progress(),
      ({ ended }) => ended === 2,
    );
    expect(await group.progress()).toEqual({ total: 3, ended: 2, completed: 1, dead: 1, cancelled: 0 });
    go.resolve();
    expect(await group.callback.result()).toEqual(['all', ['dead', 'completed', 'completed']]);
    expect((await failure(client.batch(() => {}, { task: 'report' }))).code).toBe('INVALID_ARGUMENT');
  },

  'dependencies are found again after everything was closed and opened': async (place) => {
    const first = await place.connect();
    const ended = await first.enqueue('fast', 'before');
    const worker = await first.work({ fast: (input) => input });
    await ended.result();
    await worker.stop();
    const open = await first.enqueue('fast', 'after');
    const child = await first.enqueue('child', null, { dependsOn: [ended, open] });
    const doomed = await first.enqueue('child', null, { dependsOn: child });
    const late = await first.enqueue('late', null, { dependsOn: open, delayMs: HOUR });
    await place.restart();
    const client = await place.connect();
    expect(await client.tasks.get(child.id)).toMatchObject({
      state: 'blocked',
      dependencies: { total: 2, open: 1, completed: 1 },
    });
    await client.work({
      fast: (input) => input,
      child: async (_, context) => (await context.parents()).map(({ result }) => result),
    });
    expect(await client.task(child.id).result()).toEqual(['before', 'after']);
    expect(await client.task(doomed.id).result()).toEqual([['before', 'after']]);
    expect(await client.tasks.get(late.id)).toMatchObject({ state: 'scheduled' });
  },
};

/** At most one task with a key. */
export const uniqueness: Behaviours = {
  'a second enqueue with the same unique key gives the first task, and says so': async (place) => {
    const client = await place.connect();
    const first = await client.enqueue('sync', 1, { uniqueKey: 'user-7' });
    const second = await client.enqueue('sync', 2, { uniqueKey: 'user-7' });
    expect([first.isNew, second.isNew]).toEqual([true, false]);
    expect(second.id).toBe(first.id);
    const others = [
      await client.enqueue('sync', 3, { uniqueKey: 'user-8' }),
      await client.enqueue('sync', 4, { uniqueKey: 'user-7', queue: 'other' }),
      await client.enqueue('sync', 5),
    ];
    expect(others.map(({ isNew }) => isNew)).toEqual([true, true, true]);
    expect((await client.tasks.list()).tasks).toHaveLength(4);
    expect((await first.info()).uniqueKey).toBe('user-7');
    await client.work({ sync: (input) => input });
    expect(await second.result()).toBe(1);
  },

  'by default a key is free again when its task has ended, however it ended': async (place) => {
    const client = await place.connect();
    await client.work({ end: (input) => (input === 'dies' ? Promise.reject(new Error('no')) : input) });
    for (const input of ['fine', 'dies', 'again']) {
      const task = await client.enqueue('end', input, { uniqueKey: 'one', ...ONCE });
      expect(task.isNew).toBe(true);
      await task.result().catch(() => {});
    }
    const cancelled = await client.enqueue('never', null, { uniqueKey: 'one', delayMs: HOUR });
    await cancelled.cancel();
    expect((await client.enqueue('never', null, { uniqueKey: 'one', delayMs: HOUR })).isNew).toBe(true);
  },

  'a key for while its task waits is free when that has started': async (place) => {
    const client = await place.connect();
    const waiting = { uniqueKey: { key: 'one', scope: 'waiting' } } as const;
    const first = await client.enqueue('run', 1, waiting);
    expect((await client.enqueue('run', 2, waiting)).id).toBe(first.id);
    const started = new Arrivals<unknown>();
    const go = new Deferred();
    await client.work(
      {
        run: (input) => {
          started.add(input);
          return go.promise;
        },
      },
      { concurrency: 1, prefetch: 1 },
    );
    await started.count(1);
    const next = await client.enqueue('run', 3, waiting);
    expect(next.isNew).toBe(true);
    go.resolve();
    await started.count(2);
    expect(started.all).toEqual([1, 3]);
  },

  'a key for a time is held though its task has ended, and free afterwards': async (place) => {
    const client = await place.connect();
    await client.queue('default').retention({ completedCountMax: 0 });
    await client.work({ quick: (input) => input });
    const options = (forMs: number) => ({ uniqueKey: { key: 'one', scope: { forMs } } });
    const first = await client.enqueue('quick', 1, options(HOUR));
    await first.result().catch(() => {});
    expect(await client.enqueue('quick', 2, options(HOUR))).toMatchObject({ id: first.id, isNew: false });
    const short = { uniqueKey: { key: 'two', scope: { forMs: 300 } } };
    const brief = await client.enqueue('quick', 3, short);
    await until(
      () => client.enqueue('quick', 4, short),
      ({ isNew, id }) => isNew && id !== brief.id,
    );
  },

  'unique tasks of one flow find each other, and can be depended on': async (place) => {
    const client = await place.connect();
    const there = await client.enqueue('step', 'there', { uniqueKey: 'a' });
    const flow = await client.flow((b) => {
      const a = b.add('step', 'not enqueued', { uniqueKey: 'a' });
      const b1 = b.add('step', 'b', { uniqueKey: 'b' });
      const b2 = b.add('step', 'not enqueued', { uniqueKey: 'b' });
      b.add('last', null, { dependsOn: [a, b2] });
      expect(b1.index).toBe(1);
    });
    expect(flow.tasks.map(({ isNew }) => isNew)).toEqual([false, true, false, true]);
    expect(flow.tasks[0]?.id).toBe(there.id);
    expect(flow.tasks[2]?.id).toBe(flow.tasks[1]?.id);
    await client.work({
      step: (input) => input,
      last: async (_, context) => (await context.parents()).map(({ result }) => result),
    });
    expect(await flow.tasks[3]?.result()).toEqual(['there', 'b']);
  },

  'unique keys are held after everything was closed and opened': async (place) => {
    const client = await place.connect();
    const first = await client.enqueue('later', 1, { uniqueKey: 'one', delayMs: HOUR });
    await place.restart();
    const second = await (await place.connect()).enqueue('later', 2, { uniqueKey: 'one', delayMs: HOUR });
    expect(second).toMatchObject({ id: first.id, isNew: false });
  },

  'a unique key outside its bounds is refused': async (place) => {
    const client = await place.connect();
    const wrong: unknown[] = [
      '',
      'x'.repeat(LIMITS.uniqueKeyBytesMax + 1),
      5,
      null,
      { key: 'x', scope: 'always' },
      { key: 'x', scope: { forMs: 0 } },
      { key: 'x', scope: { forMs: LIMITS.uniqueForMsMax + 1 } },
      { key: 'x', until: 'ended' },
      { scope: 'waiting' },
    ];
    for (const uniqueKey of wrong) {
      const error = await failure(client.enqueue('any', null, { uniqueKey: uniqueKey as string }));
      expect(error.code).toBe('INVALID_ARGUMENT');
    }
    expect((await failure(client.enqueueMany('any', [1], { uniqueKey: 'x' }))).code).toBe('INVALID_ARGUMENT');
    expect((await client.tasks.list()).tasks).toEqual([]);
  },
};
