import { describe, expect, it } from 'vitest';
import { EngineBench, KEEP_ALL, SPEC, START_MS, turns } from '../../test/model/engine-bench.ts';
import { MemoryDisk, seededRandom } from '../../test/twins/memory-disk.ts';
import { formatTaskId, parseTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import type { InspectedSchedule, ScheduleSettings } from './scheduler.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const JSON_NULL = { encoding: 'utf8', data: 'null' } as const;
const KEY = '0123456789abcdef';

const every = (everyMs: number, settings: Partial<ScheduleSettings> = {}): ScheduleSettings => ({
  timing: { everyMs },
  misfire: 'once',
  spec: SPEC,
  payload: JSON_NULL,
  ...settings,
});
const cron = (expression: string, settings: Partial<ScheduleSettings> = {}): ScheduleSettings => ({
  ...every(0, settings),
  timing: { cron: expression, timeZone: 'UTC' },
});

const ready = (bench: EngineBench): number => bench.engine.core.queue('q').ready;
const info = (bench: EngineBench, name = 's'): InspectedSchedule => bench.engine.scheduler.get(name);

/** Time passes in steps, so that what a step starts has its turn. */
async function pass(bench: EngineBench, ms: number, stepMs = ms): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    bench.clock.advance(stepMs);
    await turns();
  }
}

describe('a schedule', () => {
  it('fires one task at each of its times, and says when', async () => {
    const bench = await EngineBench.open();
    const worker = await bench.addWorker(['q'], 100);
    const payload = { encoding: 'utf8', data: '{"to":"all"}' } as const;
    const spec = { ...SPEC, timeoutMs: HOUR, concurrencyKey: 'tenant' };
    expect(bench.engine.scheduler.set('s', every(MINUTE, { payload, spec }))).toMatchObject({ firedCount: 0 });
    await pass(bench, MINUTE - 1);
    expect(worker.seen).toEqual([]);
    await pass(bench, 2);
    expect(worker.seen.map(({ payload, spec }) => [payload, spec])).toEqual([['{"to":"all"}', spec]]);
    expect(info(bench)).toEqual({
      ...{ name: 's', everyMs: MINUTE, misfire: 'once', paused: false, task: 'n', queue: 'q', priority: 4 },
      ...{
        maxAttempts: 3,
        timeoutMs: HOUR,
        backoff: SPEC.backoff,
        concurrencyKey: 'tenant',
        payloadBytes: 12,
        payload,
      },
      nextAtMs: START_MS + 2 * MINUTE,
      lastAtMs: START_MS + MINUTE,
      lastTaskId: formatTaskId(worker.seen[0].id),
      firedCount: 1,
    });
    await pass(bench, 3 * MINUTE, 1000);
    expect(worker.seen).toHaveLength(4);
    expect(info(bench)).toMatchObject({ firedCount: 4, lastAtMs: START_MS + 4 * MINUTE });
    await bench.engine.close();
  });

  it('carries bytes as they are', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(SECOND, { payload: { encoding: 'base64', data: '/wCA' } }));
    await pass(bench, SECOND + 1);
    const id = parseTaskId(info(bench).lastTaskId);
    const { core, reader } = bench.engine;
    const slot = core.index.get(id);
    const { payload: bytes } = await reader.loadTask(() => ({
      segment: core.table.segment(slot),
      offset: core.table.offset(slot),
    }));
    expect([...bytes]).toEqual([0xff, 0, 0x80]);
    await bench.engine.close();
  });

  it('fires by the clock of its time zone', async () => {
    const bench = await EngineBench.open();
    const timing = { cron: '30 2 * * *', timeZone: 'America/New_York' };
    const { nextAtMs } = bench.engine.scheduler.set('s', { ...every(0), timing });
    expect(new Date(nextAtMs as number).toISOString().slice(11)).toBe('07:30:00.000Z');
    await bench.engine.close();
  });

  it('that is many fires all, in portions, each once', async () => {
    const bench = await EngineBench.open({ segmentBytes: 1 << 20 });
    for (let i = 0; i < 500; i++) bench.engine.scheduler.set(`s${i}`, cron('0 0 * * *'));
    const nextAtMs = info(bench, 's0').nextAtMs as number;
    bench.clock.advance(nextAtMs - bench.clock.wallMs() + 1);
    await turns();
    expect(ready(bench)).toBeGreaterThan(0);
    expect(ready(bench)).toBeLessThan(500);
    await pass(bench, 50, 2);
    expect(ready(bench)).toBe(500);
    await pass(bench, 10 * SECOND, SECOND);
    expect(ready(bench)).toBe(500);
    for (const one of bench.engine.scheduler.list()) expect(one).toMatchObject({ firedCount: 1, lastAtMs: nextAtMs });
    await bench.engine.close();
  });
});

