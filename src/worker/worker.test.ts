import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { closeInMemory, Gate, openInMemory } from '../../test/support/embedded.ts';
import { settle, watch } from '../../test/support/scripted-server.ts';
import type { ManualClock } from '../../test/twins/manual-clock.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { defineTask } from '../task/definition.ts';
import type { TaskContext, TaskHandler } from '../task/handler.ts';
import { FatalTaskError, RetryLater } from './failures.ts';
import type { Logger } from './options.ts';

let client: Client;
let clock: ManualClock;

beforeEach(async () => {
  ({ client, clock } = await openInMemory());
});

afterEach(() => closeInMemory(client, clock));

const once = { maxAttempts: 1 };

/** The error with which a task of this handler dies. */
async function deathBy(handler: TaskHandler): Promise<{ code: string; name: string; message: string; stack?: string }> {
  await client.work([handler]);
  const task = await client.enqueue(handler.format.name, {}, once);
  const error = (await task.result().catch((reason: unknown) => reason)) as MillraceError;
  expect(error.code).toBe('TASK_DEAD');
  return error.cause as Awaited<ReturnType<typeof deathBy>>;
}

function thrower(thrown: unknown): never {
  throw thrown;
}

describe('a handler', () => {
  test('gets the input and the context of its task, and its result comes back', async () => {
    let seen: Record<string, unknown> = {};
    const greet = defineTask<{ who: string }, string>('greet', { maxAttempts: 7 });
    const handler = greet.handle((input, { id, name, queue, attempt, maxAttempts, enqueuedAt }) => {
      seen = { id, name, queue, attempt, maxAttempts, enqueuedAt };
      return `hello ${input.who}`;
    });
    await client.work([handler]);
    const task = await client.enqueue(greet, { who: 'you' });
    expect(await task.result()).toBe('hello you');
    const enqueuedAt = new Date(clock.wallMs());
    expect(seen).toEqual({ id: task.id, name: 'greet', queue: 'default', attempt: 1, maxAttempts: 7, enqueuedAt });
  });

  test('may be given by name', async () => {
    await client.work({ double: async (input) => (input as number) * 2 });
    expect(await (await client.enqueue('double', 21)).result()).toBe(42);
  });

  test('that returns nothing has the result undefined', async () => {
    await client.work({ quiet: () => undefined });
    expect(await (await client.enqueue('quiet')).result()).toBeUndefined();
  });

  test('works on bytes when the definition says so', async () => {
    const reverse = defineTask('reverse', { payload: 'bytes', result: 'bytes' });
    await client.work([reverse.handle((bytes) => Uint8Array.from(bytes).reverse())]);
    const result = await (await client.enqueue(reverse, Uint8Array.of(1, 2, 3))).result();
    expect([...(result as Uint8Array)]).toEqual([3, 2, 1]);
  });

  test('starts tasks in order, and no more of them at once than `concurrency`', async () => {
    const gates = Array.from({ length: 6 }, () => new Gate());
    const started: number[] = [];
    const worker = await client.work(
      {
        step: async (input) => {
          started.push(input as number);
          await (gates[input as number] as Gate).opened;
        },
      },
      { concurrency: 2 },
    );
    const batch = await client.enqueueMany('step', [0, 1, 2, 3, 4, 5]);
    await settle();
    expect({ started: [...started], running: worker.running, busy: worker.busy }).toEqual({
      started: [0, 1],
      running: 2,
      busy: 1,
    });
    gates[1]?.open();
    await batch.at(1).result();
    expect(started).toEqual([0, 1, 2]);
    for (const gate of gates) gate.open();
    await batch.results();
    expect(started).toEqual([0, 1, 2, 3, 4, 5]);
    expect(worker.completed).toBe(6);
  });

  test('gets what its schema makes of the input, and its result is checked', async () => {
    const resize = defineTask('resize', {
      input: z.object({ width: z.string().transform(Number) }),
      output: z.object({ pixels: z.number() }),
    });
    await client.work([resize.handle(async ({ width }) => ({ pixels: width * width }))]);
    expect(await (await client.enqueue(resize, { width: '20' })).result()).toEqual({ pixels: 400 });
    const unchecked = await client.enqueue('resize', { width: 20 });
    await expect(unchecked.result()).rejects.toMatchObject({
      code: 'TASK_DEAD',
      cause: { code: 'INVALID_PAYLOAD', message: expect.stringContaining('width') },
    });
    expect((await unchecked.info()).failures).toHaveLength(1);
  });

  test('shows its progress while it runs', async () => {
    const running = new Gate();
    const done = new Gate();
    await client.work({
      slow: async (_input, ctx) => {
        expect(() => ctx.progress('x'.repeat(5000))).toThrow(/at most 4096/);
        ctx.progress({ percent: 40 });
        running.open();
        await done.opened;
      },
    });
    const task = await client.enqueue('slow');
    await running.opened;
    await settle();
    expect((await task.info()).progress).toEqual({ value: { percent: 40 } });
    done.open();
    await task.result();
  });
});

