import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { crashAtEveryWrite } from './every-write.ts';
import { MUTANTS } from './mutants.ts';
import { report } from './report.ts';
import { type SimulationOptions, simulate } from './simulation.ts';

/** Bounded by events, not by time: about a minute on a machine that has other things to do. */
const STEPS = 20_000;
const FIXED_SEEDS = 24;
const FRESH_SEEDS = 12;
/** `MILLRACE_SIM_SEED=7` begins the fresh ones there. */
const FIRST_FRESH = Number(process.env.MILLRACE_SIM_SEED ?? Math.floor(Math.random() * 2 ** 30));

async function holds(options: SimulationOptions): Promise<void> {
  const result = await simulate(options);
  if (result.violation !== undefined) expect.fail(report(options, result));
}

test('the same seed gives the same run, to the byte', async () => {
  const options = { seed: 11, steps: STEPS };
  const first = await simulate(options);
  const second = await simulate(options);
  expect(second).toEqual(first);
  const other = await simulate({ seed: 12, steps: 2000 });
  expect(other.fingerprint).not.toBe(first.fingerprint);
}, 120_000);

test.each(Array.from({ length: FIXED_SEEDS }, (_, i) => i + 1))(
  'every promise holds in the world of seed %i',
  async (seed) => holds({ seed, steps: STEPS }),
  120_000,
);

test.each(Array.from({ length: FRESH_SEEDS }, (_, i) => FIRST_FRESH + i))(
  'every promise holds in the new world of seed %i',
  async (seed) => holds({ seed, steps: STEPS }),
  120_000,
);

test('a world where nothing goes wrong confirms, delivers and completes', async () => {
  const { counts, violation } = await simulate({ seed: 5, steps: 3000, without: ['*'] });
  expect(violation).toBeUndefined();
  expect(counts.serverLives).toBe(2);
  expect(counts.completed).toBeGreaterThan(20);
});

test('where nothing goes wrong, streams of events have no gaps, and what slow ones miss is counted', async () => {
  const { counts, violation } = await simulate({ seed: 26, steps: STEPS, without: ['*'] });
  expect(violation).toBeUndefined();
  expect(counts).toMatchObject({ eventGaps: 0 });
  expect(counts.eventsTold).toBeGreaterThan(1000);
  expect(counts.eventsDropped).toBeGreaterThan(0);
}, 120_000);

// How many writes a world has is chance: some fresh seeds give few.
test.each([
  ['a fixed', 1, 10],
  ['a fresh', FIRST_FRESH, 0],
])(
  'every promise holds after a crash at any write of %s seed, and another one soon after',
  async (_, seed, few) => {
    const { failure, worlds } = await crashAtEveryWrite(seed, { draws: 2, outcomesMax: 16, every: 20 });
    expect(failure).toBeUndefined();
    expect(worlds).toBeGreaterThan(few);
  },
  120_000,
);

test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  'the bug %s can still be planted',
  (_name, { file, find, replace }) => {
    const parts = readFileSync(file, 'utf8').split(find);
    expect(parts).toHaveLength(2);
    expect(parts.join(replace)).not.toBe(parts.join(find));
  },
);