describe('a restart, a crash', () => {
  it('keeps schedules, with what is known of them', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE, { misfire: 'all' }));
    bench.engine.scheduler.set('night', cron('30 2 * * *'));
    bench.engine.scheduler.set('paused', cron('0 3 * * *'));
    bench.engine.scheduler.pause('paused');
    bench.engine.scheduler.set('gone', every(MINUTE));
    bench.engine.scheduler.remove('gone');
    await pass(bench, MINUTE + 1);
    bench.engine.scheduler.runNow('night', KEY);
    const before = bench.engine.scheduler.list();
    expect(before.map(({ name }) => name)).toEqual(['night', 'paused', 's']);
    await bench.restart();
    expect(bench.engine.scheduler.list()).toEqual(before);
    await bench.flush();
    await bench.crash();
    expect(bench.engine.scheduler.list()).toEqual(before);
    await pass(bench, MINUTE);
    expect(info(bench).firedCount).toBe(2);
    await bench.engine.close();
  });

  it('has one firing for each due time, whenever it comes', async () => {
    const disk = new MemoryDisk({ random: seededRandom(7) });
    const bench = await EngineBench.open({ segmentBytes: 1 << 20 }, disk);
    bench.engine.scheduler.set('s', every(SECOND, { misfire: 'all' }));
    await bench.flush();
    for (let life = 0; life < 12; life++) {
      await pass(bench, 700 + life * 50);
      // Half of the crashes take what was fired with them, the others come after it is on disk.
      if (life % 2 === 0) await bench.flush();
      await bench.crash();
    }
    await pass(bench, 1);
    const { firedCount, lastAtMs, lastTaskId } = info(bench);
    const passedSeconds = Math.floor((bench.clock.wallMs() - START_MS) / SECOND);
    expect([firedCount, lastAtMs]).toEqual([passedSeconds, START_MS + passedSeconds * SECOND]);
    expect(bench.engine.core.table.count).toBe(passedSeconds);
    expect(bench.state(parseTaskId(lastTaskId))).toBe('ready');
    await bench.engine.close();
  });

  it('between the firing and the disk keeps both the task and that it was fired, or neither', async () => {
    const seen = new Set<boolean>();
    for (let seed = 1; seed <= 20; seed++) {
      const bench = await EngineBench.open({}, new MemoryDisk({ random: seededRandom(seed) }));
      bench.engine.scheduler.set('s', every(MINUTE));
      await bench.flush();
      bench.disk.hold('write');
      await pass(bench, MINUTE + 1);
      const first = info(bench).lastTaskId;
      await bench.crash();
      expect([ready(bench), bench.engine.core.table.count]).toEqual([1, 1]);
      expect(info(bench)).toMatchObject({
        ...{ firedCount: 1, lastAtMs: START_MS + MINUTE, nextAtMs: START_MS + 2 * MINUTE },
      });
      seen.add(info(bench).lastTaskId === first);
      await bench.engine.close();
    }
    expect(seen.size).toBe(2);
  });

  it('finds schedules though the segments that told of them have been given up', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0 } });
    bench.engine.scheduler.set('s', every(HOUR, { payload: { encoding: 'utf8', data: '"ü\\u0000"' } }));
    bench.engine.scheduler.runNow('s', KEY);
    await turns();
    const before = info(bench);
    const worker = await bench.addWorker();
    while (bench.segmentNames().includes('0000000001.segment')) {
      bench.enqueue(['x'.repeat(3000)]);
      await turns();
      const done = worker.held.map((delivery) => ({ delivery }));
      bench.complete(worker, done);
      await bench.flush();
    }
    await bench.restart();
    expect(info(bench)).toEqual(before);
    expect(bench.engine.scheduler.runNow('s', KEY)).toBe(before.lastTaskId);
    await bench.engine.close();
  });

  it('keeps what it fired through the cleaning of its segment', async () => {
    const bench = await EngineBench.open({ retention: { ...KEEP_ALL, completedCountMax: 0 } });
    const spec = { ...SPEC, queue: 'later' };
    bench.engine.scheduler.set('s', every(HOUR, { spec, payload: { encoding: 'utf8', data: '"fired"' } }));
    const id = parseTaskId(bench.engine.scheduler.runNow('s', KEY));
    const worker = await bench.addWorker();
    while (bench.segmentNames().includes('0000000001.segment')) {
      for (let i = 0; i < 20; i++) bench.enqueue(['x'.repeat(700)]);
      await turns();
      while (worker.held.length > 0) {
        const done = worker.held.map((delivery) => ({ delivery }));
        bench.complete(worker, done);
        await turns();
      }
      await bench.flush();
      await pass(bench, SECOND);
    }
    expect(await bench.payload(id)).toBe('"fired"');
    await bench.restart();
    expect(await bench.payload(id)).toBe('"fired"');
    await bench.engine.close();
  });
});