describe('a failure', () => {
  const failing = (thrown: unknown): TaskHandler =>
    defineTask('failing').handle(() => {
      throw thrown;
    });

  test('keeps the error with its stack and causes', async () => {
    const death = await deathBy(failing(new TypeError('outer', { cause: new RangeError('inner') })));
    expect(death).toMatchObject({ code: 'HANDLER_FAILED', name: 'TypeError', message: 'outer' });
    expect(death.stack).toMatch(/worker\.test\.ts[\s\S]*caused by: RangeError: inner/);
  });

  test.each([
    ['undefined', undefined, 'the handler threw undefined'],
    ['a string', 'no luck', 'no luck'],
    ['an object', { a: 1 }, 'the handler threw {"a":1}'],
    ['an object with a message', { message: 'from elsewhere' }, 'from elsewhere'],
    ['a symbol', Symbol('s'), 'the handler threw Symbol(s)'],
    ['a BigInt', 1n, 'the handler threw 1'],
    ['a circle', Object.assign([], { 0: [] }), 'the handler threw [[]]'],
  ])('is readable when %s was thrown', async (_what, thrown, message) => {
    expect(await deathBy(failing(thrown))).toMatchObject({ code: 'HANDLER_FAILED', message });
  });

  const revoked = Proxy.revocable(new Error('gone'), {});
  revoked.revoke();
  const trapped = new Proxy(new Error('trapped'), {
    get() {
      throw new Error('get');
    },
    has() {
      throw new Error('has');
    },
    getPrototypeOf() {
      throw new Error('getPrototypeOf');
    },
  });
  const withGetter = (field: string): Error =>
    Object.defineProperty(new Error('x'), field, {
      get() {
        throw new Error('from the getter');
      },
    });

  test.each([
    ['a revoked Proxy', revoked.proxy],
    ['a Proxy that throws', trapped],
    ['an error whose name throws', withGetter('name')],
    ['an error whose message throws', withGetter('message')],
    ['an error whose stack throws', withGetter('stack')],
    ['an error whose cause throws', withGetter('cause')],
    [
      'a RetryLater whose delay throws',
      Object.create(new RetryLater(5), { delayMs: { get: () => withGetter('x').name } }),
    ],
    ['a RetryLater of no time', Object.create(new RetryLater(5), { delayMs: { value: Number.NaN } })],
    ['null', null],
    ['an object without a prototype', Object.create(null)],
  ])('is one like others when %s was thrown', async (_what, thrown) => {
    expect(await deathBy(failing(thrown))).toMatchObject({ code: 'HANDLER_FAILED' });
  });

  class OwnThen extends Promise<unknown> {
    // biome-ignore lint/suspicious/noThenProperty: what is tested.
    override then(): never {
      throw new Error('bad then');
    }
  }
  const thenable = (then: (resolve: (value: unknown) => void) => void): unknown => ({ then });
  test.each([
    [
      'whose then throws',
      () =>
        thenable(() => {
          throw new Error('bad then');
        }),
    ],
    [
      'whose then cannot be read',
      () => Object.defineProperty({}, 'then', { get: () => thrower(new Error('bad then')) }),
    ],
    ['that is a Promise with a then of its own', () => new OwnThen(() => {})],
    ['that is a Proxy of a Promise', () => new Proxy(Promise.resolve(1), {})],
    ['that is a revoked Proxy', () => revoked.proxy],
    ['whose toJSON throws', () => ({ toJSON: () => JSON.parse('bad then') })],
    ['whose toJSON throws something odd', async () => ({ toJSON: () => thrower(revoked.proxy) })],
  ])('comes of what a handler returns %s', async (_what, run) => {
    expect(await deathBy(defineTask('single').handle(run))).toMatchObject({ code: expect.any(String) });
    const checked = defineTask('checked', { output: z.any() }).handle(run);
    expect(await deathBy(checked)).toMatchObject({ code: expect.any(String) });
    const batch = defineTask('batch').handleBatch(run as never);
    expect(await deathBy(batch)).toMatchObject({ code: expect.any(String) });
  });

  test('does not come of a then that throws after it has resolved', async () => {
    await client.work({
      late: () =>
        thenable((resolve) => {
          resolve(Promise.resolve(7));
          throw new Error('late');
        }),
      twice: () =>
        thenable((resolve) => {
          resolve(8);
          resolve(9);
        }),
    });
    expect(await (await client.enqueue('late', 0, once)).result()).toBe(7);
    expect(await (await client.enqueue('twice', 0, once)).result()).toBe(8);
  });

  test('comes of results that a batch cannot read, for that task alone', async () => {
    const results = Object.defineProperty([1, 2, 3], 1, { get: () => thrower(new Error('no')) });
    await client.work([defineTask('some').handleBatch(() => results)]);
    const batch = await client.enqueueMany('some', [1, 2, 3], once);
    expect(await batch.at(0).result()).toBe(1);
    await expect(batch.at(1).result()).rejects.toMatchObject({ cause: { code: 'INVALID_PAYLOAD', message: 'no' } });
    expect(await batch.at(2).result()).toBe(3);
  });

  test('does not come of a progress value that is refused', async () => {
    const codes: unknown[] = [];
    await client.work({
      showing: (_input, ctx) => {
        for (const value of [
          () => 1,
          { toJSON: () => thrower(new Error('no')) },
          { toJSON: () => thrower(revoked.proxy) },
          1n,
          'x'.repeat(5000),
          revoked.proxy,
        ]) {
          try {
            ctx.progress(value);
          } catch (error) {
            codes.push((error as MillraceError).code);
          }
        }
        return codes;
      },
    });
    expect(await (await client.enqueue('showing', 0, once)).result()).toEqual(Array(6).fill('INVALID_PAYLOAD'));
  });

  test('is stored within its limit however long the error is', async () => {
    const error = new Error('ä'.repeat(100_000));
    error.stack = '\u0001'.repeat(100_000);
    const death = await deathBy(failing(error));
    expect(death.message.startsWith('äää')).toBe(true);
    expect(Buffer.byteLength(JSON.stringify(death))).toBeLessThanOrEqual(LIMITS.errorBytesMax);
  });

  test('rejections count like throws', async () => {
    const handler = defineTask('rejecting').handle(() => Promise.reject(new Error('later')));
    expect(await deathBy(handler)).toMatchObject({ message: 'later' });
  });

  test.each([
    ['a BigInt', { n: 1n }],
    ['a function', () => 1],
    ['bytes without saying so', new Uint8Array(1)],
  ])('comes of a result that is %s, at once and for good', async (_what, result) => {
    const death = await deathBy(defineTask('odd').handle(async () => result));
    expect(death.code).toBe('INVALID_PAYLOAD');
  });

  test('comes of a payload that is not JSON, without a second attempt', async () => {
    await client.work({ odd: () => 1 });
    const task = await client.enqueue('odd', Buffer.from('no JSON'));
    await expect(task.result()).rejects.toMatchObject({ cause: { code: 'INVALID_PAYLOAD' } });
  });

  test('with FatalTaskError is the last, however many attempts are left', async () => {
    await client.work({
      fatal: () => {
        throw new FatalTaskError('no use');
      },
    });
    const task = await client.enqueue('fatal', null, { maxAttempts: 10 });
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_DEAD', cause: { name: 'FatalTaskError' } });
  });

  test('with RetryLater is tried again after its delay', async () => {
    const attempts: number[] = [];
    await client.work({
      later: (_input, { attempt }) => {
        attempts.push(attempt);
        if (attempt === 1) throw new RetryLater(60_000);
        return 'done';
      },
    });
    const task = await client.enqueue('later');
    const result = watch(task.result({ timeoutMs: 600_000 }));
    await settle();
    clock.advance(59_000);
    expect(await result()).toBe('pending');
    clock.advance(2000);
    expect(await result()).toBe('resolved');
    expect(attempts).toEqual([1, 2]);
  });

  test('with these means the same when the handler has them from another copy of the package', async () => {
    vi.resetModules();
    const copy = await import('./failures.ts');
    expect(copy.FatalTaskError).not.toBe(FatalTaskError);
    class Gone extends copy.FatalTaskError {}
    const attempts: number[] = [];
    await client.work({
      fatal: () => {
        throw new Gone('no use');
      },
      later: (_input, { attempt }) => {
        attempts.push(attempt);
        if (attempt === 1) throw new copy.RetryLater(60_000);
      },
    });
    const fatal = await client.enqueue('fatal', null, { maxAttempts: 10 });
    await expect(fatal.result()).rejects.toMatchObject({ code: 'TASK_DEAD', cause: { message: 'no use' } });
    const result = watch((await client.enqueue('later')).result({ timeoutMs: 600_000 }));
    await settle();
    clock.advance(59_000);
    expect(await result()).toBe('pending');
    clock.advance(2000);
    expect(await result()).toBe('resolved');
    expect(attempts).toEqual([1, 2]);
  });

  test('of a task without a handler is counted, and warned of once', async () => {
    const warnings: string[] = [];
    const logger: Logger = {
      info: () => {},
      error: () => {},
      warn: (_details, message) => void warnings.push(message),
    };
    await client.work({ known: () => 1 }, { logger });
    for (const task of await client.enqueueMany('unknown', [1, 2], once)) {
      await expect(task.result()).rejects.toMatchObject({ cause: { code: 'NO_HANDLER' } });
    }
    expect(warnings).toEqual(['this worker has no handler for "unknown"; it has known']);
  });
});

