import { expect } from 'vitest';
import { z } from 'zod';
import { type Client, defineTask, type Misfire, type ScheduleInfo, type ScheduleName } from '../../src/index.ts';
import { Arrivals, failure, until } from './events.ts';
import type { Behaviours, Place } from './place.ts';

const HOUR = 3_600_000;
const YEARLY = { cron: '0 0 1 1 *', task: 'report' } as const;

/**
 * Makes a schedule for each name, with what becomes of its missed times, whose only due times of the year are three seconds
 * in which nothing is open, and opens all again. Resolves with these times.
 */
async function missThree(place: Place, misfires: Record<string, Misfire>): Promise<number[]> {
  // A machine that does not close in time is given longer.
  for (let leadMs = 1000; ; leadMs *= 2) {
    const client = await place.connect();
    const dueMs = threeSeconds(Date.now() + leadMs);
    const [first] = dueMs.map((ms) => new Date(ms)) as [Date];
    const seconds = dueMs.map((ms) => new Date(ms).getUTCSeconds()).join(',');
    const cron = `${seconds} ${first.getUTCMinutes()} ${first.getUTCHours()} ${first.getUTCDate()} ${first.getUTCMonth() + 1} *`;
    for (const [name, misfire] of Object.entries(misfires)) {
      await client.schedule(name, { cron, misfire, task: name });
    }
    let closedMs = 0;
    await place.restart(async () => {
      closedMs = Date.now();
      await untilMs((dueMs.at(-1) as number) + 1);
    });
    if (closedMs < (dueMs[0] as number)) return dueMs;
    const again = await place.connect();
    for (const name of Object.keys(misfires)) await again.schedules.remove(name);
    await again.queue('default').purge();
  }
}

/** Of one minute, the first of them after `afterMs`. */
function threeSeconds(afterMs: number): number[] {
  const second = Math.floor(afterMs / 1000) + 1;
  const begun = second % 60;
  const first = begun > 57 ? second + 60 - begun : second;
  return [first, first + 1, first + 2].map((one) => one * 1000);
}

/** The one wait for time itself: nothing is open that could tell of it. */
async function untilMs(wallMs: number): Promise<void> {
  while (Date.now() < wallMs) await new Promise((resolve) => setTimeout(resolve, wallMs - Date.now()));
}

const isTaken = async (client: Client, name: string, options: object): Promise<void> => {
  await client.schedule(name, { ...YEARLY, ...options } as ScheduleName);
  await client.schedules.remove(name);
};