describe('times that were missed', () => {
  /** The server is away from 30 s after the first firing on. */
  async function away(misfire: 'skip' | 'once' | 'all', awayMs: number): Promise<EngineBench> {
    const bench = await EngineBench.open({ segmentBytes: 1 << 20 });
    bench.engine.scheduler.set('s', every(MINUTE, { misfire }));
    await pass(bench, MINUTE + 30 * SECOND);
    await bench.engine.close();
    bench.clock.advance(awayMs);
    await bench.reopen();
    await turns();
    return bench;
  }

  it('are let go with skip', async () => {
    const bench = await away('skip', 10 * MINUTE);
    await pass(bench, 29 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 1, nextAtMs: START_MS + 12 * MINUTE });
    await pass(bench, 2 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 2, lastAtMs: START_MS + 12 * MINUTE });
    await bench.restart();
    expect(info(bench)).toMatchObject({ firedCount: 2 });
    await bench.engine.close();
  });

  it('are not missed when they are only a little late', async () => {
    const bench = await away('skip', 10 * MINUTE + 30 * SECOND + LIMITS.scheduleLateMs - 1);
    await pass(bench, 2);
    expect(info(bench)).toMatchObject({ firedCount: 2, lastAtMs: START_MS + 12 * MINUTE });
    await bench.engine.close();
  });

  it('are one task with once, for the last of them', async () => {
    const bench = await away('once', 10 * MINUTE);
    await pass(bench, 29 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({
      firedCount: 2,
      lastAtMs: START_MS + 11 * MINUTE,
      nextAtMs: START_MS + 12 * MINUTE,
    });
    expect(ready(bench)).toBe(2);
    await bench.engine.close();
  });

  it('are a task each with all', async () => {
    const bench = await away('all', 200 * MINUTE);
    await pass(bench, SECOND, 2);
    expect(info(bench)).toMatchObject({ firedCount: 201, lastAtMs: START_MS + 201 * MINUTE });
    expect(ready(bench)).toBe(201);
    await bench.engine.close();
  });

  it('are at most so many with all, the first ones, and one for the rest', async () => {
    const bench = await away('all', 3000 * MINUTE);
    expect(ready(bench)).toBeLessThan(200);
    await pass(bench, SECOND, 2);
    expect(info(bench)).toMatchObject({
      firedCount: 1 + LIMITS.scheduleMissedMax + 1,
      lastAtMs: START_MS + 3001 * MINUTE,
      nextAtMs: START_MS + 3002 * MINUTE,
    });
    await pass(bench, 2 * MINUTE, SECOND);
    expect(info(bench).firedCount).toBe(1 + LIMITS.scheduleMissedMax + 1 + 2);
    await bench.engine.close();
  });

  it('of an expression are told like those of an interval', async () => {
    for (const [misfire, firedCount, lastAt] of [
      ['skip', 0, undefined],
      ['once', 1, '2027-01-25T02:30:00.000Z'],
      ['all', 10, '2027-01-25T02:30:00.000Z'],
    ] as const) {
      const bench = await EngineBench.open();
      bench.engine.scheduler.set('s', cron('30 2 * * *', { misfire }));
      await bench.engine.close();
      bench.clock.advance(10 * 24 * HOUR);
      await bench.reopen();
      await pass(bench, SECOND, 100);
      const { lastAtMs, ...rest } = info(bench);
      expect(rest).toMatchObject({ firedCount, nextAtMs: Date.parse('2027-01-26T02:30:00Z') });
      expect(lastAtMs).toBe(lastAt === undefined ? undefined : Date.parse(lastAt));
      await bench.engine.close();
    }
  });
});

