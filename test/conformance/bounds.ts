import { expect } from 'vitest';
import { type Client, defineTask, type EnqueueOptions, LIMITS } from '../../src/index.ts';
import { failure } from './events.ts';
import type { Behaviours } from './place.ts';

/** Options that are outside what is allowed, with what the message must name: the value and the bound. */
const WRONG_OPTIONS: readonly (readonly [Record<string, unknown>, ...string[]])[] = [
  [{ priority: -1 }, 'priority', '-1', '9'],
  [{ priority: 10 }, 'priority', '10', '9'],
  [{ priority: 4.5 }, 'priority', '4.5'],
  [{ priority: '4' }, 'priority', '"4"'],
  [{ priority: Number.NaN }, 'priority', 'NaN'],
  [{ maxAttempts: 0 }, 'maxAttempts', '0', '1', '1000'],
  [{ maxAttempts: 1001 }, 'maxAttempts', '1001', '1000'],
  [{ timeoutMs: 9 }, 'timeoutMs', '9', '10'],
  [{ timeoutMs: LIMITS.timeoutMsMax + 1 }, 'timeoutMs', String(LIMITS.timeoutMsMax + 1), String(LIMITS.timeoutMsMax)],
  [{ timeoutMs: Number.POSITIVE_INFINITY }, 'timeoutMs', 'Infinity'],
  [{ delayMs: -1 }, 'delayMs', '-1'],
  [{ delayMs: LIMITS.delayMsMax + 1 }, 'delayMs', String(LIMITS.delayMsMax)],
  [{ delayMs: Number.NaN }, 'delayMs', 'NaN'],
  [{ delayMs: '5' }, 'delayMs', '5'],
  [{ runAt: new Date(Number.NaN) }, 'runAt', 'Invalid Date'],
  [{ runAt: 'tomorrow' }, 'runAt', 'tomorrow'],
  [{ runAt: -1 }, 'runAt', '-1'],
  [{ delayMs: 1, runAt: 1 }, 'delayMs', 'runAt'],
  [{ backoff: { type: 'linear' } }, 'backoff.type', '"linear"', '"exponential"'],
  [{ backoff: { delayMs: -1 } }, 'backoff.delayMs', '-1'],
  [{ backoff: { delayMs: LIMITS.backoffMsMax + 1 } }, 'backoff.delayMs', String(LIMITS.backoffMsMax)],
  [{ backoff: { maxDelayMs: 0.5 } }, 'backoff.maxDelayMs', '0.5'],
  [{ backoff: { jitter: 1 } }, 'backoff.jitter', '1'],
  [{ backoff: 1000 }, 'backoff', '1000', '{ delayMs: 1000 }'],
  [{ backof: {} }, '"backof"', '"backoff"'],
  [{ retries: 3 }, '"retries"'],
  [{ delay: 3 }, '"delay"', '"delayMs"'],
  [{ backoff: { max: 3 } }, '"max"'],
];

const WRONG_NAMES: readonly unknown[] = [
  '',
  'x'.repeat(129),
  'ü'.repeat(65),
  'line\nbreak',
  '\u0000',
  '\ud800',
  5,
  null,
  {},
];

