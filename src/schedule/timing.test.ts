import { describe, expect, it } from 'vitest';
import type { Timing } from '../core/schedules.ts';
import { LIMITS } from '../limits.ts';
import { lastDueMs, nextDueMs, parseTiming, sameTiming } from './timing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR_BEGIN = Date.UTC(2026, 0, 1);
const YEAR_END = Date.UTC(2027, 0, 1);
const NOW = Date.UTC(2026, 10, 28, 13, 0);

const iso = (ms: number | null): string => (ms === null ? 'never' : new Date(ms).toISOString());

/** All due times from `fromMs` to before `toMs`, each found from the one before. */
function dueTimes(timing: Timing, fromMs: number, toMs: number): string[] {
  const times: string[] = [];
  for (let ms = nextDueMs(timing, fromMs - 1); ms !== null && ms < toMs; ms = nextDueMs(timing, ms))
    times.push(iso(ms));
  return times;
}

/** How far local time is before UTC, by what the formatter of the zone says. */
function offsetOf(timeZone: string): (ms: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    ...({ year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric' } as const),
  });
  return (ms) => {
    const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    const { year, month, day, hour, minute } = parts as Record<string, number>;
    return Date.UTC(year, month - 1, day, hour, minute) - ms;
  };
}

interface Change {
  atMs: number;
  beforeMs: number;
  afterMs: number;
}

/** Every change of the zone's clock in 2026, to the minute. */
function changesOf(timeZone: string): Change[] {
  const offset = offsetOf(timeZone);
  const changes: Change[] = [];
  for (let fromMs = YEAR_BEGIN; fromMs < YEAR_END; fromMs += 12 * HOUR) {
    const [beforeMs, afterMs] = [offset(fromMs), offset(fromMs + 12 * HOUR)];
    if (beforeMs === afterMs) continue;
    let [low, high] = [fromMs, fromMs + 12 * HOUR];
    while (high - low > MINUTE) {
      const middle = low + Math.floor((high - low) / 2 / MINUTE) * MINUTE;
      if (offset(middle) === beforeMs) low = middle;
      else high = middle;
    }
    changes.push({ atMs: high, beforeMs, afterMs });
  }
  return changes;
}

interface Expression {
  cron: string;
  /** Whether it is due at this local time of a day. */
  at: (hour: number, minute: number) => boolean;
}

const FIXED: Expression[] = [
  { cron: '30 2 * * *', at: (hour, minute) => hour === 2 && minute === 30 },
  { cron: '0 2 * * *', at: (hour, minute) => hour === 2 && minute === 0 },
  { cron: '15 2 * * *', at: (hour, minute) => hour === 2 && minute === 15 },
  { cron: '0 0 * * *', at: (hour, minute) => hour === 0 && minute === 0 },
  { cron: '45 1 * * *', at: (hour, minute) => hour === 1 && minute === 45 },
  { cron: '30 2,14 * * *', at: (hour, minute) => (hour === 2 || hour === 14) && minute === 30 },
  { cron: '0,30 1-3 * * *', at: (hour, minute) => hour >= 1 && hour <= 3 && minute % 30 === 0 },
];
const COUNTING: Expression[] = [
  { cron: '* * * * *', at: () => true },
  { cron: '*/5 * * * *', at: (_, minute) => minute % 5 === 0 },
  { cron: '0 * * * *', at: (_, minute) => minute === 0 },
  { cron: '45 * * * *', at: (_, minute) => minute === 45 },
  { cron: '30 */2 * * *', at: (hour, minute) => hour % 2 === 0 && minute === 30 },
  { cron: '*/20 2 * * *', at: (hour, minute) => hour === 2 && minute % 20 === 0 },
];

/**
 * What the rules say, minute by minute and without croner. An expression that names times: each local time of each day once,
 * the first time that it comes, or when the gap ends in which it lies. One that counts: whatever the clock shows.
 */
function expected({ at }: Expression, change: Change, fromMs: number, toMs: number, named: boolean): string[] {
  const due = new Set<number>();
  const seen = new Set<number>();
  const visit = (localMs: number, ms: number): void => {
    const local = new Date(localMs);
    if (!at(local.getUTCHours(), local.getUTCMinutes())) return;
    if (named && seen.has(localMs)) return;
    seen.add(localMs);
    due.add(ms);
  };
  for (let ms = fromMs; ms < toMs; ms += MINUTE) {
    visit(ms + (ms < change.atMs ? change.beforeMs : change.afterMs), ms);
    if (!named || ms !== change.atMs) continue;
    for (let gapMs = ms + change.beforeMs; gapMs < ms + change.afterMs; gapMs += MINUTE) visit(gapMs, ms);
  }
  return [...due].map(iso);
}

