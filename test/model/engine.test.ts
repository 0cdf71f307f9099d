import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KEEP_ALL } from './engine-bench.ts';
import { type EngineCommand, engineCommand } from './engine-commands.ts';
import { EngineHistory } from './engine-history.ts';

const RUNS = Number(process.env.MODEL_RUNS ?? 100);
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

function histories(size: 'small' | 'large', countMax: number): fc.Arbitrary<EngineCommand[]> {
  return fc.array(engineCommand(size), { minLength: 10, maxLength: countMax, size: 'max' });
}

async function run(history: EngineHistory, commands: readonly EngineCommand[]): Promise<void> {
  for (const command of commands) await history.run(command);
  await history.crash(true);
  await history.restart();
  await history.finish();
}

describe('an engine that begins again', () => {
  it('knows what it knew, after any history', { timeout: 3_600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        histories('small', 90),
        fc.nat(),
        fc.constantFrom(8 * 1024, 16 * 1024, 256 * 1024),
        fc.constantFrom(256 * 1024, 1024 * 1024),
        async (commands, seed, segmentBytes, cacheBytes) => {
          await run(await EngineHistory.begin({ segmentBytes, cacheBytes }, seed), commands);
        },
      ),
      { numRuns: RUNS, ...SEED },
    );
  });

  it('knows what it knew when segments were given up and their stragglers copied', { timeout: 3_600_000 }, async () => {
    const retention = { ...KEEP_ALL, completedCountMax: 3, deadCountMax: 3 };
    let recycled = 0;
    await fc.assert(
      fc.asyncProperty(
        histories('large', 160),
        fc.nat(),
        fc.constantFrom(4096, 8192, 16 * 1024),
        fc.constantFrom(256 * 1024, 1024 * 1024),
        async (commands, seed, segmentBytes, cacheBytes) => {
          const history = await EngineHistory.begin({ segmentBytes, cacheBytes, retention }, seed);
          await run(history, commands);
          if (history.recycled) recycled++;
        },
      ),
      { numRuns: RUNS, ...SEED },
    );
    // Otherwise this test would prove nothing.
    expect(recycled).toBeGreaterThan(RUNS / 4);
  });
});
