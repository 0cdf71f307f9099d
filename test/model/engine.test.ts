import fc from 'fast-check';
import { describe, it } from 'vitest';
import { engineCommand } from './engine-commands.ts';
import { EngineHistory } from './engine-history.ts';

const RUNS = Number(process.env.MODEL_RUNS ?? 150);
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

describe('an engine that begins again', () => {
  it('knows what it knew, after any history', { timeout: 3_600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(engineCommand, { minLength: 10, maxLength: 90, size: 'max' }),
        fc.nat(),
        fc.constantFrom(8 * 1024, 16 * 1024, 256 * 1024),
        fc.constantFrom(16 * 1024, 1024 * 1024),
        async (commands, seed, segmentBytes, cacheBytes) => {
          const history = await EngineHistory.begin({ segmentBytes, cacheBytes }, seed);
          for (const command of commands) await history.run(command);
          await history.crash(true);
          await history.restart();
          await history.finish();
        },
      ),
      { numRuns: RUNS, ...SEED },
    );
  });
});
