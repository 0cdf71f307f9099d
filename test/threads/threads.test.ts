import { randomUUID } from 'node:crypto';
import { setEnvironmentData } from 'node:worker_threads';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
// What is built: a thread is started from a file that Node can load as it is.
import { type Client, connect, defineTask, type Task, type Worker, type WorkerOptions } from '../../dist/index.js';
import { TcpScene } from '../conformance/tcp-scene.ts';

const HANDLERS = new URL('./modules/handlers.js', import.meta.url);
const once = { maxAttempts: 1 };

/** Shared with the handlers, which find them in their environment. */
const words = new Int32Array(new SharedArrayBuffer(64 * 4));
setEnvironmentData('words', words as unknown as Parameters<typeof setEnvironmentData>[1]);
let wordsUsed = 0;
const word = (): number => wordsUsed++;

let client: Client;

async function work(options: WorkerOptions = {}, module = HANDLERS): Promise<Worker> {
  client = await connect('memory:');
  return await client.work(module, { threads: 2, ...options });
}

afterEach(() => client.close({ timeoutMs: 0 }));

/** Resolves when a handler has added to the word. */
async function reached(at: number, count = 1): Promise<void> {
  await expect.poll(() => Atomics.load(words, at), { interval: 2 }).toBeGreaterThanOrEqual(count);
}

async function run<Result = unknown>(name: string, input: unknown = {}, options = {}): Promise<Result> {
  const task = await client.enqueue<Result>(name, input, { ...once, ...options });
  return await task.result();
}

async function failureOf(task: Task): Promise<{ code: string; name: string; message: string; stack?: string }> {
  const error = await task.result().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'TASK_DEAD' });
  return (error as Error).cause as Awaited<ReturnType<typeof failureOf>>;
}

const failed = async (name: string, input: unknown = {}, options = {}): ReturnType<typeof failureOf> =>
  failureOf(await client.enqueue(name, input, { ...once, ...options }));

