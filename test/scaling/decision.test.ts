import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  DEFAULT_POLICY,
  decide,
  INITIAL_STATE,
  type Observation,
  type ScalingState,
} from '../../src/scaling/decision.ts';
import { workersNeeded } from '../../src/scaling/sizing.ts';
import { run, type Scene } from './flow.ts';

const MINUTE = 60_000;

const BASE: Scene = {
  policy: { ...DEFAULT_POLICY, max: 8 },
  rateOfOne: 10,
  arrivals: () => 5,
  startMs: 600,
  finishMs: 200,
  lengthMs: 10 * MINUTE,
};

const QUIET: Observation = {
  current: 1,
  atWork: 1,
  retiring: 0,
  queues: [],
  utilisation: 0,
  runningShare: 0,
  heldAhead: 0,
  arrivalRate: 0,
  endRate: 0,
  share: 1,
};

/** Worlds of any kind: what a load may do, and what a user may set. */
const scenes = fc
  .record({
    min: fc.integer({ min: 1, max: 5 }),
    beside: fc.integer({ min: 0, max: 12 }),
    backlogAgeMs: fc.integer({ min: 1000, max: 30_000 }),
    upPauseMs: fc.integer({ min: 0, max: 10_000 }),
    downAfterMs: fc.integer({ min: 1000, max: 60_000 }),
    rateOfOne: fc.double({ min: 0.2, max: 500, noNaN: true }),
    startMs: fc.integer({ min: 100, max: 5000 }),
    finishMs: fc.integer({ min: 0, max: 120_000 }),
    loads: fc.array(fc.double({ min: 0, max: 20, noNaN: true }), { minLength: 1, maxLength: 6 }),
  })
  .map(({ min, beside, backlogAgeMs, upPauseMs, downAfterMs, loads, ...rest }) => ({
    ...BASE,
    ...rest,
    policy: { min, max: min + beside, backlogAgeMs, upPauseMs, downAfterMs },
    /** In processes that it keeps wholly busy, one after another. */
    loads,
  }));

test('there are never fewer processes than min, nor with those that retire more than max', () => {
  fc.assert(
    fc.property(scenes, ({ loads, ...scene }) => {
      const lengthMs = loads.length * 3 * MINUTE;
      const arrivals = (atMs: number) =>
        (loads[Math.floor((atMs / lengthMs) * loads.length)] as number) * scene.rateOfOne;
      const { sizes, alive, changes } = run({ ...scene, arrivals, lengthMs });
      expect(Math.min(...sizes)).toBeGreaterThanOrEqual(scene.policy.min);
      expect(alive).toBeLessThanOrEqual(scene.policy.max);
      for (const { from, to, reason } of changes) {
        expect(to < from ? from - to : 1, 'one retires at a time').toBe(1);
        expect(to, 'they double at most').toBeLessThanOrEqual(2 * from);
        expect(reason).not.toBe('');
      }
    }),
    { numRuns: 40 },
  );
});

test('under a constant load the number comes to rest, and what waits with it', () => {
  fc.assert(
    fc.property(scenes, fc.double({ min: 0, max: 1, noNaN: true }), ({ loads: _, ...scene }, part) => {
      const load = part * scene.policy.max * 0.95;
      const { changes, sizes, ages } = run({
        ...scene,
        finishMs: 0,
        arrivals: () => load * scene.rateOfOne,
        lengthMs: 45 * MINUTE,
      });
      const settled = changes.filter(({ atMs }) => atMs > 30 * MINUTE);
      expect(settled).toEqual([]);
      expect(sizes.at(-1)).toBeGreaterThanOrEqual(load - 1e-6);
      expect(ages.at(-1)).toBeLessThanOrEqual(scene.policy.backlogAgeMs);
      const turns = changes.filter(
        ({ from, to }, index) => index > 0 && to > from !== changes[index - 1]!.to > changes[index - 1]!.from,
      );
      expect(turns.length, 'up, perhaps too far, and back').toBeLessThanOrEqual(2);
    }),
    { numRuns: 25 },
  );
});

test('a load right at a threshold does not flap', () => {
  for (const load of [0.6, 0.8, 0.99, 1, 1.01, 1.19, 1.2, 1.21, 1.6, 2, 2.4]) {
    const { changes } = run({ ...BASE, arrivals: () => load * BASE.rateOfOne, lengthMs: 60 * MINUTE });
    expect(changes.length, `${load}: ${JSON.stringify(changes)}`).toBeLessThanOrEqual(3);
  }
});

test('a load that swings around a threshold makes each retirement that is taken back rarer', () => {
  // Two minutes of little, ten seconds that one process cannot take.
  const arrivals = (atMs: number) => (atMs % (2 * MINUTE) < 10_000 ? 40 : 2);
  const { changes } = run({ ...BASE, arrivals, lengthMs: 60 * MINUTE });
  const [early, late] = [0, 30].map((from) =>
    changes.filter(({ atMs }) => atMs >= from * MINUTE && atMs < (from + 30) * MINUTE),
  );
  expect(early!.length).toBeGreaterThan(0);
  expect(late!.length).toBeLessThan(early!.length / 2);
});

