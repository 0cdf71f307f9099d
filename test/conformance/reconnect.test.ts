import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NONE } from '../../src/core/task-table.ts';
import { type Client, defineTask } from '../../src/index.ts';
import { DEFAULTS, LIMITS } from '../../src/limits.ts';
import { FRAME } from '../../src/protocol/frames.ts';
import { RawClient } from '../server/raw-client.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { Arrivals, Deferred, failure, until } from './events.ts';
import { FullDisk } from './full-disk.ts';
import { HeldDisk } from './held-disk.ts';
import { Program } from './program.ts';
import { TcpScene } from './tcp-scene.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

let scene: TcpScene;

beforeEach(async () => {
  scene = await TcpScene.open();
});

afterEach(async () => {
  await scene.close();
});

/** Handlers that say that they started, and wait. */
class Held {
  readonly started = new Arrivals<{ input: unknown; attempt: number; signal: AbortSignal }>();
  readonly go = new Deferred();
  /** Connections lost and found again. */
  readonly restored = new Arrivals<string>();
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  readonly run = async (input: unknown, context: { attempt: number; signal: AbortSignal }): Promise<string> => {
    this.started.add({ input, attempt: context.attempt, signal: context.signal });
    await this.go.promise;
    return `${this.#name}, attempt ${context.attempt}`;
  };

  async work(client: Client, options: Parameters<Client['work']>[1] = {}): Promise<this> {
    const info = (_: object, message: string): void => this.restored.add(message);
    await client.work({ task: this.run }, { ...options, logger: { info, warn: () => {}, error: () => {} } });
    return this;
  }
}