describe('a pause', () => {
  it('fires nothing, and what was due meanwhile is let go', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE, { misfire: 'all' }));
    bench.engine.scheduler.pause('s');
    bench.engine.scheduler.pause('s');
    expect(info(bench)).not.toHaveProperty('nextAtMs');
    await pass(bench, 5 * MINUTE + 30 * SECOND, SECOND);
    await bench.restart();
    expect(info(bench)).toMatchObject({ paused: true, firedCount: 0 });
    bench.engine.scheduler.resume('s');
    bench.engine.scheduler.resume('s');
    expect(info(bench)).toMatchObject({ paused: false, nextAtMs: START_MS + 6 * MINUTE });
    await pass(bench, 31 * SECOND, SECOND);
    expect(info(bench).firedCount).toBe(1);
    await bench.engine.close();
  });

  it('outlives a change of the schedule', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE));
    bench.engine.scheduler.pause('s');
    expect(bench.engine.scheduler.set('s', every(SECOND))).toMatchObject({ paused: true, everyMs: SECOND });
    await pass(bench, MINUTE, SECOND);
    expect(info(bench).firedCount).toBe(0);
    await bench.engine.close();
  });
});

describe('a change', () => {
  it('of what is enqueued leaves the times alone', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE));
    await pass(bench, MINUTE + 40 * SECOND);
    const changed = bench.engine.scheduler.set('s', every(MINUTE, { spec: { ...SPEC, priority: 9 } }));
    expect(changed).toMatchObject({ priority: 9, firedCount: 1, nextAtMs: START_MS + 2 * MINUTE });
    await pass(bench, 21 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 2, lastAtMs: START_MS + 2 * MINUTE });
    await bench.engine.close();
  });

  it('of the interval begins it anew', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE));
    await pass(bench, 40 * SECOND);
    expect(bench.engine.scheduler.set('s', every(30 * SECOND)).nextAtMs).toBe(START_MS + 70 * SECOND);
    await pass(bench, 31 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 1, lastAtMs: START_MS + 70 * SECOND });
    await bench.engine.close();
  });

  it('that changes nothing writes nothing', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE));
    await pass(bench, MINUTE + 1);
    const { appendedSequence } = bench.engine.journal;
    bench.engine.scheduler.set('s', every(MINUTE));
    expect(bench.engine.journal.appendedSequence).toBe(appendedSequence);
    await bench.engine.close();
  });
});

