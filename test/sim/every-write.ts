import { SimRandom } from './random.ts';
import { replayLine } from './report.ts';
import { type CrashPoint, type SimulationOptions, simulate } from './simulation.ts';

/** A short history in which nothing else goes wrong. */
const HISTORY_STEPS = 1200;
const QUIET = ['*', 'clients=1', 'workers=1', 'kills', 'hangs'];
/** Before, during and after a write. */
const PHASES = [0, 0.5, 1];
/** A second crash comes so soon that it often hits the recovery from the first. */
const AGAIN_WITHIN = 8;

export interface EveryWrite {
  readonly worlds: number;
  readonly steps: number;
  /** The first promise that was broken, and how to see that again. */
  readonly failure: string | undefined;
}

/**
 * Takes the power away at each write and sync of a history, before, during and after it, with `draws` outcomes each of
 * what the disk keeps, drops and tears; then again at one of the next writes, while the server recovers or soon after.
 * `every` 3 takes one in three of them.
 */
export async function crashAtEveryWrite(
  seed: number,
  { draws, every }: { draws: number; every: number },
): Promise<EveryWrite> {
  const history: SimulationOptions = { seed, steps: HISTORY_STEPS, without: QUIET };
  const whole = await simulate({ ...history, crash: { writes: [], phase: 0, draw: 0 } });
  if (whole.violation !== undefined) return { worlds: 1, steps: whole.steps, failure: whole.violation.message };
  const random = new SimRandom(`${seed}/every write`);
  let worlds = 1;
  let { steps } = whole;
  for (let write = 1; write <= (whole.counts.diskWrites ?? 0); write++) {
    for (const phase of PHASES) {
      for (let draw = 0; draw < draws; draw++) {
        const writes = random.chance(0.3) ? [write] : [write, write + random.int(1, AGAIN_WITHIN)];
        if (random.int(1, every) > 1) continue;
        const crash: CrashPoint = { writes, phase, draw };
        const result = await simulate({ ...history, crash });
        worlds++;
        steps += result.steps;
        if (result.violation === undefined) continue;
        const again = `${replayLine(history)} --crash=${writes.join('+')},${phase},${draw}`;
        return { worlds, steps, failure: `${result.violation.message}\nagain: ${again}` };
      }
    }
  }
  return { worlds, steps, failure: undefined };
}

/** `12+15,0.5,3`, as a failure names it. */
export function parseCrash(text: string): CrashPoint {
  const [writes = '', phase = '0', draw = '0'] = text.split(',');
  return { writes: writes.split('+').map(Number), phase: Number(phase), draw: Number(draw) };
}
