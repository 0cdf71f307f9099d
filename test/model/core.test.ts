import fc from 'fast-check';
import { describe, it } from 'vitest';
import { command, retention } from './core-commands.ts';
import { CoreTwin } from './core-twin.ts';

/** `MODEL_RUNS=20000 npx vitest run test/model` looks longer; a failure prints its seed and path. */
const RUNS = Number(process.env.MODEL_RUNS ?? 150);
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

describe('the core against its model', () => {
  it('does what the model does under any sequence of commands', { timeout: 3_600_000 }, () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120, size: 'max' }), retention, (commands, policy) => {
        const twin = new CoreTwin(policy);
        for (const each of commands) {
          twin.run(each);
          twin.check();
        }
        twin.drain();
      }),
      { numRuns: RUNS, ...SEED },
    );
  });
});