/** The last ones change by half an hour, at midnight, back into the day before, and around a month that moves. */
const ZONES = [
  ...['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'],
  ...['America/Santiago', 'Atlantic/Azores', 'Asia/Beirut', 'America/Havana', 'Africa/Casablanca'],
];

describe.each(ZONES)('each change of the clock of 2026 in %s', (timeZone) => {
  const changes = changesOf(timeZone);

  it('is one of two', () => {
    expect(changes).toHaveLength(2);
  });

  for (const [kind, expressions] of Object.entries({ 'names times': FIXED, counts: COUNTING })) {
    it(`has each due time of an expression that ${kind} exactly once`, () => {
      for (const change of changes) {
        const [fromMs, toMs] = [change.atMs - 30 * HOUR, change.atMs + 30 * HOUR];
        for (const expression of expressions) {
          const timing = { cron: expression.cron, timeZone };
          const times = dueTimes(timing, fromMs, toMs);
          expect(times, expression.cron).toEqual(expected(expression, change, fromMs, toMs, kind === 'names times'));
        }
      }
    });
  }

  it('gives the same times looked at backwards', () => {
    for (const { atMs } of changes) {
      for (const { cron } of [...FIXED, ...COUNTING]) {
        const timing = { cron, timeZone };
        const times = dueTimes(timing, atMs - 6 * HOUR, atMs + 6 * HOUR);
        for (const [index, time] of times.entries()) {
          expect(iso(lastDueMs(timing, Date.parse(time))), cron).toBe(time);
          if (index > 0) expect(iso(lastDueMs(timing, Date.parse(time) - 1)), cron).toBe(times[index - 1]);
        }
      }
    }
  });

  it('leaves an interval alone', () => {
    for (const { atMs } of changes) {
      const timing = { everyMs: 90 * MINUTE, anchorMs: atMs - DAY };
      const times = dueTimes(timing, atMs - 6 * HOUR, atMs + 6 * HOUR);
      expect(times).toHaveLength(8);
    }
  });
});