export const scheduling: Behaviours = {
  'a schedule enqueues its task again and again, with its payload and options': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    const tick = defineTask('tick', { maxAttempts: 5 });
    await client.work(
      [
        tick.handle((input, { queue, maxAttempts }) => {
          ran.add([input, queue, maxAttempts]);
        }),
      ],
      { queues: ['clock'] },
    );
    await client.schedule('beat', { everyMs: 100, task: tick, payload: { n: 1 }, queue: 'clock' });
    const runs = await ran.count(3);
    expect(runs.slice(0, 3)).toEqual(new Array(3).fill([{ n: 1 }, 'clock', 5]));
    const { firedCount, lastAtMs = 0, nextAtMs = 0, lastTaskId } = await client.schedules.get('beat');
    expect(firedCount).toBeGreaterThanOrEqual(3);
    expect((nextAtMs - lastAtMs) % 100).toBe(0);
    expect(await client.tasks.get(lastTaskId ?? '')).toMatchObject({ name: 'tick', queue: 'clock' });
  },

  'a cron expression with seconds fires by the second': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<number>();
    await client.work({ second: () => ran.add(Date.now()) });
    const { nextAtMs: firstDueMs = 1 } = await client.schedule('second', { cron: '* * * * * *', task: 'second' });
    const [firstMs, secondMs] = (await ran.count(2)) as [number, number];
    expect(firstDueMs % 1000).toBe(0);
    expect(firstMs).toBeGreaterThanOrEqual(firstDueMs);
    expect(secondMs).toBeGreaterThanOrEqual(firstDueMs + 1000);
    const { lastAtMs = 1, nextAtMs = 1 } = await client.schedules.get('second');
    expect([lastAtMs % 1000, nextAtMs - lastAtMs]).toEqual([0, 1000]);
  },

  'what is known of a schedule is told': async (place) => {
    const client = await place.connect();
    const backoff = { type: 'fixed', delayMs: 5, maxDelayMs: 600_000, jitter: false } as const;
    const options = { priority: 7, maxAttempts: 2, timeoutMs: 5000, backoff } as const;
    const made = await client.schedule('yearly', {
      ...{ cron: ' 30  2 1 1 * ', timeZone: 'Asia/Tokyo', misfire: 'all', task: 'report', queue: 'reports' },
      ...options,
      payload: { of: 'the year' },
    });
    const year = new Date().getUTCFullYear();
    // 2:30 in Tokyo is the evening before in UTC.
    const nextAtMs = [Date.UTC(year, 11, 31, 17, 30), Date.UTC(year + 1, 11, 31, 17, 30)].find((ms) => ms > Date.now());
    const known: ScheduleInfo = {
      ...{ name: 'yearly', cron: '30 2 1 1 *', timeZone: 'Asia/Tokyo', misfire: 'all', paused: false },
      ...{ task: 'report', queue: 'reports', ...options, nextAtMs, firedCount: 0, payloadBytes: 17 },
    } as ScheduleInfo;
    expect(made).toEqual(known);
    const payload = { encoding: 'utf8', data: '{"of":"the year"}' };
    expect(await client.schedules.get('yearly')).toEqual({ ...known, payload });
    await client.schedule('hourly', { everyMs: HOUR, task: 'report' });
    const [hourly, yearly, ...others] = await client.schedules.list();
    expect(others).toEqual([]);
    expect(yearly).toEqual(known);
    expect(hourly).toMatchObject({ name: 'hourly', everyMs: HOUR, misfire: 'once', queue: 'default', payloadBytes: 4 });
    expect(hourly).not.toHaveProperty('cron');
    expect(Math.abs((hourly.nextAtMs ?? 0) - Date.now() - HOUR)).toBeLessThan(60_000);
  },

  'a schedule that is set again goes on, unless its times are what changes': async (place) => {
    const client = await place.connect();
    const first = await client.schedule('report', { everyMs: HOUR, task: 'report' });
    await (await place.connect()).schedule('report', { everyMs: HOUR, task: 'report', payload: 2 });
    expect(await client.schedules.get('report')).toMatchObject({ nextAtMs: first.nextAtMs, payload: { data: '2' } });
    const other = await client.schedule('report', { ...YEARLY, timeZone: 'Europe/Berlin' });
    expect(other).toMatchObject({ cron: YEARLY.cron, timeZone: 'Europe/Berlin' });
    expect(other).not.toHaveProperty('everyMs');
    expect(await client.schedules.list()).toHaveLength(1);
  },

  'a paused schedule fires nothing until it is resumed, and a removed one nothing more': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    await client.work({ tick: (input) => ran.add(input) });
    await client.schedule('tick', { everyMs: 100, task: 'tick', payload: 'a' });
    await client.schedule('other', { everyMs: 100, task: 'tick', payload: 'b' });
    await ran.count(2);
    await client.schedules.pause('tick');
    const { firedCount, ...paused } = await client.schedules.get('tick');
    expect(paused.paused).toBe(true);
    expect(paused).not.toHaveProperty('nextAtMs');
    const others = async (): Promise<number> => (await client.schedules.get('other')).firedCount;
    const begun = await others();
    await until(others, (count) => count >= begun + 3);
    expect((await client.schedules.get('tick')).firedCount).toBe(firedCount);
    await client.schedules.resume('tick');
    await until(
      () => client.schedules.get('tick'),
      (info) => info.firedCount > firedCount,
    );
    expect(await client.schedules.remove('tick')).toBe(true);
    expect(await client.schedules.remove('tick')).toBe(false);
    expect((await failure(client.schedules.get('tick'))).code).toBe('NOT_FOUND');
    expect((await client.schedules.list()).map(({ name }) => name)).toEqual(['other']);
  },

  'runNow enqueues the task of a schedule, and its times stay': async (place) => {
    const client = await place.connect();
    await client.work({ report: (input) => ({ done: input }) });
    const { nextAtMs } = await client.schedule('yearly', { ...YEARLY, payload: 'x' });
    const task = await client.schedules.runNow('yearly');
    expect(await task.result()).toEqual({ done: 'x' });
    expect(await client.schedules.get('yearly')).toMatchObject({ lastTaskId: task.id, firedCount: 1, nextAtMs });
    await client.schedules.pause('yearly');
    expect(await (await client.schedules.runNow('yearly')).result()).toEqual({ done: 'x' });
  },

  'the payload of a schedule is checked by its task’s schema, and may be bytes': async (place) => {
    const client = await place.connect();
    const ran = new Arrivals<unknown>();
    const typed = defineTask('typed', { input: z.object({ days: z.number() }) });
    const raw = defineTask('raw', { payload: 'bytes' });
    await client.work([
      typed.handle(({ days }) => {
        ran.add(days);
      }),
      raw.handle((bytes) => {
        ran.add([...bytes]);
      }),
    ]);
    const wrong = client.schedule('typed', { everyMs: HOUR, task: typed, payload: { days: 'two' as never } });
    expect((await failure(wrong)).code).toBe('INVALID_PAYLOAD');
    expect(await client.schedules.list()).toEqual([]);
    await client.schedule('typed', { everyMs: HOUR, task: typed, payload: { days: 2 } });
    await client.schedule('raw', { everyMs: HOUR, task: raw, payload: Uint8Array.of(0xff, 0, 0x80) });
    await (await client.schedules.runNow('typed')).result();
    await (await client.schedules.runNow('raw')).result();
    expect(ran.all).toEqual([2, [0xff, 0, 0x80]]);
    expect((await client.schedules.get('raw')).payload).toEqual({ encoding: 'base64', data: '/wCA' });
  },

  'schedules are found again after everything was closed and opened': async (place) => {
    const before = await place.connect();
    await before.schedule('hourly', { everyMs: HOUR, task: 'tick' });
    await before.schedule('yearly', { ...YEARLY, timeZone: 'America/New_York', misfire: 'skip', payload: { a: 'ü' } });
    await before.schedules.pause('yearly');
    await (await before.schedules.runNow('yearly')).cancel();
    const schedules = await before.schedules.list();
    expect(schedules.map(({ firedCount, paused }) => [firedCount, paused])).toEqual([
      [0, false],
      [1, true],
    ]);
    await place.restart();
    expect(await (await place.connect()).schedules.list()).toEqual(schedules);
  },

  'of the times that were missed while everything was closed, once fires one task and all a task for each': async (
    place,
  ) => {
    const dueMs = await missThree(place, { once: 'once', each: 'all' });
    const client = await place.connect();
    for (const [name, fired] of [
      ['each', 3],
      ['once', 1],
    ] as const) {
      const { nextAtMs = 0, ...info } = await until(
        () => client.schedules.get(name),
        ({ lastAtMs }) => lastAtMs === dueMs.at(-1),
      );
      expect([name, info.firedCount]).toEqual([name, fired]);
      // So whatever there is of it is for what was missed.
      expect(nextAtMs - Date.now()).toBeGreaterThan(24 * HOUR);
      const { tasks } = await client.tasks.list({ name, state: 'ready' });
      expect(tasks).toHaveLength(fired);
      expect(tasks.at(-1)?.id).toBe(info.lastTaskId);
    }
  },

  'a schedule that cannot be is refused, naming what is wrong': async (place) => {
    const client = await place.connect();
    for (const [name, options, says] of [
      ['', {}, 'schedule name'],
      ['n'.repeat(129), {}, 'schedule name'],
      [7, {}, 'schedule name'],
      ['s', { cron: 'each morning' }, 'cron is "each morning"'],
      ['s', { cron: '0 0 30 2 *' }, 'never comes'],
      ['s', { cron: undefined }, 'neither'],
      ['s', { everyMs: 1000 }, 'both given'],
      ['s', { cron: undefined, everyMs: 99 }, 'everyMs is 99'],
      ['s', { cron: undefined, everyMs: 1000, timeZone: 'UTC' }, 'timeZone'],
      ['s', { timeZone: 'Mars/Phobos' }, 'timeZone is "Mars/Phobos"'],
      ['s', { misfire: 'never' }, 'misfire is "never"'],
      ['s', { priority: 10 }, 'priority is 10'],
      ['s', { queue: '' }, 'queue'],
      ['s', { task: '' }, 'task name'],
      ['s', { task: undefined }, 'a task is named by'],
      ['s', { crom: '* * * * *' }, 'cron'],
      ['s', { delayMs: 5 }, 'no option "delayMs"'],
    ] as const) {
      const error = await failure(() => client.schedule(name as string, { ...YEARLY, ...options } as ScheduleName));
      expect([error.code, error.message]).toEqual(['INVALID_ARGUMENT', expect.stringContaining(says)]);
    }
    for (const act of ['get', 'pause', 'resume', 'runNow'] as const) {
      expect((await failure(client.schedules[act]('nothing'))).code).toBe('NOT_FOUND');
      expect((await failure(client.schedules[act](''))).code).toBe('INVALID_ARGUMENT');
    }
    expect(await client.schedules.list()).toEqual([]);
  },

  'a schedule at its bounds is taken, and beyond them its payload is not': async (place) => {
    const client = await place.connect();
    await isTaken(client, 'ü'.repeat(64), {});
    await isTaken(client, 's', { cron: undefined, everyMs: 366 * 24 * HOUR });
    await isTaken(client, 's', { payload: 'x'.repeat(64 * 1024 - 2) });
    await isTaken(client, 's', { payload: new Uint8Array(64 * 1024) });
    for (const payload of ['x'.repeat(64 * 1024 - 1), new Uint8Array(64 * 1024 + 1), 'x'.repeat(2 ** 21)]) {
      const error = await failure(client.schedule('s', { ...YEARLY, payload }));
      expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    }
  },
};