describe('handlers in threads', () => {
  test('run side by side, with the context, results and errors of those in the loop', async () => {
    const worker = await work();
    expect({ concurrency: worker.concurrency, prefetch: worker.prefetch }).toEqual({ concurrency: 2, prefetch: 102 });
    const at = word();
    const met = await client.enqueueMany<number>('meet', Array(2).fill({ word: at, threads: 2 }), once);
    expect(new Set(await met.results()).size).toBe(2);

    const task = await client.enqueue('context', { a: 'ä' }, { headers: { tenant: 'x' }, maxAttempts: 7 });
    const { enqueuedAtMs, log } = await task.result().then(() => task.info());
    expect(await task.result()).toEqual({
      ...{ input: { a: 'ä' }, id: task.id, name: 'context', queue: 'default', attempt: 1, maxAttempts: 7 },
      ...{ enqueuedAt: expect.any(String), headers: { tenant: 'x' } },
    });
    const { enqueuedAt } = (await task.result()) as { enqueuedAt: string };
    expect(Math.abs(Date.parse(enqueuedAt) - enqueuedAtMs)).toBeLessThanOrEqual(1);
    expect(log?.lines).toMatchObject([{ attempt: 1, text: 'a line' }]);

    const flow = await client.flow((builder) => {
      const dependsOn = [builder.add('number', 3), builder.add('number', 4)];
      builder.add('sum', undefined, { dependsOn });
    });
    expect(await (flow.tasks[2] as Task).result()).toBe(7);

    const reverse = defineTask('reverse', { payload: 'bytes', result: 'bytes' });
    const reversed = await (await client.enqueue(reverse, Uint8Array.of(1, 2, 3))).result();
    expect([...(reversed ?? [])]).toEqual([3, 2, 1]);
    expect(await run('number', 'x'.repeat(600_000))).toHaveLength(600_000);
    expect(await run('order', 1)).toBeUndefined();
    expect(await run('resize', { width: '20' })).toEqual({ pixels: 400 });
    expect(await failed('resize', { width: 20 }, { maxAttempts: 3 })).toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect(await failed('resize', { width: '0' })).toMatchObject({ message: expect.stringContaining('pixels') });
    expect(await failed('circle')).toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect(await failed('nobody')).toMatchObject({ code: 'NO_HANDLER' });

    const thrown = await failed('thrower', { how: 'plainly' });
    expect(thrown).toMatchObject({ code: 'HANDLER_FAILED', name: 'TypeError', message: 'not so' });
    expect(thrown.stack).toMatch(/handlers\.js:\d+[\s\S]*caused by: Error: the reason/);
    expect(await failed('thrower', { how: 'function' })).toMatchObject({ code: 'HANDLER_FAILED' });
    expect(await failed('thrower', { how: 'fatal' }, { maxAttempts: 5 })).toMatchObject({ name: 'FatalTaskError' });
    const delayed = await client.enqueue('thrower', { how: 'later' });
    await expect.poll(async () => (await delayed.info()).state).toBe('scheduled');
    expect((await delayed.info()).runAtMs).toBeGreaterThan(Date.now() + 50_000);
    expect(worker.running).toBe(0);
  });

  test('get what is encrypted decrypted in their thread, and answer in kind', async () => {
    const url = `memory:${randomUUID()}`;
    const told: unknown[] = [];
    client = await connect(url, { encryption: { keys: { k1: new Uint8Array(32).fill(7) } } });
    const hooks = {
      onComplete: (_: unknown, result: unknown) => void told.push(result),
      onFail: (_: unknown, error: unknown) => void told.push((error as Error).message),
    };
    await client.work(HANDLERS, { threads: 1, hooks });
    await using stranger = await connect(url);
    expect(await run('number', 'secret')).toBe('secret');
    expect(await failed('thrower', { how: 'plainly' })).toMatchObject({ name: 'TypeError', message: 'not so' });
    const flow = await client.flow((builder) => void builder.add('sum', 0, { dependsOn: builder.add('number', 3) }));
    expect(await (flow.tasks[1] as Task).result()).toBe(3);
    const reverse = defineTask('reverse', { payload: 'bytes', result: 'bytes' });
    const reversed = await client.enqueue(reverse, Uint8Array.of(1, 2, 3));
    expect([...((await reversed.result()) ?? [])]).toEqual([3, 2, 1]);
    expect(await failureOf(await stranger.enqueue('number', 1))).toMatchObject({ code: 'NOT_ENCRYPTED' });
    expect(told.slice(0, 2)).toEqual(['secret', 'not so']);
    const { tasks } = await stranger.tasks.list();
    const infos = await Promise.all(tasks.map(({ id }) => stranger.tasks.get(id)));
    expect(JSON.stringify(infos)).not.toMatch(/secret|not so/);
  });

  test('begin in the order of delivery in one thread, in groups', async () => {
    const worker = await work({ threads: 1, prefetch: 2000 });
    const inputs = Array.from({ length: 2000 }, (_, index) => index);
    await (await client.enqueueMany('order', inputs)).results();
    expect(await run('order', 'last')).toEqual([...inputs, 'last']);
    expect(worker.completed).toBe(2001);
  });

  test('may be batch handlers, and traced by what their module exports', async () => {
    const worker = await work({ threads: 1 }, new URL('./modules/batches.js', import.meta.url));
    expect(worker.concurrency).toBe(4);
    const batch = await client.enqueueMany<{ square: number; together: number }>('squares', [1, 2, 3, 4, 5], once);
    expect(await batch.at(0).result()).toEqual({ square: 1, together: 4 });
    expect(await failureOf(batch.at(1))).toMatchObject({ name: 'RangeError', message: 'the second one' });
    expect(await batch.at(4).result()).toEqual({ square: 25, together: 1 });
    expect(await run('traced')).toBe(true);
  });

  test('are told to the worker’s hooks', async () => {
    const told: string[] = [];
    await work({
      threads: 1,
      hooks: {
        onStart: ({ name }) => told.push(`start ${name}`),
        onComplete: ({ name }, result) => told.push(`complete ${name} ${result}`),
        onFail: (_task, error) => told.push(`fail ${error}`),
        onDead: ({ name }) => told.push(`dead ${name}`),
      },
    });
    await run('number', 5);
    await failed('thrower');
    expect(told).toEqual([
      'start number',
      'complete number 5',
      'start thrower',
      'fail TypeError: not so',
      'dead thrower',
    ]);
  });
});