/** Numbers enqueued, and those that ran: nothing may be missing, and nothing there twice that was not. */
async function expectEachOnce(client: Client, count: number): Promise<void> {
  const ran = new Arrivals<number>();
  await client.work({ number: (input) => ran.add(Number(input)) });
  await ran.count(count);
  expect(ran.all.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  expect((await client.queue('default').status()).totals.enqueued).toBe(count);
}

test('a stream of events goes on after a reconnect, and says that something may be missing', async () => {
  const client = await scene.direct();
  const events = await client.events();
  await client.enqueue('number', 0);
  expect((await events.next()).value).toMatchObject({ type: 'enqueued' });
  await scene.restartServer();
  expect((await events.next()).value).toEqual({ type: 'dropped', count: null });
  const { id } = await client.enqueue('number', 1);
  expect((await events.next()).value).toMatchObject({ type: 'enqueued', id });
});

describe('when the server is restarted', () => {
  test('in the middle of enqueues, none is lost and none is doubled', async () => {
    const client = await scene.direct();
    const ids: string[] = [];
    let next = 0;
    let acknowledged = new Deferred();
    const producer = async (): Promise<void> => {
      while (next < 2000) {
        const task = await client.enqueue('number', next++);
        ids.push(task.id);
        if (ids.length % 300 === 0) acknowledged.resolve();
      }
    };
    const producers = Promise.all(Array.from({ length: 20 }, producer));
    for (let restart = 0; restart < 4; restart++) {
      await acknowledged.promise;
      acknowledged = new Deferred();
      await scene.restartServer();
    }
    await producers;
    expect(new Set(ids).size).toBe(2000);
    // Epochs: the ids of each start are its own.
    expect(new Set(ids.map((id) => id.slice(0, id.indexOf('-')))).size).toBe(5);
    await expectEachOnce(client, 2000);
  });

  test('enqueues made while it is down resolve when it is back', async () => {
    const client = await scene.direct();
    await scene.stopServer();
    const tasks = Promise.all(Array.from({ length: 50 }, (_, i) => client.enqueue('number', i)));
    const status = client.status();
    await scene.startServer();
    expect(new Set((await tasks).map((task) => task.id)).size).toBe(50);
    expect((await status).server.stopping).toBe(false);
    await expectEachOnce(client, 50);
  });

  test('waits for results go on', async () => {
    const client = await scene.direct();
    const tasks = [...(await client.enqueueMany('double', [1, 2, 3]))];
    const results = Promise.all(tasks.map((task) => task.result()));
    await client.status();
    await scene.restartServer();
    await client.work({ double: (input) => Number(input) * 2 });
    expect(await results).toEqual([2, 4, 6]);
  });

  test('a worker keeps what it runs, uncharged, and its completion counts', async () => {
    const client = await scene.direct();
    const held = await new Held('kept').work(client, { concurrency: 2, prefetch: 4 });
    const tasks = [...(await client.enqueueMany('task', [1, 2, 3, 4, 5], { maxAttempts: 1 }))];
    await held.started.count(2);
    await scene.restartServer();
    await until(
      () => client.queue('default').status(),
      ({ active }) => active >= 2,
    );
    held.go.resolve();
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual(new Array(5).fill('kept, attempt 1'));
    expect(held.started.all.map(({ input }) => input)).toEqual([1, 2, 3, 4, 5]);
    for (const task of tasks) expect(await task.info()).toMatchObject({ attempt: 1, failures: [] });
  });

  test('what a handler finished while it was down is completed when it is back', async () => {
    const client = await scene.direct();
    const held = await new Held('finished').work(client);
    const task = await client.enqueue('task', null);
    await held.started.count(1);
    await scene.stopServer();
    held.go.resolve();
    await scene.startServer();
    expect(await task.result()).toBe('finished, attempt 1');
    expect(held.started.all).toHaveLength(1);
  });

  test('what another worker took meanwhile is not completed by the first', async () => {
    const client = await scene.behind();
    const first = await new Held('first').work(client);
    const task = await client.enqueue('task', null);
    await first.started.count(1);
    scene.proxy.refuse();
    await scene.restartServer();
    const second = await new Held('second').work(await scene.direct());
    // The restart took it from nobody that could be blamed.
    expect(await second.started.count(1)).toMatchObject([{ attempt: 1 }]);
    scene.proxy.pass();
    const [{ signal }] = first.started.all;
    await aborted(signal);
    expect(signal.reason).toMatchObject({ code: 'LEASE_LOST' });
    first.go.resolve();
    second.go.resolve();
    expect(await (await scene.direct()).task(task.id).result()).toBe('second, attempt 1');
  });

  test('a stop with time waits for what runs and takes its completion', async () => {
    const client = await scene.direct();
    const held = await new Held('in time').work(client, { concurrency: 1, prefetch: 3 });
    const tasks = [...(await client.enqueueMany('task', [1, 2]))];
    await held.started.count(1);
    const stopped = scene.stopServer(10_000);
    held.go.resolve();
    await stopped;
    await scene.startServer();
    expect(await tasks[0].result()).toBe('in time, attempt 1');
    expect(await tasks[1].result()).toBe('in time, attempt 1');
    expect(held.started.all).toHaveLength(2);
  });

  test('again and again under load, everything ends once and nothing is charged', async () => {
    const client = await scene.direct();
    const runs = new Map<number, number>();
    const done = new Arrivals<number>();
    const step = defineTask<number, number>('step', { maxAttempts: 1 });
    await client.work(
      [
        step.handle(async (input) => {
          runs.set(input, (runs.get(input) ?? 0) + 1);
          await new Promise((resolve) => setImmediate(resolve));
          return input;
        }),
      ],
      { concurrency: 10 },
    );
    const numbers = Array.from({ length: 1500 }, (_, i) => i);
    const all = Promise.all(
      numbers.map(async (number) => {
        await done.count(number - 100);
        const task = await client.enqueue(step, number);
        done.add(await task.result());
      }),
    );
    for (const reached of [300, 600, 900, 1200]) {
      await done.count(reached);
      await scene.restartServer();
    }
    await all;
    expect(done.all.toSorted((a, b) => a - b)).toEqual(numbers);
    expect(runs.size).toBe(numbers.length);
    const { totals } = await client.queue('default').status();
    expect(totals).toMatchObject({ enqueued: 1500, completed: 1500, failed: 0, dead: 0 });
  });

  test('close() and stop() resolve while it is down', async () => {
    const client = await scene.direct();
    const worker = await client.work({ task: () => new Promise(() => {}) });
    const started = await client.enqueue('task', null);
    await until(
      () => started.info(),
      ({ state }) => state === 'active',
    );
    await scene.stopServer();
    const waiting = failure(started.result());
    const enqueueing = failure(client.enqueue('task', null));
    expect(await worker.stop({ timeoutMs: 10 })).toEqual({ finished: 0, abandoned: 1 });
    await client.close({ timeoutMs: 10 });
    expect((await waiting).code).toBe('CLOSED');
    expect((await enqueueing).code).toBe('CLOSED');
    await scene.startServer();
  });
});

describe('when a connection is cut', () => {
  test('a batch that was enqueued and not confirmed is not enqueued again', async () => {
    const client = await scene.behind();
    const observer = await scene.direct();
    for (let round = 0; round < 10; round++) {
      scene.proxy.hold('down');
      const tasks = Promise.all([0, 1, 2].map((i) => client.enqueue('number', round * 3 + i)));
      await until(
        () => observer.status(),
        ({ queues }) => (queues[0]?.totals.enqueued ?? 0) >= round * 3 + 3,
      );
      scene.proxy.cut();
      scene.proxy.pass();
      const ids = (await tasks).map((task) => task.id);
      const infos = await Promise.all(ids.map((id) => observer.tasks.get(id)));
      expect(infos.map((info) => info.payload?.data)).toEqual([0, 1, 2].map((i) => String(round * 3 + i)));
    }
    await expectEachOnce(observer, 30);
  });

  test('a worker that comes back keeps what it runs, and the attempt is given back', async () => {
    const client = await scene.behind();
    const held = await new Held('kept').work(client, { concurrency: 2, prefetch: 6 });
    const tasks = [...(await client.enqueueMany('task', [1, 2, 3, 4, 5, 6, 7]))];
    await held.started.count(2);
    for (let cut = 1; cut <= 3; cut++) {
      scene.proxy.cut();
      await held.restored.count(cut);
      await until(
        () => client.queue('default').status(),
        ({ active }) => active === 6,
      );
    }
    const status = await client.status();
    expect(status.workers).toHaveLength(1);
    expect(status.workers[0]).toMatchObject({ held: 6, running: 2 });
    held.go.resolve();
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual(new Array(7).fill('kept, attempt 1'));
    expect(held.started.all.map(({ input }) => input)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    for (const task of tasks) expect(await task.info()).toMatchObject({ attempt: 1, failures: [] });
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 7, failed: 0 });
  });

  test('what ran is charged and what only waited is not, and both run elsewhere', async () => {
    const first = await new Held('first').work(await scene.behind(), { concurrency: 2, prefetch: 5 });
    const client = await scene.direct();
    const tasks = [...(await client.enqueueMany('task', [1, 2, 3, 4, 5], { backoff: AT_ONCE }))];
    await first.started.count(2);
    await told(2);
    scene.proxy.refuse();
    scene.proxy.cut();
    const second = await new Held('second').work(client, { concurrency: 5 });
    await second.started.count(5);
    expect(second.started.all.map(({ input, attempt }) => [input, attempt])).toEqual([
      [1, 2],
      [2, 2],
      [3, 1],
      [4, 1],
      [5, 1],
    ]);
    const { failures } = await tasks[0].info();
    expect(failures).toMatchObject([{ attempt: 1, error: { code: 'WORKER_LOST' } }]);
    // The first comes back, and is told that none of it is its own any more.
    scene.proxy.pass();
    for (const { signal } of first.started.all) {
      await aborted(signal);
      expect(signal.reason).toMatchObject({ code: 'LEASE_LOST' });
    }
    first.go.resolve();
    second.go.resolve();
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual([
      'second, attempt 2',
      'second, attempt 2',
      'second, attempt 1',
      'second, attempt 1',
      'second, attempt 1',
    ]);
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 5, failed: 2 });
  });

  test('a completion that was sent and not answered counts once, and the task does not run again', async () => {
    const client = await scene.behind();
    const held = await new Held('done').work(client);
    const observer = await scene.direct();
    const task = await observer.enqueue('task', null, { maxAttempts: 5 });
    await held.started.count(1);
    scene.proxy.hold('down');
    held.go.resolve();
    expect(await task.result()).toBe('done, attempt 1');
    scene.proxy.cut();
    scene.proxy.pass();
    await held.restored.count(1);
    await observer.enqueue('task', null);
    await held.started.count(2);
    expect((await observer.queue('default').status()).totals).toMatchObject({ failed: 0 });
    expect(await task.info()).toMatchObject({ state: 'completed', attempt: 1 });
  });

  test('a completion that never arrived is sent again', async () => {
    const client = await scene.behind();
    const held = await new Held('done').work(client);
    const observer = await scene.direct();
    const task = await observer.enqueue('task', null);
    await held.started.count(1);
    scene.proxy.hold('up');
    held.go.resolve();
    // It is on its way when the timers of this turn have run.
    await new Promise((resolve) => setImmediate(resolve));
    scene.proxy.cut();
    scene.proxy.pass();
    expect(await task.result()).toBe('done, attempt 1');
    expect(held.started.all).toHaveLength(1);
  });

  test('a worker that is back before the server has noticed keeps what it runs', async () => {
    const client = await scene.behind();
    const held = await new Held('kept').work(client, { concurrency: 1, prefetch: 3 });
    const tasks = [...(await client.enqueueMany('task', [1, 2, 3, 4], { maxAttempts: 1 }))];
    await held.started.count(1);
    scene.proxy.abandon();
    await held.restored.count(1);
    held.go.resolve();
    expect(await Promise.all(tasks.map((task) => task.result()))).toEqual(new Array(4).fill('kept, attempt 1'));
    expect(held.started.all.map(({ input }) => input)).toEqual([1, 2, 3, 4]);
    const { workers } = await client.status();
    expect(workers).toHaveLength(1);
  });

  test('a worker is resumed although more of its completions are unanswered than it may hold', async () => {
    const disk = new HeldDisk();
    const slow = await TcpScene.open({ disk });
    try {
      const client = await slow.behind();
      const total = 2 * LIMITS.prefetchMax + 1000;
      for (let left = total; left > 0; left -= LIMITS.batchTasksMax) {
        await client.enqueueMany('number', new Array(Math.min(left, LIMITS.batchTasksMax)).fill(1));
      }
      disk.hold();
      const restored = new Arrivals<string>();
      const worker = await client.work([defineTask('number').handleBatch(() => {})], {
        concurrency: LIMITS.prefetchMax,
        prefetch: LIMITS.prefetchMax,
        logger: { info: (_, message) => restored.add(message), warn: () => {}, error: () => {} },
      });
      // Nobody is answered while the disk is held, and so the worker gets no more in the end.
      const most = LIMITS.unansweredTasksMax + LIMITS.prefetchMax;
      await until(
        async () => slow.server.host.engine.core.counters.completed,
        (completed) => completed === most,
      );
      slow.proxy.cut();
      await Promise.race([restored.count(1), worker.ended.then((error) => Promise.reject(error))]);
      disk.release();
      await until(
        () => client.queue('default').status(),
        ({ totals }) => totals.completed === total,
      );
      await client.enqueue('number', 1);
      await until(
        () => client.queue('default').status(),
        ({ totals }) => totals.completed === total + 1,
      );
    } finally {
      disk.release();
      await slow.close();
    }
  });

  test('a worker stopped while it was cut off hands back what it held when that is noticed', async () => {
    const client = await scene.behind();
    await client.work({
      task: (_, context) => {
        context.progress('begun');
        return new Promise(() => {});
      },
    });
    const task = await client.enqueue('task', null);
    const second = await scene.direct();
    // What tells the server that the attempt has begun travels with it.
    await until(
      () => second.task(task.id).info(),
      ({ progress }) => progress !== undefined,
    );
    scene.proxy.refuse();
    scene.proxy.cut();
    await client.close({ timeoutMs: 10 });
    await second.work({ task: (_, { attempt }) => attempt });
    expect(await second.task(task.id).result()).toBe(2);
  });

  test('again and again at any moment, everything ends once and nothing is enqueued twice', async () => {
    const client = await scene.behind();
    const observer = await scene.direct();
    const step = defineTask<number, number>('step', { maxAttempts: 50, backoff: AT_ONCE });
    const work = (): Promise<unknown> =>
      client.work(
        [
          step.handle(async (input) => {
            await new Promise((resolve) => setImmediate(resolve));
            return input;
          }),
        ],
        { concurrency: 5 },
      );
    await work();
    await work();
    const done = new Arrivals<number>();
    const numbers = Array.from({ length: 600 }, (_, i) => i);
    const all = Promise.all(
      numbers.map(async (number) => {
        await done.count(number - 20);
        const task = await client.enqueue(step, number);
        done.add(await task.result());
      }),
    );
    for (let reached = 20; reached < 600; reached += 20) {
      await done.count(reached);
      if (reached % 60 === 0) scene.proxy.abandon();
      else scene.proxy.cut();
      // What is left of connections that nobody uses any more.
      scene.proxy.bury();
    }
    await all;
    expect(done.all.toSorted((a, b) => a - b)).toEqual(numbers);
    const { totals, ready, active } = await observer.queue('default').status();
    expect(totals).toMatchObject({ enqueued: 600, completed: 600, dead: 0 });
    expect({ ready, active }).toEqual({ ready: 0, active: 0 });
  });
});