test('a burst brings in what is needed within seconds of the limit, and it is given back when it is over', () => {
  const arrivals = (atMs: number) => (atMs >= MINUTE && atMs < 3 * MINUTE ? 60 : 1);
  const { changes, ages, sizes } = run({ ...BASE, arrivals, lengthMs: 15 * MINUTE });
  const full = changes.find(({ to }) => to === 8)!;
  expect(full.atMs - MINUTE).toBeLessThanOrEqual(20_000);
  expect(Math.max(...ages)).toBeLessThan(15_000);
  expect(sizes.at(-1)).toBe(1);
  expect(changes[0]!.reason).toMatch(
    /^\d+ tasks wait.*longer than 5 s; handlers are 100 % busy, 1 process can do 10 a second: \d+ would be right$/,
  );
  expect(changes.at(-1)!.reason).toMatch(/^fewer have been enough for 30 s: no task waits, handlers are \d+ % busy$/);
});

test.each(['paused', 'rate', 'concurrency'] as const)(
  'a queue that is held up (%s) starts nothing, however old its tasks are',
  (heldUpBy) => {
    const { changes, remarks } = run({ ...BASE, arrivals: () => 100, heldUpBy: () => heldUpBy });
    expect(changes).toEqual([]);
    const said = heldUpBy === 'paused' ? 'q is paused' : `q is at its ${heldUpBy}`;
    expect(remarks).toEqual([`tasks wait, but ${said}: more processes would not help`]);
  },
);

test('what was started retires while its queue is held up, and comes back afterwards', () => {
  const heldUpBy = (atMs: number) => (atMs > 2 * MINUTE && atMs < 8 * MINUTE ? 'paused' : undefined);
  const { sizes } = run({ ...BASE, arrivals: () => 45, heldUpBy, lengthMs: 10 * MINUTE });
  expect(sizes[115]).toBeGreaterThanOrEqual(5);
  expect(sizes[475]).toBe(1);
  expect(sizes.at(-1)).toBe(8);
});

test('tasks that wait although handlers are free start nothing, and keep nothing', () => {
  const stuck = { name: 'q', ready: 50, oldestReadyMs: 60_000, heldUpBy: undefined };
  let state: ScalingState = INITIAL_STATE;
  const told: (string | undefined)[] = [];
  let current = 3;
  for (let nowMs = 0; nowMs <= 70_000; nowMs += 1000) {
    const seen = { ...QUIET, current, atWork: current, queues: [stuck], utilisation: 0.1, runningShare: 0.1 };
    const decision = decide(BASE.policy, state, seen, nowMs);
    state = decision.state;
    current = decision.target;
    if (decision.reason !== undefined) told.push(decision.reason);
  }
  expect(current).toBe(1);
  expect(told[0]).toContain('handlers are only 10 % busy: more processes would not help');
  expect(told).toHaveLength(3);
});

test('at max it says once that more would help', () => {
  const { remarks, sizes } = run({ ...BASE, policy: { ...BASE.policy, max: 2 }, arrivals: () => 50 });
  expect(sizes.at(-1)).toBe(2);
  expect(remarks).toEqual([expect.stringMatching(/but there are 2 processes, as many as may be$/)]);
});

test('while nothing has ended yet they double', () => {
  const waiting = { name: 'q', ready: 500, oldestReadyMs: 9000, heldUpBy: undefined };
  const seen = { ...QUIET, current: 2, atWork: 2, queues: [waiting], utilisation: 1, runningShare: 1 };
  const { state } = decide(BASE.policy, INITIAL_STATE, seen, 0);
  expect(decide(BASE.policy, state, seen, 1000)).toMatchObject({
    target: 4,
    reason:
      '500 tasks wait, the oldest for 9 s, longer than 5 s; handlers are 100 % busy, and nothing that 2 processes began has ended yet',
  });
});

test('nothing is decided before what was started is at work, nor while nobody is', () => {
  const waiting = { name: 'q', ready: 500, oldestReadyMs: 9000, heldUpBy: undefined };
  const seen = { ...QUIET, current: 4, atWork: 2, queues: [waiting], utilisation: 1, runningShare: 1 };
  const state = { ...INITIAL_STATE, pressed: 5, lastUpAtMs: 0 };
  expect(decide(BASE.policy, state, seen, 14_000).target).toBe(4);
  expect(decide(BASE.policy, state, seen, 16_000).target).toBe(8);
  const idle = { ...seen, queues: [], utilisation: 0, runningShare: 0 };
  expect(decide(BASE.policy, state, idle, 14_000).state.quietSinceMs).toBeUndefined();
  expect(decide(BASE.policy, state, idle, 16_000).state.quietSinceMs).toBe(16_000);
  expect(decide(BASE.policy, state, { ...seen, atWork: 0 }, 60_000)).toEqual({ state, target: 4, reason: undefined });
});

test('two supervisors of one queue take their parts of its backlog', () => {
  const waiting = { name: 'q', ready: 300, oldestReadyMs: 9000, heldUpBy: undefined };
  const seen = {
    ...QUIET,
    current: 10,
    atWork: 10,
    queues: [waiting],
    utilisation: 1,
    runningShare: 1,
    endRate: 100,
    arrivalRate: 200,
  };
  const policy = { ...BASE.policy, max: 100 };
  const targetOf = (share: number) => decide(policy, { ...INITIAL_STATE, pressed: 1 }, { ...seen, share }, 0).target;
  expect(targetOf(1)).toBe(20);
  expect(targetOf(0.5)).toBe(17);
});

test('what is needed follows from what arrives, what waits, and what one worker does', () => {
  const load = { arrivalRate: 40, endRate: 20, waiting: 100, busyWorkers: 2 };
  expect(workersNeeded(load, 5000)).toBe(8);
  expect(workersNeeded({ ...load, waiting: 0 }, 5000)).toBe(5);
  expect(workersNeeded({ ...load, endRate: 0 }, 5000)).toBeUndefined();
  expect(workersNeeded({ ...load, busyWorkers: 0 }, 5000)).toBeUndefined();
});
