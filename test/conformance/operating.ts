import { expect } from 'vitest';
import { defineTask, LIMITS, type ScalingReport } from '../../src/index.ts';
import { Arrivals, Deferred, failure, HeldHandler, until } from './events.ts';
import { pages } from './pages.ts';
import type { Behaviours } from './place.ts';

const HOUR = 3_600_000;
const REPORT: ScalingReport = {
  ...{ id: '0123456789abcdef', name: 'crew', host: 'here', pid: 7, queues: ['a', 'b'] },
  ...{ min: 1, max: 8, current: 2, retiring: 1 },
  decisions: [{ atMs: 1_790_000_000_000, from: 1, to: 2, reason: '40 tasks wait, the oldest for 6 s' }],
};
const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

export const operating: Behaviours = {
  'a dead task that is retried runs with fresh attempts and keeps its errors': async (place) => {
    const client = await place.connect();
    const healed = new Deferred();
    let broken = true;
    const seen = new Arrivals<number>();
    const moody = defineTask('moody', { maxAttempts: 2, backoff: AT_ONCE });
    await client.work([
      moody.handle((_, { attempt }) => {
        seen.add(attempt);
        if (broken) throw new Error('not today');
        healed.resolve();
        return 'well again';
      }),
    ]);
    const task = await client.enqueue(moody, null);
    await failure(task.result());
    await task.retry();
    await failure(task.result());
    expect(seen.all).toEqual([1, 2, 1, 2]);
    broken = false;
    await task.retry();
    expect(await task.result()).toBe('well again');
    expect(seen.all).toEqual([1, 2, 1, 2, 1]);
    expect((await task.info()).failures).toHaveLength(4);
  },

  'only dead and scheduled tasks can be retried': async (place) => {
    const client = await place.connect();
    const long = new HeldHandler(() => {});
    const ready = await client.enqueue('wait', null, { queue: 'unattended' });
    await client.work({ long: long.run });
    const active = await client.enqueue('long', null);
    await long.started.promise;
    for (const [task, state] of [
      [ready, 'ready'],
      [active, 'active'],
    ] as const) {
      const error = await failure(task.retry());
      expect(error.code).toBe('CONFLICT');
      expect(error.message).toContain(state);
    }
    long.go.resolve();
    await active.result();
    expect((await failure(active.retry())).code).toBe('CONFLICT');
  },

  'redrive makes all dead tasks of one queue ready again': async (place) => {
    const client = await place.connect();
    let broken = true;
    const work = defineTask<number, number>('work', { maxAttempts: 1 });
    await client.work(
      [
        work.handle(async (input) => {
          if (broken && input % 2 === 0) throw new Error('not today');
          return input;
        }),
      ],
      { queues: ['a', 'b'] },
    );
    const tasks = [...(await client.enqueueMany(work, [0, 1, 2, 3, 4], { queue: 'a' }))];
    const other = await client.enqueue(work, 0, { queue: 'b' });
    await Promise.allSettled([...tasks, other].map((task) => task.result()));
    expect(await client.queue('a').status()).toMatchObject({ dead: 3, completed: 2 });
    broken = false;
    expect(await client.queue('a').redrive()).toBe(3);
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual([0, 1, 2, 3, 4]);
    expect(await other.info()).toMatchObject({ state: 'dead' });
    expect(await client.queue('a').redrive()).toBe(0);
  },

  'a paused queue starts nothing while others go on, and takes enqueues': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ step: (input) => ran.add(input) }, { queues: ['paused', 'open'] });
    await client.queue('paused').pause();
    await client.enqueueMany('step', ['p1', 'p2'], { queue: 'paused' });
    for (const input of ['o1', 'o2', 'o3']) await (await client.enqueue('step', input, { queue: 'open' })).result();
    expect(ran.all).toEqual(['o1', 'o2', 'o3']);
    expect(await client.queue('paused').status()).toMatchObject({ paused: true, ready: 2, active: 0 });
    await client.queue('paused').pause();
    await client.queue('paused').resume();
    expect(await ran.count(5)).toEqual(['o1', 'o2', 'o3', 'p1', 'p2']);
    expect(await client.queue('paused').status()).toMatchObject({ paused: false });
  },

  'what runs when its queue is paused goes on': async (place) => {
    const client = await place.connect();
    const long = new HeldHandler(() => 'finished');
    await client.work({ long: long.run });
    const task = await client.enqueue('long', null);
    await long.started.promise;
    await client.queue('default').pause();
    long.go.resolve();
    expect(await task.result()).toBe('finished');
  },

  'purge removes what waits, ends those who wait for it, and leaves what runs': async (place) => {
    const client = await place.connect();
    const started = new Deferred();
    const go = new Deferred();
    await client.work(
      {
        long: async () => {
          started.resolve();
          await go.promise;
        },
      },
      { concurrency: 1, prefetch: 1 },
    );
    const running = await client.enqueue('long', null);
    await started.promise;
    const ready = [...(await client.enqueueMany('long', [1, 2, 3]))];
    const scheduled = await client.enqueue('long', null, { delayMs: HOUR });
    const elsewhere = await client.enqueue('long', null, { queue: 'other' });
    const waiting = [...ready, scheduled].map((task) => failure(task.result()));
    expect(await client.queue('default').purge()).toBe(4);
    expect((await Promise.all(waiting)).map((error) => error.code)).toEqual(new Array(4).fill('TASK_CANCELLED'));
    go.resolve();
    await running.result();
    expect(await client.queue('default').status()).toMatchObject({ ready: 0, scheduled: 0, active: 0, completed: 1 });
    expect(await elsewhere.info()).toMatchObject({ state: 'ready' });
    expect(await client.queue('default').purge()).toBe(0);
  },

  'a queue that was never used cannot be resumed, purged, redriven or looked at': async (place) => {
    const client = await place.connect();
    await client.enqueue('wait', null, { queue: 'real' });
    const queue = client.queue('reel');
    // All are waited for from the start: they come back in any order.
    const calls = [queue.resume(), queue.purge(), queue.redrive(), queue.status()].map((call) => failure(call));
    for (const error of await Promise.all(calls)) {
      expect(error.code).toBe('NOT_FOUND');
      expect(error.message).toContain('"reel"');
    }
  },

  'retention by count keeps the newest ended tasks': async (place) => {
    const client = await place.connect();
    await client.work({
      fine: (input) => input,
      broken: () => Promise.reject(new Error('no')),
    });
    const retention = await client.queue('default').retention({ completedCountMax: 2, deadCountMax: 1 });
    expect(retention).toMatchObject({ completedCountMax: 2, deadCountMax: 1, completedAgeMs: HOUR });
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      const task = await client.enqueue('fine', i);
      await task.result();
      ids.push(task.id);
    }
    for (let i = 0; i < 3; i++) {
      const task = await client.enqueue('broken', i, { maxAttempts: 1 });
      await failure(task.result());
      ids.push(task.id);
    }
    const known = async (id: string): Promise<boolean> => {
      try {
        await client.tasks.get(id);
        return true;
      } catch {
        return false;
      }
    };
    expect(await Promise.all(ids.map(known))).toEqual([false, false, false, true, true, false, false, true]);
    expect(await client.queue('default').status()).toMatchObject({
      completed: 2,
      dead: 1,
      totals: { completed: 5, dead: 3 },
    });
    expect((await failure(client.task(ids[0]).result())).code).toBe('NOT_FOUND');
    await client.queue('default').retention({ completedCountMax: 0 });
    expect(await client.queue('default').status()).toMatchObject({ completed: 0, dead: 1 });
  },

  'retention by age forgets ended tasks that are older': async (place) => {
    const client = await place.connect();
    await client.work({
      fine: () => 'done',
      broken: () => Promise.reject(new Error('no')),
    });
    await client.queue('default').retention({ completedAgeMs: 1 });
    const completed = await client.enqueue('fine', null);
    const dead = await client.enqueue('broken', null, { maxAttempts: 1 });
    // Forgotten perhaps before anyone could ask.
    await Promise.allSettled([completed.result(), dead.result()]);
    await until(
      () => client.queue('default').status(),
      (status) => status.completed === 0,
    );
    expect((await failure(completed.info())).code).toBe('NOT_FOUND');
    expect(await dead.info()).toMatchObject({ state: 'dead' });
    await client.queue('default').retention({ deadAgeMs: 1 });
    await until(
      () => client.queue('default').status(),
      (status) => status.dead === 0,
    );
  },

  'a result that is waited for arrives even when nothing is retained': async (place) => {
    const client = await place.connect();
    await client.queue('default').retention({ completedCountMax: 0, deadCountMax: 0 });
    const tasks = [...(await client.enqueueMany('square', [1, 2, 3, 4]))];
    const results = Promise.all(tasks.map((task) => task.result()));
    const broken = await client.enqueue('broken', null, { maxAttempts: 1 });
    const waiting = failure(broken.result());
    // The server knows of the waits once it has answered this.
    await client.status();
    await client.work({
      square: (input) => Number(input) ** 2,
      broken: () => Promise.reject(new Error('no')),
    });
    expect(await results).toEqual([1, 4, 9, 16]);
    expect((await waiting).code).toBe('TASK_DEAD');
    expect((await failure(tasks[0].result())).code).toBe('NOT_FOUND');
  },

  'the counts of a queue are those of its tasks': async (place) => {
    const client = await place.connect();
    const started = new Arrivals<unknown>();
    const go = new Deferred();
    await client.work(
      {
        fine: () => null,
        broken: () => Promise.reject(new Error('no')),
        long: async (input) => {
          started.add(input);
          await go.promise;
        },
      },
      { concurrency: 10, prefetch: 10 },
    );
    const ended = [
      ...(await client.enqueueMany('fine', [1, 2, 3])),
      ...(await client.enqueueMany('broken', [1, 2], { maxAttempts: 2, backoff: AT_ONCE })),
    ];
    await Promise.allSettled(ended.map((task) => task.result()));
    const running = await client.enqueueMany('long', [1, 2, 3, 4]);
    await started.count(4);
    await client.queue('default').pause();
    await client.enqueueMany('fine', [1, 2, 3, 4, 5]);
    await client.enqueueMany('fine', [1, 2, 3, 4, 5, 6], { delayMs: HOUR });
    await (await client.enqueue('fine', null)).cancel();
    const status = await client.queue('default').status();
    expect(status).toMatchObject({
      name: 'default',
      paused: true,
      ready: 5,
      active: 4,
      scheduled: 6,
      blocked: 0,
      completed: 3,
      dead: 2,
      cancelled: 1,
      totals: { enqueued: 21, completed: 3, failed: 4, dead: 2, cancelled: 1 },
    });
    expect(status.oldestReadyMs).toBeGreaterThanOrEqual(0);
    const listed = await client.tasks.list({ queue: 'default', limit: 1000 });
    const counts: Record<string, number> = {};
    for (const { state } of listed.tasks) counts[state] = (counts[state] ?? 0) + 1;
    expect(counts).toEqual({ ready: 5, active: 4, scheduled: 6, completed: 3, dead: 2, cancelled: 1 });
    go.resolve();
    await running.results();
  },

  'tasks are listed once each over the pages, by queue, name and state': async (place) => {
    const client = await place.connect();
    const ids = new Map<string, string>();
    for (const queue of ['a', 'b']) {
      for (const name of ['x', 'y']) {
        const later = await client.enqueueMany(name, [1, 2, 3], { queue, delayMs: HOUR });
        const now = await client.enqueueMany(name, [1, 2, 3, 4], { queue });
        for (const id of later.ids) ids.set(id, `${queue} ${name} scheduled`);
        for (const id of now.ids) ids.set(id, `${queue} ${name} ready`);
      }
    }
    const all = await pages(client, { limit: 5 });
    // Those that were enqueued first come first.
    expect(all.map((task) => task.id)).toEqual([...ids.keys()]);
    for (const task of all) expect(`${task.queue} ${task.name} ${task.state}`).toBe(ids.get(task.id));
    expect(all[0]).not.toHaveProperty('payload');
    expect(all[0].payloadBytes).toBe(1);
    expect(await pages(client, { queue: 'a' })).toHaveLength(14);
    expect(await pages(client, { name: 'x', state: 'ready', limit: 3 })).toHaveLength(8);
    expect(await pages(client, { queue: 'b', name: 'y', state: 'scheduled' })).toHaveLength(3);
    expect(await pages(client, { queue: 'nowhere' })).toEqual([]);
    expect((await client.tasks.list({ limit: 28 })).next).toBeUndefined();
    for (const filter of [{ limit: 0 }, { limit: 1001 }, { limit: 1.5 }, { state: 'sleeping' as never }]) {
      expect((await failure(() => client.tasks.list(filter))).code).toBe('INVALID_ARGUMENT');
    }
  },

  'what a supervisor of workers says last is in status, for as long as it goes on saying it': async (place) => {
    const { client, broker } = await place.open();
    expect((await client.status()).supervisors).toEqual([]);
    await broker.reportScaling(REPORT);
    await broker.reportScaling({ ...REPORT, id: 'fedcba9876543210', name: 'other', decisions: [] });
    const later = { ...REPORT, current: 1, retiring: 0 };
    await broker.reportScaling(later);
    const supervisors = (await client.status()).supervisors ?? [];
    expect(supervisors.map(({ name }) => name).sort()).toEqual(['crew', 'other']);
    const crew = supervisors.find(({ name }) => name === 'crew');
    expect(crew).toEqual({ ...later, lastSeenMs: expect.any(Number) });
    expect(crew?.lastSeenMs).toBeLessThan(LIMITS.scalingForgottenMs);
  },

  'a report of a supervisor that cannot be is refused': async (place) => {
    const { client, broker } = await place.open();
    const [decision] = REPORT.decisions;
    for (const wrong of [
      { id: 'short' },
      { name: '' },
      { max: 0 },
      { min: 9 },
      { current: 9 },
      { queues: [''] },
      { decisions: Array(LIMITS.scalingDecisionsMax + 1).fill(decision) },
      { decisions: [{ ...decision, reason: 'x'.repeat(LIMITS.scalingReasonCharactersMax + 1) }] },
    ]) {
      const error = await failure(broker.reportScaling({ ...REPORT, ...wrong } as ScalingReport));
      expect(error.code, JSON.stringify(wrong)).toBe('INVALID_ARGUMENT');
    }
    expect((await client.status()).supervisors).toEqual([]);
  },

  'status names the workers with what they do': async (place) => {
    const client = await place.connect({ name: 'observer' });
    const started = new Arrivals<unknown>();
    const go = new Deferred();
    const worker = await client.work(
      {
        long: async (input) => {
          started.add(input);
          await go.promise;
        },
        fine: () => 1,
      },
      { name: 'the worker', queues: ['default', 'other'], concurrency: 2, prefetch: 4 },
    );
    await (await client.enqueue('fine', null)).result();
    const tasks = await client.enqueueMany('long', [1, 2, 3, 4, 5]);
    await started.count(2);
    // What it holds beside the two may still be on its way.
    const status = await until(
      () => client.status(),
      ({ workers }) => workers[0]?.held === 4,
    );
    expect(status.workers).toMatchObject([
      {
        name: 'the worker',
        pid: process.pid,
        queues: ['default', 'other'],
        concurrency: 2,
        prefetch: 4,
        held: 4,
        running: 2,
        completed: 1,
        failed: 0,
      },
    ]);
    expect(status.workers[0].utilisation).toBeGreaterThan(0);
    expect(status.server).toMatchObject({ stopping: false });
    expect(status.latencyMs.total.count).toBe(1);
    go.resolve();
    await tasks.results();
    await worker.stop();
    await until(
      () => client.status(),
      ({ workers }) => workers.length === 0,
    );
  },
};