describe('when a connection is bad', () => {
  test('bytes that come one at a time are understood', async () => {
    scene.proxy.drip(1);
    const client = await scene.behind();
    await client.work({ echo: (input) => input });
    const inputs = [{ text: 'ü'.repeat(300) }, [1, 2, 3], 'x'];
    const tasks = await client.enqueueMany('echo', inputs);
    expect(await tasks.results()).toEqual(inputs);
    expect(await tasks.at(0).info()).toMatchObject({ state: 'completed', attempt: 1 });
  });

  test('bytes that come late are no loss', async () => {
    scene.proxy.delay(20);
    const client = await scene.behind();
    await client.work({ square: (input) => Number(input) ** 2 }, { concurrency: 5 });
    const tasks = await client.enqueueMany(
      'square',
      Array.from({ length: 50 }, (_, i) => i),
    );
    expect(await tasks.results()).toEqual(Array.from({ length: 50 }, (_, i) => i * i));
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 50, failed: 0 });
  });

  test('a worker that does not read holds nobody up, and little is kept for it', async () => {
    const client = await scene.direct();
    const payloadBytes = 100_000;
    const count = 600;
    const bytes = defineTask('bytes', { payload: 'bytes' });
    const stuck = await RawClient.open(scene.server.port);
    await stuck.greet();
    const prefetch = LIMITS.prefetchMax;
    stuck.writer.json(FRAME.SUBSCRIBE, 2, { worker: 'stuck', queues: ['default'], concurrency: 1, prefetch });
    await stuck.json(FRAME.REPLY);
    stuck.socket.pause();
    for (let i = 0; i < count; i += 100) {
      await client.enqueueMany(bytes, new Array(100).fill(new Uint8Array(payloadBytes)));
    }
    const ran = new Arrivals<number>();
    await client.work([bytes.handle((_, { attempt }) => ran.add(attempt))]);
    const { active } = await until(
      () => client.queue('default').status(),
      (status) => status.active + status.completed === count && status.completed === ran.all.length,
    );
    // Beside our own buffer there are those of the kernel.
    expect(active * payloadBytes).toBeLessThan(LIMITS.sendBufferBytesMax * 3);
    stuck.close();
    await ran.count(count);
    // It never said that it had begun with any.
    expect(ran.all).toEqual(new Array(count).fill(1));
  });

  test('a client that does not read its answers holds nobody up', async () => {
    const client = await scene.behind();
    const observer = await scene.direct();
    scene.proxy.hold('down');
    const tasks = client.enqueueMany(
      'number',
      Array.from({ length: 1000 }, (_, i) => i),
    );
    await until(
      () => observer.status(),
      ({ queues }) => queues[0]?.ready === 1000,
    );
    await observer.enqueue('number', 1000);
    scene.proxy.pass();
    expect((await tasks).length).toBe(1000);
    await expectEachOnce(observer, 1001);
  });
});

