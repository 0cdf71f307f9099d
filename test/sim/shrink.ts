import { FAULTS } from './nemesis.ts';
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';
import { ACTIONS, BEHAVIOURS } from './workload.ts';

interface Shrunk {
  readonly options: SimulationOptions;
  readonly result: SimulationResult;
}

/** Everything that a run can do without, if what is sought shows all the same. */
const PARTS: readonly string[] = [
  ...Object.keys(FAULTS),
  'clients=1',
  'workers=1',
  'watching',
  ...BEHAVIOURS,
  ...Object.keys(ACTIONS),
].filter((part) => part !== 'enqueue');

/** Cuts a failing run down to fewer events and fewer kinds of them, as long as the same kind of promise is broken. */
export async function shrink(from: SimulationOptions, kind: string, tell: (line: string) => void): Promise<Shrunk> {
  let best: Shrunk = { options: from, result: await simulate(from) };
  const attempt = async (options: SimulationOptions): Promise<boolean> => {
    const result = await simulate(options);
    if (result.violation?.kind !== kind) return false;
    best = { options: { ...options, steps: Math.min(options.steps, result.steps) }, result };
    tell(`shrunk to ${best.options.steps} events without ${(options.without ?? []).join(', ') || 'nothing'}`);
    return true;
  };
  const shorten = async (): Promise<void> => {
    let low = 0;
    let high = Math.min(best.options.steps, best.result.steps);
    while (high - low > Math.max(20, high / 20)) {
      const middle = Math.floor((low + high) / 2);
      if (await attempt({ ...best.options, steps: middle })) high = Math.min(middle, best.options.steps);
      else low = middle;
    }
  };
  await shorten();
  for (const part of PARTS) {
    const without = best.options.without ?? [];
    if (!without.includes(part)) await attempt({ ...best.options, without: [...without, part] });
  }
  await shorten();
  return best;
}