describe('a run that is asked for', () => {
  it('enqueues a task and leaves the times alone, also while the schedule is paused', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(MINUTE));
    await pass(bench, SECOND);
    const id = bench.engine.scheduler.runNow('s', KEY);
    expect(info(bench)).toMatchObject({
      ...{ lastTaskId: id, firedCount: 1, lastAtMs: START_MS + SECOND, nextAtMs: START_MS + MINUTE },
    });
    bench.engine.scheduler.pause('s');
    bench.engine.scheduler.runNow('s', KEY.replace('0', '1'));
    expect(ready(bench)).toBe(2);
    expect(info(bench)).not.toHaveProperty('nextAtMs');
    await bench.engine.close();
  });

  it('is one task however often it is asked for under the same key, over a crash too', async () => {
    const bench = await EngineBench.open();
    bench.engine.scheduler.set('s', every(HOUR));
    const id = bench.engine.scheduler.runNow('s', KEY);
    expect(bench.engine.scheduler.runNow('s', KEY)).toBe(id);
    await bench.flush();
    await bench.crash();
    expect(bench.engine.scheduler.runNow('s', KEY)).toBe(id);
    expect(ready(bench)).toBe(1);
    await bench.engine.close();
  });
});

describe('a wall clock that is set', () => {
  /** The wall clock alone: steady time goes on as it does. */
  async function clockOf(bench: EngineBench): Promise<{ shiftMs: number }> {
    const shift = { shiftMs: 0 };
    const { clock } = bench;
    const wallMs = clock.wallMs.bind(clock);
    clock.wallMs = () => wallMs() + shift.shiftMs;
    return shift;
  }

  it('forward makes what was jumped over missed, within a second', async () => {
    const bench = await EngineBench.open();
    const shift = await clockOf(bench);
    bench.engine.scheduler.set('s', every(MINUTE));
    await turns();
    shift.shiftMs = 10 * MINUTE + SECOND;
    await pass(bench, 2 * SECOND, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 1, lastAtMs: START_MS + 10 * MINUTE });
    await bench.engine.close();
  });

  it('back is waited for: no time comes twice', async () => {
    const bench = await EngineBench.open();
    const shift = await clockOf(bench);
    bench.engine.scheduler.set('s', every(MINUTE));
    await pass(bench, 3 * MINUTE + SECOND, SECOND);
    shift.shiftMs = -2 * MINUTE;
    await pass(bench, 2 * MINUTE, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 3, nextAtMs: START_MS + 4 * MINUTE });
    await pass(bench, MINUTE, SECOND);
    expect(info(bench)).toMatchObject({ firedCount: 4, lastAtMs: START_MS + 4 * MINUTE });
    await bench.engine.close();
  });
});