test('a refused batch whose refusal is lost with the connection goes again, and its client goes on', async () => {
  const disk = new FullDisk();
  await scene.close();
  scene = await TcpScene.open({ disk, segmentBytes: LIMITS.segmentBytesMin });
  const [client, other] = [await scene.behind({ enqueueTimeoutMs: 60_000 }), await scene.direct()];
  const { engine } = scene.server.host;
  const enqueue = engine.enqueue.bind(engine);
  let refusals = 0;
  engine.enqueue = (...batch) => {
    try {
      return enqueue(...batch);
    } catch (error) {
      refusals++;
      throw error;
    }
  };
  disk.isFull = true;
  const large = 'x'.repeat(900_000);
  // What was taken just before the server noticed waits for room: the next one is sent all the same, and refused.
  let refusal: unknown;
  while (refusal === undefined) {
    other.enqueue('filler', large, { queue: 'filler' }).catch((error: unknown) => {
      refusal ??= error;
    });
    // The first is sent before it, the second behind it.
    await other.status();
    await other.status();
  }
  expect(refusal).toMatchObject({ code: 'DISK_FULL' });
  scene.proxy.hold('down');
  const refusedBefore = refusals;
  const refused = client.enqueue('echo', large);
  await until(
    async () => refusals,
    (count) => count === refusedBefore + 1,
  );
  disk.isFull = false;
  await until(
    () =>
      other.enqueue('filler', large, { queue: 'filler' }).then(
        () => true,
        () => false,
      ),
    (hasRoom) => hasRoom,
  );
  const taken = client.enqueue('echo', 'small');
  await until(
    () => other.status(),
    ({ queues }) => queues.some(({ name, ready }) => name === 'default' && ready === 1),
  );
  scene.proxy.cut();
  scene.proxy.pass();
  await client.work({ echo: (input) => String(input).length });
  expect(await Promise.all([refused, taken].map(async (task) => (await task).result()))).toEqual([large.length, 5]);
  expect((await client.queue('default').status()).totals.enqueued).toBe(2);
  expect(await (await client.enqueue('echo', 'later')).result()).toBe(5);
});

