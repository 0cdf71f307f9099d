import type { SimulationOptions, SimulationResult } from './simulation.ts';

/** What a failing run says: what was broken, the last events, and the line that does it again. */
export function report(options: SimulationOptions, result: SimulationResult): string {
  const { violation, lastLines, steps, fingerprint } = result;
  return [
    '',
    ...lastLines,
    '',
    `seed ${options.seed} broke a promise after ${steps} events (${fingerprint}): ${violation?.message}`,
    `again: ${replayLine(options)}`,
  ].join('\n');
}

export function replayLine({ seed, steps, without = [] }: SimulationOptions): string {
  const rest = without.length === 0 ? '' : ` --without=${without.join(',')}`;
  return `npm run test:sim -- --seed=${seed} --steps=${steps}${rest}`;
}
