import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Schedule, Schedules } from './schedules.ts';

function schedule(name: string, nextMs: number | null, paused = false): Schedule {
  return {
    name,
    timing: { everyMs: 1000, anchorMs: 0 },
    misfire: 'once',
    spec: {
      ...{ queue: 'q', name: 'n', priority: 4, maxAttempts: 3, timeoutMs: 1000 },
      backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
    },
    payload: { encoding: 'utf8', data: 'null' },
    paused,
    nextMs,
    ...{ lastMs: null, lastId: null, firedCount: 0, runs: [] },
  };
}

const fire = (dueMs: number, nextMs: number | null): Parameters<Schedules['fired']>[1] => ({
  ...{ dueMs, nextMs, count: 1, lastId: 7, key: '' },
});

describe('schedules', () => {
  it('are due in the order of their times, and of those in which they came', () => {
    const schedules = new Schedules();
    for (const [name, ms] of [
      ['c', 30],
      ['a', 10],
      ['b', 20],
      ['a2', 10],
    ] as const) {
      schedules.set(schedule(name, ms));
    }
    expect(schedules.nextMs).toBe(10);
    expect(schedules.due(9)).toBeUndefined();
    const order: string[] = [];
    for (let one = schedules.due(100); one !== undefined; one = schedules.due(100)) {
      order.push(one.name);
      schedules.fired(one.name, fire(one.nextMs as number, null));
    }
    expect(order).toEqual(['a', 'a2', 'b', 'c']);
    expect(schedules.nextMs).toBe(Number.POSITIVE_INFINITY);
  });

  it('count what they take, whatever replaces what', () => {
    const schedules = new Schedules();
    schedules.set(schedule('a', 1));
    const { bytes } = schedules;
    schedules.set({ ...schedule('a', 2), payload: { encoding: 'utf8', data: 'x'.repeat(1000) } });
    expect(schedules.bytes).toBe(bytes + 996);
    schedules.remove('a');
    schedules.remove('a');
    expect([schedules.bytes, schedules.count]).toEqual([0, 0]);
  });

  it('that are put aside come back with their time, unless they were replaced or removed', () => {
    const schedules = new Schedules();
    for (const name of ['a', 'b', 'c', 'd']) schedules.set(schedule(name, 10));
    for (let i = 0; i < 4; i++) schedules.putAside();
    expect(schedules.nextMs).toBe(Number.POSITIVE_INFINITY);
    schedules.remove('a');
    schedules.set(schedule('b', 50));
    schedules.move('c', false, 40);
    schedules.bringBack();
    const order: [string, number][] = [];
    for (let one = schedules.due(100); one !== undefined; one = schedules.due(100)) {
      order.push([one.name, one.nextMs as number]);
      schedules.fired(one.name, fire(one.nextMs as number, null));
    }
    expect(order).toEqual([
      ['d', 10],
      ['c', 40],
      ['b', 50],
    ]);
  });

  it('remember the last firings that somebody asked for, and no more', () => {
    const schedules = new Schedules();
    schedules.set(schedule('a', 10));
    for (let i = 0; i < 20; i++) schedules.fired('a', { ...fire(5, 10), lastId: i, key: `k${i}` });
    expect(schedules.get('a')).toMatchObject({ nextMs: 10, firedCount: 20, lastId: 19 });
    expect(schedules.get('a')?.runs).toEqual(Array.from({ length: 8 }, (_, i) => [`k${12 + i}`, 12 + i]));
    expect(schedules.due(10)?.name).toBe('a');
  });

  it('are always due like a list that is searched', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    const ms = fc.integer({ min: 0, max: 20 });
    const step = fc.oneof(
      fc.record({ do: fc.constant('set' as const), name, ms }),
      fc.record({ do: fc.constant('move' as const), name, ms: fc.option(ms) }),
      fc.record({ do: fc.constant('remove' as const), name }),
      fc.record({ do: fc.constant('fire' as const), ms: fc.option(ms) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const schedules = new Schedules();
        const model = new Map<string, number | null>();
        for (const one of steps) {
          if (one.do === 'set') {
            schedules.set(schedule(one.name, one.ms));
            model.set(one.name, one.ms);
          } else if (one.do === 'move') {
            schedules.move(one.name, one.ms === null, one.ms);
            if (model.has(one.name)) model.set(one.name, one.ms);
          } else if (one.do === 'remove') {
            schedules.remove(one.name);
            model.delete(one.name);
          } else {
            const due = schedules.due(Number.MAX_SAFE_INTEGER);
            if (due !== undefined) {
              schedules.fired(due.name, fire(0, one.ms));
              model.set(due.name, one.ms);
            }
          }
          const times = [...model.values()].filter((time) => time !== null);
          expect(schedules.nextMs).toBe(Math.min(...times));
          const due = schedules.due(Number.MAX_SAFE_INTEGER);
          expect(due?.nextMs).toBe(times.length === 0 ? undefined : Math.min(...times));
        }
        expect(schedules.count).toBe(model.size);
      }),
    );
  });
});