describe('a handler that is over its time', () => {
  test('is stopped with its thread when it keeps that; what waits goes on', async () => {
    const worker = await work();
    const at = word();
    const busy = await client.enqueue('busy', { word: at }, { ...once, timeoutMs: 1000 });
    await reached(at);
    // Some of these are given to the thread that is busy, and taken back.
    const others = await client.enqueueMany('number', Array(50).fill(1));
    expect(await others.results()).toEqual(Array(50).fill(1));
    expect(worker.failed).toBe(0);
    expect(await failureOf(busy)).toMatchObject({ code: 'TASK_TIMEOUT', message: expect.stringContaining('1000 ms') });
    const met = word();
    await (await client.enqueueMany('meet', Array(2).fill({ word: met, threads: 2 }))).results();
    expect({ completed: worker.completed, failed: worker.failed }).toEqual({ completed: 52, failed: 1 });
  });

  test('keeps its thread when it obeys its signal, else not; others there come again, uncharged', async () => {
    await work({ threads: 1, concurrency: 2 });
    const before = await run('where');
    const obedient = await client.enqueue('obedient', { word: word(), go: word() }, { ...once, timeoutMs: 50 });
    expect(await failureOf(obedient)).toMatchObject({ code: 'TASK_TIMEOUT' });
    expect(await run('where')).toBe(before);
    const [at, neighbour, go] = [word(), word(), word()];
    const beside = await client.enqueue<number>('obedient', { word: neighbour, go });
    const stubborn = await client.enqueue('stubborn', { word: at }, { ...once, timeoutMs: 50 });
    expect(await failureOf(stubborn)).toMatchObject({ code: 'TASK_TIMEOUT' });
    await reached(neighbour, 2);
    expect(await beside.info()).toMatchObject({ state: 'active', attempt: 1, failures: [] });
    Atomics.store(words, go, 1);
    expect(await beside.result()).not.toBe(before);
  });
});

test('what waits in a thread that is kept by what a handler has left behind goes to others', async () => {
  await work();
  const at = word();
  await run('untidy', { word: at });
  await reached(at);
  const others = await client.enqueueMany('number', Array(50).fill(1));
  expect(await others.results()).toEqual(Array(50).fill(1));
});

describe('a task that is cancelled while it waits in a thread', () => {
  /** One that keeps the thread, and one behind it; what they are called for is known to be short. */
  async function waiting(exit = false): Promise<{ first: Task; second: Task; go: number; ran: number }> {
    await work({ threads: 1 });
    const [at, go, ran, open] = [word(), word(), word(), word()];
    Atomics.store(words, open, 1);
    for (let round = 0; round < 3; round++) await run('held', { word: word(), go: open });
    const inputs = [
      { word: at, go, exit },
      { word: ran, go: open },
    ];
    const batch = await client.enqueueMany('held', inputs, once);
    await reached(at);
    return { first: batch.at(0), second: batch.at(1), go, ran };
  }

  test('does not begin when it is taken back from a thread that is kept', async () => {
    const { first, second, go, ran } = await waiting();
    expect(await second.cancel()).toBe('requested');
    await expect(second.result({ timeoutMs: 5000 })).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
    Atomics.store(words, go, 1);
    await first.result();
    await run('where');
    expect(Atomics.load(words, ran)).toBe(0);
  });

  test('does not begin when its thread crashes', async () => {
    const { first, second, go, ran } = await waiting(true);
    expect(await second.cancel()).toBe('requested');
    Atomics.store(words, go, 1);
    await expect(second.result()).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
    expect(await failureOf(first)).toMatchObject({ code: 'THREAD_CRASHED' });
    await run('where');
    expect(Atomics.load(words, ran)).toBe(0);
  });
});

describe('a thread that crashes', () => {
  test('fails what ran in it, and nothing else', async () => {
    const errors: string[] = [];
    const logger = {
      info: () => {},
      warn: () => {},
      error: (_details: object, message: string) => errors.push(message),
    };
    await work({ logger, threadHeapMb: 32 });
    const others = await client.enqueueMany('number', Array(200).fill(1));
    const crashes = await Promise.all(['exit', 'later', 'hungry'].map((name) => client.enqueue(name, {}, once)));
    const more = await client.enqueueMany('number', Array(200).fill(1));
    const messages = ['worker exited with code: 3', 'nobody catches this', 'memory'];
    for (const [index, task] of crashes.entries()) {
      const message = expect.stringContaining(messages[index] as string);
      expect(await failureOf(task)).toMatchObject({ code: 'THREAD_CRASHED', message });
    }
    await Promise.all([others.results(), more.results()]);
    expect(errors.filter((message) => message.includes('crashed'))).toHaveLength(3);
  });
});