describe('a signal', () => {
  function hanging(): { handler: TaskHandler; started: Gate; reason: Promise<MillraceError> } {
    const started = new Gate();
    let aborted: (reason: MillraceError) => void;
    const reason = new Promise<MillraceError>((resolve) => {
      aborted = resolve;
    });
    const handler = defineTask('hang').handle(async (_input, ctx: TaskContext) => {
      ctx.signal.addEventListener('abort', () => aborted(ctx.signal.reason as MillraceError));
      started.open();
      await new Promise(() => {});
    });
    return { handler, started, reason };
  }

  test('is aborted when the attempt runs past its timeout; the slot is free and the end ignored', async () => {
    const late = new Gate();
    const worker = await client.work(
      {
        late: async () => {
          await late.opened;
          return 'too late';
        },
        next: () => 'next',
      },
      { concurrency: 1 },
    );
    const slow = await client.enqueue('late', null, { ...once, timeoutMs: 1000 });
    const next = await client.enqueue('next');
    await settle();
    clock.advance(1000);
    await expect(slow.result()).rejects.toMatchObject({ cause: { code: 'TASK_TIMEOUT' } });
    expect(await next.result()).toBe('next');
    late.open();
    await settle();
    expect(worker).toMatchObject({ completed: 1, failed: 1, running: 0 });
  });

  test('is not aborted when what its handler waits for is there with the end of its time: the loop may have been busy', async () => {
    const answer = new Gate();
    await client.work({ asking: () => answer.opened.then(() => 'in time') });
    const task = await client.enqueue('asking', null, { ...once, timeoutMs: 1000 });
    await settle();
    answer.open();
    // Also for the server, which takes it away a little later.
    clock.advance(5000);
    expect(await task.result()).toBe('in time');
  });

  test('says that time is over', async () => {
    const { handler, started, reason } = hanging();
    await client.work([handler]);
    await client.enqueue('hang', null, { ...once, timeoutMs: 500 });
    await started.opened;
    clock.advance(500);
    expect(await reason).toMatchObject({ code: 'TASK_TIMEOUT', details: { timeoutMs: 500 } });
  });

  test('says that the task was cancelled', async () => {
    const { handler, started, reason } = hanging();
    await client.work([handler]);
    const task = await client.enqueue('hang');
    await started.opened;
    expect(await task.cancel()).toBe('requested');
    expect(await reason).toMatchObject({ code: 'TASK_CANCELLED' });
  });

  test('says that the worker stopped waiting', async () => {
    const { handler, started, reason } = hanging();
    const worker = await client.work([handler]);
    await client.enqueue('hang');
    await started.opened;
    const stopping = worker.stop({ timeoutMs: 300 });
    await settle();
    clock.advance(300);
    expect(await reason).toMatchObject({ code: 'STOPPING' });
    expect(await stopping).toEqual({ finished: 0, abandoned: 1 });
  });

  test('that is read only after the abort is aborted already', async () => {
    const resumed = new Gate();
    let signal: AbortSignal | undefined;
    await client.work({
      late: async (_input, ctx) => {
        await resumed.opened;
        signal = ctx.signal;
      },
    });
    await client.enqueue('late', null, { ...once, timeoutMs: 1000 });
    await settle();
    clock.advance(1000);
    await settle();
    resumed.open();
    await settle();
    expect(signal?.aborted).toBe(true);
    expect(signal?.reason).toBeInstanceOf(MillraceError);
  });
});