describe('a whole year', () => {
  it.each(['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'UTC'])(
    'has 365 nights and 8760 hours in %s',
    (timeZone) => {
      expect(new Set(dueTimes({ cron: '30 2 * * *', timeZone }, YEAR_BEGIN, YEAR_END)).size).toBe(365);
      const hours = dueTimes({ cron: '0 * * * *', timeZone }, YEAR_BEGIN, YEAR_END);
      expect(new Set(hours).size).toBe(hours.length);
      // What is an hour by the clock is half an hour later after a change by half of one, and an hour more or less has no such begin.
      expect(Math.abs(hours.length - 8760)).toBeLessThanOrEqual(1);
    },
  );
});

describe('the rules of docs/schedules.md', () => {
  const due = (cron: string, day: string, timeZone = 'Europe/Berlin'): string[] =>
    dueTimes({ cron, timeZone }, Date.parse(day) - 2 * HOUR, Date.parse(day) + 22 * HOUR).map((time) =>
      time.slice(5, 16),
    );

  it('a time that is left out comes when the gap ends, one that comes twice comes first', () => {
    expect(due('30 2 * * *', '2026-03-29')).toEqual(['03-29T01:00']);
    expect(due('30 2 * * *', '2026-10-25')).toEqual(['10-25T00:30']);
    expect(due('30 2,14 * * *', '2026-03-29')).toEqual(['03-29T01:00', '03-29T12:30']);
  });

  it('what counts leaves out what is left out, and goes on through the hour that comes twice', () => {
    expect(due('30 * * * *', '2026-03-29').slice(2, 6)).toEqual([
      '03-29T00:30',
      '03-29T01:30',
      '03-29T02:30',
      '03-29T03:30',
    ]);
    expect(due('30 * * * *', '2026-10-25').slice(2, 6)).toEqual([
      '10-25T00:30',
      '10-25T01:30',
      '10-25T02:30',
      '10-25T03:30',
    ]);
    expect(due('*/20 2 * * *', '2026-03-29')).toEqual([]);
    expect(due('*/20 2 * * *', '2026-10-25')).toHaveLength(6);
  });
});

describe('an expression', () => {
  const parse = (cron: string, timeZone?: string): Timing => parseTiming({ cron, timeZone }, NOW);

  it('may have seconds, names, steps, lists, ranges, the last day, and nicknames', () => {
    const next = (cron: string): string => iso(nextDueMs(parse(cron), NOW));
    expect(next('*/10 * * * * *')).toBe('2026-11-28T13:00:10.000Z');
    expect(next('0 9 * * MON-FRI')).toBe('2026-11-30T09:00:00.000Z');
    expect(next('0 9 1,15 * *')).toBe('2026-12-01T09:00:00.000Z');
    expect(next('0 0 L * *')).toBe('2026-11-30T00:00:00.000Z');
    expect(next('0 12 * * SUN#2')).toBe('2026-12-13T12:00:00.000Z');
    expect(next('@daily')).toBe('2026-11-29T00:00:00.000Z');
    expect(next('0 0 29 2 *')).toBe('2028-02-29T00:00:00.000Z');
  });

  it('is due when the day of the month or the weekday is, as in every cron', () => {
    expect(dueTimes(parse('0 0 13 * FRI'), Date.UTC(2026, 10, 1), Date.UTC(2026, 10, 16))).toEqual([
      '2026-11-06T00:00:00.000Z',
      '2026-11-13T00:00:00.000Z',
    ]);
  });

  it('is in UTC unless a time zone is named', () => {
    expect(parse(' 30  2 * * * ')).toEqual({ cron: '30 2 * * *', timeZone: 'UTC' });
    expect(iso(nextDueMs(parse('30 2 * * *', 'Asia/Kolkata'), NOW))).toBe('2026-11-28T21:00:00.000Z');
  });

  it.each([
    ['', 'which has 0 fields'],
    ['* * * *', 'which has 4 fields'],
    ['* * * * * * *', 'which has 7 fields'],
    ['61 * * * *', 'which is no expression'],
    ['*/0 * * * *', 'which is no expression'],
    ['each morning', 'which has 2 fields'],
    ['each day at the third hour', 'which is no expression'],
    ['@reboot', 'which is no expression'],
    ['0 0 30 2 *', 'never comes'],
    ['2026-12-01T00:00:00', 'enqueue a task with runAt'],
    ['*'.repeat(257), 'at most 256'],
    [5, 'must be text'],
  ])('%s is refused: %s', (cron, says) => {
    expect(() => parse(cron as string)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => parse(cron as string)).toThrow(says);
  });

  it.each(['Mars/Phobos', '', 'Europe/Berlin\0', 7])('a time zone %j is refused', (timeZone) => {
    const refused = expect.objectContaining({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('timeZone is'),
    });
    expect(() => parse('0 0 * * *', timeZone as string)).toThrow(refused);
  });

  it('equals one with other spaces, not one in another zone', () => {
    expect(sameTiming(parse('0 0 * * *'), parse(' 0 0  * * *'))).toBe(true);
    expect(sameTiming(parse('0 0 * * *'), parse('0 0 * * *', 'Europe/Berlin'))).toBe(false);
    expect(sameTiming(parse('0 0 * * *'), parseTiming({ everyMs: 1000 }, NOW))).toBe(false);
  });
});

describe('an interval', () => {
  it('counts from when it was made', () => {
    const timing = parseTiming({ everyMs: 1500 }, NOW + 0.5);
    expect(nextDueMs(timing, NOW + 0.5)).toBe(NOW + 1500);
    expect(nextDueMs(timing, NOW + 1500)).toBe(NOW + 3000);
    expect(nextDueMs(timing, NOW + 2999)).toBe(NOW + 3000);
    expect(nextDueMs(timing, NOW - DAY)).toBe(NOW + 1500);
    expect(lastDueMs(timing, NOW + 1499)).toBeNull();
    expect(lastDueMs(timing, NOW + 3000)).toBe(NOW + 3000);
  });

  it('has bounds, no time zone, and no expression beside it', () => {
    for (const everyMs of [LIMITS.scheduleEveryMsMin - 1, LIMITS.delayMsMax + 1, 1000.5, '1000', Number.NaN]) {
      const refused = expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('everyMs'),
      });
      expect(() => parseTiming({ everyMs: everyMs as number }, NOW)).toThrow(refused);
    }
    expect(() => parseTiming({ everyMs: 1000, timeZone: 'UTC' }, NOW)).toThrow('timeZone was given with everyMs');
    expect(() => parseTiming({ everyMs: 1000, cron: '* * * * *' }, NOW)).toThrow('both given');
    expect(() => parseTiming({}, NOW)).toThrow('neither');
  });
});