describe('a worker with threads', () => {
  test('passes on that a task was cancelled; stops: waits for what runs, and hands back what waits', async () => {
    const worker = await work({ threads: 1 });
    const [unwanted, at, go] = [word(), word(), word()];
    const cancelled = await client.enqueue('obedient', { word: unwanted, go });
    await reached(unwanted);
    const never = await client.enqueue('number', 1);
    expect([await never.cancel(), await cancelled.cancel()]).toEqual(['requested', 'requested']);
    await expect(cancelled.result()).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
    await expect(never.result()).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
    await expect.poll(() => worker.running).toBe(0);

    const running = await client.enqueue('obedient', { word: at, go });
    const waiting = await client.enqueue('number', 1);
    await reached(at);
    expect(worker.attempts()).toMatchObject([{ id: running.id, name: 'obedient' }]);
    const stopping = worker.stop({ timeoutMs: 10_000 });
    Atomics.store(words, go, 1);
    expect(await stopping).toEqual({ finished: 1, abandoned: 0 });
    expect((await running.info()).state).toBe('completed');
    expect(await waiting.info()).toMatchObject({ state: 'ready', failures: [] });
    expect(process.getActiveResourcesInfo()).not.toContain('MessagePort');
  });

  test('stops although a handler does not', async () => {
    const worker = await work();
    const [at, loop] = [word(), word()];
    await client.enqueue('stubborn', { word: at });
    const task = await client.enqueue('busy', { word: loop });
    await Promise.all([reached(at), reached(loop)]);
    expect(await worker.stop({ timeoutMs: 20 })).toEqual({ finished: 0, abandoned: 2 });
    expect(await task.info()).toMatchObject({ state: 'ready', failures: [] });
  });

  test('that its backend has given up ends with its threads', async () => {
    const scene = await TcpScene.open();
    onTestFinished(() => scene.close());
    client = await connect(scene.server.url, { reconnect: { giveUpAfterMs: 10 } });
    const worker = await client.work(HANDLERS, { threads: 1 });
    const at = word();
    await client.enqueue('ticking', { word: at });
    await reached(at);
    await scene.stopServer();
    expect(await worker.ended).toMatchObject({ code: 'DISCONNECTED' });
    // A thread that still ran would wake this one at once.
    expect(Atomics.wait(words, at, Atomics.load(words, at), 200)).toBe('timed-out');
    expect(await worker.stop()).toEqual({ finished: 0, abandoned: 0 });
  });

  test('that still loads its handlers is given up with its threads when its client closes', async () => {
    client = await connect('memory:');
    const at = word();
    const starting = client.work(new URL(`./modules/loading.js?word=${at}`, import.meta.url), { threads: 1 });
    const refused = expect(starting).rejects.toMatchObject({ code: 'CLOSED' });
    await reached(at);
    await client.close({ timeoutMs: 60_000 });
    expect(Atomics.wait(words, at, Atomics.load(words, at), 200)).toBe('timed-out');
    await refused;
  });

  test('refuses what cannot be', async () => {
    client = await connect('memory:');
    const refusal = (module: string): Promise<unknown> =>
      client.work(new URL(`./modules/${module}`, import.meta.url), { threads: 1 }).catch((error) => error);
    const wrong = (message: string): object => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
    const unloadable = (message: string): object => ({ code: 'HANDLERS', message: expect.stringContaining(message) });
    await expect(client.work({ a: () => {} }, { threads: 2 })).rejects.toMatchObject(wrong('new URL('));
    await expect(client.work('./handlers.js', { threads: 2 })).rejects.toMatchObject(wrong('must be a file: URL'));
    await expect(client.work(HANDLERS, { threads: 0 })).rejects.toMatchObject(wrong('threads is 0'));
    await expect(client.work(HANDLERS, { threads: 2, concurrency: 1 })).rejects.toMatchObject(
      wrong('concurrency is 1 for 2 threads'),
    );
    await expect(client.work(HANDLERS, { threadHeapMb: 64 })).rejects.toMatchObject(wrong('give threads as well'));
    const modules = ['gone.js', 'nothing.js', 'broken.js', 'leaving.js', 'twice.js'];
    const [gone, nothing, broken, leaving, twice] = await Promise.all(modules.map(refusal));
    expect(gone).toMatchObject(unloadable('there is no file'));
    expect(nothing).toMatchObject(unloadable('none of which is a handler'));
    expect(broken).toMatchObject(unloadable('RangeError: no database'));
    expect(leaving).toMatchObject(unloadable('exited with code: 7'));
    expect(twice).toMatchObject(wrong('two handlers were given for "twice"'));
  });

  test('may have its handlers from a module in the loop, too', async () => {
    client = await connect('memory:');
    const worker = await client.work(HANDLERS);
    expect(worker.handlers).toContain('reverse');
    expect(await run('where')).toBe(0);
  });
});