describe('a worker process', () => {
  const running: Program[] = [];

  async function startWorker(url = scene.server.url, concurrency = 2): Promise<Program> {
    const program = Program.start('worker', [url, String(concurrency)]);
    running.push(program);
    await program.lines.count(1);
    expect(program.lines.all[0]).toBe('ready');
    return program;
  }

  afterEach(async () => {
    await Promise.all(running.splice(0).map((program) => program.kill()));
  });

  test('whose event loop is blocked for three seconds loses no lease', async () => {
    const client = await scene.direct();
    const blocked = await startWorker();
    const task = await client.enqueue('block', 3000, { maxAttempts: 5 });
    const behind = await client.enqueue('block', 1, { maxAttempts: 5 });
    await blocked.lines.count(2);
    // Others time out in time meanwhile.
    await client.work({ quick: () => new Promise(() => {}) }, { queues: ['quick'] });
    const quick = await client.enqueue('quick', null, { queue: 'quick', timeoutMs: 50, maxAttempts: 1 });
    expect((await failure(quick.result())).cause).toMatchObject({ code: 'TASK_TIMEOUT' });
    expect(await task.result()).toEqual({ attempt: 1, pid: blocked.pid });
    expect(await behind.result()).toEqual({ attempt: 1, pid: blocked.pid });
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 2, failed: 0 });
  });

  test('whose handlers keep its processor busy times out none that waited for their turn', async () => {
    const impatient = await TcpScene.open({ timeoutGraceMs: 100 });
    try {
      const client = await impatient.direct();
      await startWorker(impatient.server.url, 20);
      const tasks = await client.enqueueMany('block', new Array(20).fill(100), { timeoutMs: 500 });
      for (const task of tasks) expect(await task.result()).toMatchObject({ attempt: 1 });
    } finally {
      await impatient.close();
    }
  });

  test('that is killed while a handler keeps it busy is charged for nothing: it could not say what it had begun', async () => {
    const client = await scene.direct();
    const victim = await startWorker(scene.server.url, 20);
    const tasks = [...(await client.enqueueMany('block', new Array(10).fill(60_000)))];
    await victim.lines.count(2);
    await victim.kill();
    const ran = new Arrivals<number>();
    await client.work({ block: (_, { attempt }) => ran.add(attempt) });
    await ran.count(tasks.length);
    expect(ran.all).toEqual(new Array(10).fill(1));
  });

  test('dies of one task among many: that one ends dead, and the others are completed', async () => {
    const client = await scene.direct();
    const before = [...(await client.enqueueMany('block', new Array(10).fill(1)))];
    const poison = await client.enqueue('die', null);
    const behind = [...(await client.enqueueMany('block', new Array(10).fill(1)))];
    // Its first death leaves everything in doubt; each of the others is its own.
    for (let life = 0; life < 4; life++) expect(await (await startWorker(scene.server.url, 20)).ended).toBe('SIGKILL');
    await startWorker(scene.server.url, 20);
    for (const task of [...before, ...behind]) expect(await task.result()).toMatchObject({ attempt: 1 });
    expect((await failure(poison.result())).code).toBe('TASK_DEAD');
    expect((await client.queue('default').status()).totals).toMatchObject({ completed: 20, failed: 3, dead: 1 });
  });

  test('that is killed gives its tasks back at once, and those it ran are charged', async () => {
    const client = await scene.direct();
    const killed = await startWorker();
    const tasks = [...(await client.enqueueMany('hang', [1, 2, 3, 4]))];
    await killed.lines.count(3);
    const ran = new Arrivals<number>();
    await killed.kill();
    await client.work({ hang: (_, { attempt }) => ran.add(attempt) });
    await ran.count(4);
    expect(ran.all.toSorted()).toEqual([1, 1, 2, 2]);
    const infos = await Promise.all(tasks.map((task) => task.info()));
    const errors = infos.flatMap((info) => info.failures.map((failed) => failed.error.code));
    expect(errors).toEqual(['WORKER_LOST', 'WORKER_LOST']);
  });

  test('that is frozen keeps its tasks, and goes on when it is thawed', async () => {
    const clock = new ManualClock();
    const simulated = await TcpScene.open({ clock });
    try {
      const client = await simulated.direct();
      const frozen = await startWorker(simulated.server.url);
      const task = await client.enqueue('thaw', null, { maxAttempts: 5 });
      await frozen.lines.count(2);
      process.kill(frozen.pid, 'SIGSTOP');
      // For as long as an attempt may take.
      clock.advance(DEFAULTS.timeoutMs);
      expect(await task.info()).toMatchObject({ state: 'active', attempt: 1 });
      process.kill(frozen.pid, 'SIGCONT');
      expect(await task.result()).toEqual({ attempt: 1, pid: frozen.pid });
    } finally {
      await simulated.close();
    }
  });

  test('dies of the same task again and again until that is dead', async () => {
    const client = await scene.direct();
    const task = await client.enqueue('die', null, { maxAttempts: 3 });
    // The first one dies before it can say that it has begun.
    for (const attempt of [1, 1, 2, 3]) {
      const victim = await startWorker();
      expect(await victim.ended).toBe('SIGKILL');
      expect(victim.lines.all[1]).toBe(`start ${task.id} ${attempt}`);
    }
    const error = await failure(task.result());
    expect(error.code).toBe('TASK_DEAD');
    expect(error.cause).toMatchObject({ code: 'WORKER_LOST' });
    expect((await task.info()).failures).toHaveLength(3);
    const survivor = await startWorker();
    const fine = await client.enqueue('block', 1);
    expect(await fine.result()).toEqual({ attempt: 1, pid: survivor.pid });
  });
});

/** Resolves when the server knows of so many tasks that a worker has begun them. */
async function told(count: number): Promise<void> {
  const { assignments } = scene.server.host.engine.core;
  await until(
    async () =>
      [...assignments.workers.values()].reduce(
        (sum, { begun, presumed }) => sum + begun - Number(presumed !== NONE),
        0,
      ),
    (begun) => begun === count,
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