export const bounds: Behaviours = {
  'an option outside its bounds is refused, naming the value and the bound': async (place) => {
    const client = await place.connect();
    for (const [options, ...named] of WRONG_OPTIONS) {
      const error = await failure(() => client.enqueue('any', null, options as EnqueueOptions));
      expect(error, JSON.stringify(options)).toMatchObject({ code: 'INVALID_ARGUMENT' });
      for (const text of named) expect(error.message).toContain(text);
      expect((await failure(() => client.enqueueMany('any', [1], options as EnqueueOptions))).code).toBe(
        'INVALID_ARGUMENT',
      );
    }
    expect((await client.tasks.list()).tasks).toEqual([]);
  },

  'a name that is none is refused, whatever it is for': async (place) => {
    const client = await place.connect();
    for (const name of WRONG_NAMES as string[]) {
      for (const call of [
        () => client.enqueue(name, null),
        () => client.enqueue('any', null, { queue: name }),
        () => client.queue(name),
        () => defineTask(name),
        () => defineTask('any', { queue: name }),
        () => client.work([defineTask('any').handle(() => 1)], { queues: [name] }),
      ]) {
        // A queue that is null is one that was not given.
        if (name === null) continue;
        expect((await failure(call)).code, JSON.stringify(name)).toBe('INVALID_ARGUMENT');
      }
    }
    expect((await client.status()).queues).toEqual([]);
  },

  'names of the longest kind, with any letters, work': async (place) => {
    const client = await place.connect();
    for (const name of [
      'x'.repeat(128),
      'ü'.repeat(64),
      '日本語/…:*?#%20 ',
      '__proto__',
      'constructor',
      '🦄'.repeat(32),
    ]) {
      const kind = defineTask<unknown, string>(name, { queue: name });
      const worker = await client.work([kind.handle((_, context) => context.name + context.queue)]);
      expect(await (await client.enqueue(kind, null)).result()).toBe(name + name);
      expect((await client.queue(name).status()).totals).toMatchObject({ completed: 1 });
      await worker.stop();
    }
  },

  'options at their bounds are taken': async (place) => {
    const client = await place.connect();
    const { backoffMsMax, delayMsMax, timeoutMsMax, timeoutMsMin } = LIMITS;
    const options: EnqueueOptions[] = [
      { priority: 0, maxAttempts: 1, timeoutMs: timeoutMsMin, delayMs: delayMsMax },
      { priority: 9, maxAttempts: 1000, timeoutMs: timeoutMsMax, runAt: new Date(8.64e15) },
      { backoff: { delayMs: backoffMsMax, maxDelayMs: backoffMsMax } },
      { backoff: { delayMs: 0, maxDelayMs: 0, jitter: false, type: 'fixed' } },
    ];
    for (const each of options) {
      const task = await client.enqueue('any', null, each);
      const { priority = 4, maxAttempts = 3, timeoutMs = 1_800_000 } = each;
      expect(await task.info()).toMatchObject({ priority, maxAttempts, timeoutMs });
    }
  },

  'what is of the wrong kind altogether is refused with INVALID_ARGUMENT, and does nothing': async (place) => {
    const client = await place.connect();
    const plain = { a: () => 1 };
    const defined = defineTask('a');
    await client.work({ b: () => 1 }, { queues: ['other'] });
    const symbol = Symbol('s');
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    const whole: readonly ((value: never) => unknown)[] = [
      (value) => client.enqueue('any', 1, value),
      (value) => client.enqueueMany('any', [1], value),
      (value) => client.work(value),
      (value) => client.work([value]),
      (value) => client.work(plain, value),
      (value) => client.tasks.list(value),
      (value) => client.tasks.get(value),
      (value) => client.tasks.cancel(value),
      (value) => client.tasks.retry(value),
      (value) => client.task(value).result(),
      (value) => client.task('1-0').result(value),
      (value) => client.queue(value),
      (value) => client.queue('any').retention(value),
      (value) => defineTask('a', value),
      (value) => defined.handle(value),
      (value) => defined.handleBatch(() => {}, value),
    ];
    const fields: typeof whole = [
      (value) => client.enqueue('any', 1, { priority: value }),
      (value) => client.enqueue('any', 1, { backoff: value }),
      (value) => client.enqueue('any', 1, { backoff: { delayMs: value } }),
      (value) => client.enqueue('any', 1, { backoff: { type: value } }),
      (value) => client.enqueue('any', 1, { delayMs: value }),
      (value) => client.enqueue('any', 1, { runAt: value }),
      (value) => client.work({ a: value }),
      (value) => client.work(plain, { queues: value }),
      (value) => client.work(plain, { queues: [value] }),
      (value) => client.work(plain, { logger: value }),
      (value) => client.tasks.list({ limit: value }),
      (value) => client.tasks.list({ after: value }),
      (value) => client.task('1-0').result({ signal: value }),
      (value) => client.queue('any').retention({ deadAgeMs: value }),
    ];
    for (const call of [...whole, ...fields]) {
      for (const value of [
        symbol,
        1n,
        -1,
        'x'.repeat(300),
        circle,
        [[]],
        Object.create(null, { a: { enumerable: true } }),
      ]) {
        const error = await failure(async () => call(value as never));
        expect(error.code, `${call} with ${typeof value}`).toBe('INVALID_ARGUMENT');
        expect(error.message.length).toBeLessThan(600);
      }
    }
    for (const call of whole) {
      expect((await failure(async () => call(null as never))).code, `${call} with null`).toBe('INVALID_ARGUMENT');
    }
    const misspelt = await failure(client.tasks.list({ sate: 'dead' } as never));
    expect(misspelt.message).toContain('(did you mean "state"?)');
    expect((await client.tasks.list()).tasks).toEqual([]);
    expect((await client.status()).workers).toHaveLength(1);
  },

  'a wait for a result has bounds too': async (place) => {
    const client = await place.connect();
    const task = await client.enqueue('any', null);
    for (const timeoutMs of [0, -1, 1.5, Number.POSITIVE_INFINITY, LIMITS.timeoutMsMax + 1]) {
      const error = await failure(task.result({ timeoutMs }));
      expect(error.code).toBe('INVALID_ARGUMENT');
      expect(error.message).toContain(String(timeoutMs));
    }
  },

  'retention outside its bounds is refused and changes nothing': async (place) => {
    const client = await place.connect();
    await client.enqueue('any', null);
    const before = await client.queue('default').status();
    for (const change of [
      { completedCountMax: -1 },
      { completedAgeMs: 1.5 },
      { deadCountMax: '5' as never },
      { deadAgeMs: LIMITS.delayMsMax + 1 },
      { completed: 5 } as never,
    ]) {
      expect((await failure(client.queue('default').retention(change))).code).toBe('INVALID_ARGUMENT');
    }
    expect((await client.queue('default').status()).retention).toEqual(before.retention);
  },

  'more names and queues than anyone has are kept apart': async (place) => {
    const client = await place.connect();
    const tasks = await enqueueEach(client, 300);
    const infos = await Promise.all(tasks.map((id) => client.tasks.get(id)));
    expect(infos.map((info) => `${info.queue} ${info.name}`)).toEqual(tasks.map((_, i) => `queue ${i} name ${i}`));
    expect((await client.status()).queues).toHaveLength(300);
  },
};

async function enqueueEach(client: Client, count: number): Promise<string[]> {
  const calls = Array.from({ length: count }, (_, i) => client.enqueue(`name ${i}`, i, { queue: `queue ${i}` }));
  return (await Promise.all(calls)).map((task) => task.id);
}