describe('bounds', () => {
  it('an unknown name is told, with those that there are', async () => {
    const bench = await EngineBench.open();
    expect(() => bench.engine.scheduler.get('nigth')).toThrow('there are none yet');
    bench.engine.scheduler.set('night', every(MINUTE));
    for (const act of ['get', 'pause', 'resume'] as const) {
      const refused = expect.objectContaining({ code: 'NOT_FOUND', message: expect.stringContaining('night') });
      expect(() => bench.engine.scheduler[act]('nigth')).toThrow(refused);
    }
    expect(() => bench.engine.scheduler.runNow('nigth', KEY)).toThrow('there is no schedule');
    expect([bench.engine.scheduler.remove('nigth'), bench.engine.scheduler.remove('night')]).toEqual([false, true]);
    await bench.engine.close();
  });

  it('all schedules together take no more than they may', async () => {
    const bench = await EngineBench.open();
    const payload = { encoding: 'utf8', data: 'x'.repeat(1300) } as const;
    for (let i = 0; i < 3; i++) bench.engine.scheduler.set(`s${i}`, every(MINUTE, { payload }));
    const refused = expect.objectContaining({ code: 'QUEUE_FULL', message: expect.stringContaining('all schedules') });
    expect(() => bench.engine.scheduler.set('s3', every(MINUTE, { payload }))).toThrow(refused);
    bench.engine.scheduler.set('s2', every(MINUTE, { payload: { ...payload, data: 'x' } }));
    bench.engine.scheduler.set('s3', every(MINUTE, { payload }));
    await bench.engine.close();
  });

  it('there are no more schedules than allowed, and one that is there may change', async () => {
    const bench = await EngineBench.open({ directory: null });
    const first = bench.engine.scheduler.set('first', every(MINUTE));
    const { schedules } = bench.engine.core;
    const known = schedules.get('first') as NonNullable<ReturnType<typeof schedules.get>>;
    for (let count = 1; count < LIMITS.schedulesMax; count++) schedules.set({ ...known, name: `s${count}` });
    const refused = { code: 'QUEUE_FULL', details: { bound: LIMITS.schedulesMax } };
    expect(() => bench.engine.scheduler.set('one more', every(MINUTE))).toThrow(expect.objectContaining(refused));
    bench.engine.scheduler.remove('s1');
    expect(first.firedCount).toBe(0);
    await bench.engine.close();
  });

  it('what cannot fire is told once, tried again, and fires when it can', async () => {
    const bench = await EngineBench.open();
    for (const name of ['a', 'b']) bench.engine.scheduler.set(name, every(SECOND));
    const { journal } = bench.engine;
    const hasRoom = journal.hasRoom.bind(journal);
    journal.hasRoom = (bytes, purpose) => purpose !== 'task' && hasRoom(bytes, purpose);
    await pass(bench, 5 * SECOND, 500);
    expect(ready(bench)).toBe(0);
    expect(bench.notices.filter((notice) => notice.includes('DISK_FULL'))).toHaveLength(1);
    journal.hasRoom = hasRoom;
    await pass(bench, 2 * SECOND, 500);
    expect(ready(bench)).toBeGreaterThanOrEqual(2);
    expect(info(bench, 'a').firedCount).toBe(info(bench, 'b').firedCount);
    await bench.engine.close();
  });

  it('a full queue holds up its own schedules only, is told once, and they fire when there is room', async () => {
    const bench = await EngineBench.open();
    bench.engine.commands.setLimits('q', { length: 2 });
    bench.enqueue(['x', 'y']);
    for (const name of ['a', 'b']) bench.engine.scheduler.set(name, every(SECOND));
    bench.engine.scheduler.set('free', every(SECOND, { spec: { ...SPEC, queue: 'other' } }));
    await pass(bench, 5 * SECOND, 500);
    expect(bench.engine.core.queue('q')).toMatchObject({ ready: 2, totals: { enqueued: 2 } });
    expect(info(bench, 'free').firedCount).toBeGreaterThanOrEqual(4);
    expect(bench.notices.filter((notice) => notice.includes('QUEUE_FULL'))).toHaveLength(1);
    const refused = expect.objectContaining({ code: 'QUEUE_FULL', details: expect.objectContaining({ queue: 'q' }) });
    expect(() => bench.engine.scheduler.runNow('a', KEY)).toThrow(refused);
    await bench.engine.commands.purgeQueue('q');
    await pass(bench, SECOND, 500);
    expect(ready(bench)).toBe(2);
    await pass(bench, 3 * SECOND, 500);
    expect(bench.notices.filter((notice) => notice.includes('QUEUE_FULL'))).toHaveLength(2);
    await bench.engine.close();
  });

  it('what makes up for its missed times fires as many of them as its queue has room for', async () => {
    const bench = await EngineBench.open();
    bench.engine.commands.setLimits('q', { length: 3 });
    bench.engine.scheduler.set('s', every(SECOND, { misfire: 'all' }));
    bench.clock.advance(10 * SECOND + 1);
    await turns();
    expect(ready(bench)).toBe(3);
    for (let left = 10; left > 0; left -= 3) {
      await bench.engine.commands.purgeQueue('q');
      await pass(bench, SECOND, 500);
    }
    expect(info(bench).firedCount).toBeGreaterThanOrEqual(10);
    await bench.engine.close();
  });
});
