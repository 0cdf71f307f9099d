import { SimRandom } from './random.ts';
import { replayLine } from './report.ts';
import { type CrashPoint, type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';

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
  /** Crashes that were tried in every way that they may end, and in some. */
  readonly exhausted: number;
  readonly drawn: number;
  /** The first promise that was broken, and how to see that again. */
  readonly failure: string | undefined;
}

export interface EveryWriteOptions {
  /** Of a crash that may end in more ways than `outcomesMax`: how many of them are drawn. */
  readonly draws: number;
  /** A crash that may end in so many ways or fewer is tried in each of them. */
  readonly outcomesMax: number;
  /** 3 takes one in three of the writes. */
  readonly every: number;
}

/**
 * Takes the power away at each write and sync of a history, before, during and after it, in every way that the disk may
 * keep, drop and tear what it has (or in some, if they are many); most times once more at one of the next writes, while the
 * server recovers or soon after.
 */
export async function crashAtEveryWrite(seed: number, options: EveryWriteOptions): Promise<EveryWrite> {
  const history: SimulationOptions = { seed, steps: HISTORY_STEPS, without: QUIET };
  const random = new SimRandom(`${seed}/every write`);
  const done = { worlds: 0, steps: 0, exhausted: 0, drawn: 0, failure: undefined as string | undefined };
  const run = async (crash: CrashPoint): Promise<SimulationResult['counts']> => {
    const { violation, steps, counts } = await simulate({ ...history, crash });
    done.worlds++;
    done.steps += steps;
    if (violation !== undefined) {
      done.failure ??= `${violation.message}\nagain: ${replayLine(history)} --crash=${formatCrash(crash)}`;
    }
    return counts;
  };
  const { diskWrites = 0 } = await run({ writes: [], phase: 0, draw: 0 });
  for (let write = 1; write <= diskWrites; write++) {
    if (random.int(1, options.every) > 1) continue;
    for (const phase of PHASES) {
      const crash = (): CrashPoint => {
        const isOne = random.chance(0.3);
        return { writes: isOne ? [write] : [write, write + random.int(1, AGAIN_WITHIN)], phase, draw: 0 };
      };
      const { firstCrashOutcomes = 0 } = await run({ ...crash(), outcome: 0 });
      const isFew = firstCrashOutcomes <= options.outcomesMax;
      done[isFew ? 'exhausted' : 'drawn']++;
      if (isFew) for (let outcome = 1; outcome < firstCrashOutcomes; outcome++) await run({ ...crash(), outcome });
      else for (let draw = 0; draw < options.draws; draw++) await run({ ...crash(), draw });
      if (done.failure !== undefined) return done;
    }
  }
  return done;
}

/** `12+15,0.5,3`, and behind that the number of the outcome, if one was asked for. */
function formatCrash({ writes, phase, draw, outcome }: CrashPoint): string {
  return [writes.join('+'), phase, draw, ...(outcome === undefined ? [] : [outcome])].join(',');
}

/** What `formatCrash` wrote, as a failure names it. */
export function parseCrash(text: string): CrashPoint {
  const [writes = '', phase = '0', draw = '0', outcome] = text.split(',');
  return {
    writes: writes.split('+').map(Number),
    phase: Number(phase),
    draw: Number(draw),
    outcome: outcome === undefined ? undefined : Number(outcome),
  };
}
