import { expect } from 'vitest';
import { type Client, defineTask, type TaskInfo } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import { Deferred, failure, until } from './events.ts';
import type { Behaviours } from './place.ts';

const AT_ONCE = { type: 'fixed', delayMs: 0, jitter: false } as const;

/** What handlers tell of their tasks while they run. */
export const telling: Behaviours = {
  'progress is seen while the task runs': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([
      defineTask('long').handle(async (_, context) => {
        context.progress({ done: 1, of: 3, text: 'ü' });
        await go.promise;
      }),
    ]);
    const task = await client.enqueue('long', null);
    const info = await until(
      () => client.tasks.get(task.id),
      ({ progress }) => progress !== undefined,
    );
    expect(info).toMatchObject({ state: 'active', attempt: 1, progress: { value: { done: 1, of: 3, text: 'ü' } } });
    expect(info.worker).toBeTypeOf('string');
    go.resolve();
    await task.result();
    expect((await client.tasks.get(task.id)).progress).toBeUndefined();
  },

  'progress that is too large or no JSON throws in the handler': async (place) => {
    const client = await place.connect();
    await client.work([
      defineTask('talkative').handle(async (_, context) => {
        const codes: string[] = [];
        for (const value of ['x'.repeat(LIMITS.progressBytesMax), () => {}, 1n]) {
          codes.push((await failure(() => context.progress(value))).code);
        }
        const tooLong = 'x'.repeat(LIMITS.taskLogLineBytesMax + 1);
        for (const message of [tooLong, 1 as unknown as string]) {
          codes.push((await failure(() => context.progress(0, message))).code);
        }
        return codes;
      }),
    ]);
    const task = await client.enqueue('talkative', null, { maxAttempts: 1 });
    expect(await task.result()).toEqual(Array(5).fill('INVALID_PAYLOAD'));
  },

  'progress may come with words, and the last one counts': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([
      defineTask('resize').handle(async (_, context) => {
        context.progress(0.1);
        context.progress(0.2, 'reading');
        context.progress(0.4, 'resizing');
        await go.promise;
      }),
    ]);
    const task = await client.enqueue('resize', null);
    const info = await until(
      () => task.info(),
      ({ progress }) => progress?.value === 0.4,
    );
    expect(info.progress).toEqual({ value: 0.4, message: 'resizing' });
    go.resolve();
    await task.result();
  },

  'a log is seen while its task runs, and after it has ended, with the attempt of each line': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([
      defineTask('logged').handle(async (_, context) => {
        context.log(`begun: ü "quoted"`);
        if (context.attempt === 1) throw new Error('the first one fails');
        await go.promise;
        context.log('done');
      }),
    ]);
    const beforeMs = Math.floor(Date.now());
    const task = await client.enqueue('logged', null, { backoff: AT_ONCE });
    const first = { atMs: expect.any(Number), attempt: 1, text: 'begun: ü "quoted"' };
    const running = await untilLogged(client, task.id, 2);
    expect(running).toMatchObject({ state: 'active', log: { lines: [first, { ...first, attempt: 2 }], dropped: 0 } });
    for (const { atMs } of running.log?.lines ?? []) expect(atMs).toBeGreaterThanOrEqual(beforeMs);
    go.resolve();
    await task.result();
    const { log } = await untilLogged(client, task.id, 3);
    expect(log?.lines.map(({ attempt, text }) => [attempt, text])).toEqual([
      [1, 'begun: ü "quoted"'],
      [2, 'begun: ü "quoted"'],
      [2, 'done'],
    ]);
    const { tasks } = await client.tasks.list();
    expect(tasks[0]).not.toHaveProperty('log');
  },

  'a task that logs nothing has no log': async (place) => {
    const client = await place.connect();
    await client.work({ silent: () => 1 });
    const task = await client.enqueue('silent');
    await task.result();
    expect(await task.info()).not.toHaveProperty('log');
  },

  'the last lines of a log are kept and the earlier ones counted, and a long line is cut': async (place) => {
    const client = await place.connect();
    const countMax = LIMITS.taskLogLinesMax;
    const go = new Deferred();
    await client.work({
      chatty: async (_, context) => {
        for (let line = 0; line < countMax + 7; line++) context.log(`line ${line}`);
        await go.promise;
        for (let line = 0; line < 3; line++) context.log(`late line ${line}`);
        context.log('ü'.repeat(LIMITS.taskLogLineBytesMax));
        return (await failure(() => context.log(1 as unknown as string))).code;
      },
    });
    const task = await client.enqueue('chatty', null, { maxAttempts: 1 });
    const early = await until(
      () => task.info(),
      (info) => info.log?.lines.at(-1)?.text === `line ${countMax + 6}`,
    );
    expect(early.log?.dropped).toBe(7);
    expect(early.log?.lines).toHaveLength(countMax);
    go.resolve();
    expect(await task.result()).toBe('INVALID_PAYLOAD');
    const { log } = await until(
      () => task.info(),
      (info) => info.log?.lines.at(-1)?.text.startsWith('ü') === true,
    );
    const texts = log?.lines.map(({ text }) => text) ?? [];
    expect(log?.dropped).toBe(11);
    expect(texts).toHaveLength(countMax);
    expect(texts[0]).toBe('line 11');
    expect(texts.at(-2)).toBe('late line 2');
    expect(texts.at(-1)).toMatch(/^ü+…$/);
    expect(Buffer.byteLength(texts.at(-1) as string)).toBeLessThanOrEqual(LIMITS.taskLogLineBytesMax);
    expect(texts.at(-1)?.length).toBeGreaterThan(LIMITS.taskLogLineBytesMax / 2 - 5);
  },

  'a batch handler tells of each of its tasks': async (place) => {
    const client = await place.connect();
    const go = new Deferred();
    await client.work([
      defineTask<number>('many').handleBatch(async (batch) => {
        for (let index = 0; index < batch.length; index++) {
          batch.progress(index, batch.input(index), 'counted');
          batch.log(index, `has ${batch.input(index)}`);
        }
        await go.promise;
      }),
    ]);
    const tasks = [...(await client.enqueueMany('many', [10, 11, 12]))];
    for (const [index, task] of tasks.entries()) {
      const info = await until(
        () => task.info(),
        ({ progress, log }) => progress !== undefined && log !== undefined,
      );
      expect(info.progress).toEqual({ value: 10 + index, message: 'counted' });
      expect(info.log?.lines).toMatchObject([{ attempt: 1, text: `has ${10 + index}` }]);
    }
    go.resolve();
    for (const task of tasks) await task.result();
  },
};

function untilLogged({ tasks }: Client, id: string, count: number): Promise<TaskInfo> {
  return until(
    () => tasks.get(id),
    ({ log }) => log?.lines.length === count,
  );
}