describe('stop', () => {
  test('hands back what did not start, at once and uncharged, and waits for what runs', async () => {
    const done = new Gate();
    const worker = await client.work({ step: () => done.opened.then(() => 'done') }, { concurrency: 1 });
    const batch = await client.enqueueMany('step', [1, 2, 3]);
    await settle();
    const stopping = worker.stop();
    await settle();
    expect(await batch.at(1).info()).toMatchObject({ state: 'ready', attempt: 0 });
    done.open();
    expect(await stopping).toEqual({ finished: 1, abandoned: 0 });
    expect((await batch.at(0).info()).state).toBe('completed');
    expect(await worker.ended).toBeUndefined();
  });

  test('hands back what still runs when its time is over, uncharged', async () => {
    const worker = await client.work({ hang: () => new Promise(() => {}) });
    const task = await client.enqueue('hang');
    await settle();
    const stopping = worker.stop({ timeoutMs: 0 });
    await settle();
    clock.advance(0);
    expect(await stopping).toEqual({ finished: 0, abandoned: 1 });
    await settle();
    expect(await task.info()).toMatchObject({ state: 'ready', attempt: 0 });
  });

  test('may be asked for twice, and of a worker that does nothing', async () => {
    const worker = await client.work({ idle: () => 1 });
    expect(await Promise.all([worker.stop(), worker.stop()])).toEqual([
      { finished: 0, abandoned: 0 },
      { finished: 0, abandoned: 0 },
    ]);
  });
});

describe('work', () => {
  test.each([
    [{}, {}, /at least one handler/],
    [{ a: () => 1 }, { concurrency: 0 }, /concurrency is 0; allowed are whole numbers from 1/],
    [{ a: () => 1 }, { concurrency: 10, prefetch: 5 }, /prefetch is 5; allowed are whole numbers from 10/],
    [{ a: () => 1 }, { concurency: 5 }, /no option "concurency" \(did you mean "concurrency"\?\)/],
    [{ a: 1 }, {}, /handler of "a" is no function/],
    [[defineTask('a').handle(() => 1), defineTask('a').handle(() => 2)], {}, /two handlers were given for "a"/],
  ])('refuses %j with %j', async (handlers, options, message) => {
    await expect(client.work(handlers as never, options as object)).rejects.toThrow(message);
  });
});
