import { parseArgs } from 'node:util';
import { crashAtEveryWrite, parseCrash } from './every-write.ts';
import { report } from './report.ts';
import { shrink } from './shrink.ts';
import { simulate } from './simulation.ts';

/** `npm run test:sim -- --seed=1 --steps=100000`: worlds with ascending seeds until there were so many events. */
const WORLD_STEPS = 20_000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    steps: { type: 'string', default: '500000' },
    'world-steps': { type: 'string', default: String(WORLD_STEPS) },
    without: { type: 'string', default: '' },
    shrink: { type: 'boolean', default: true },
    quiet: { type: 'boolean', default: false },
    crash: { type: 'string' },
    'every-write': { type: 'boolean', default: false },
    draws: { type: 'string', default: '2' },
    outcomes: { type: 'string', default: '64' },
    'keep-going': { type: 'boolean', default: false },
  },
  allowNegative: true,
});

const without = values.without.split(',').filter((name) => name !== '');
const stepsWanted = Number(values.steps);
const worldSteps = Math.min(Number(values['world-steps']), stepsWanted);
let seed = Number(values.seed ?? process.pid * 1000);
let steps = 0;
let worlds = 0;
let failures = 0;
let simulatedMs = 0;
const counts: Record<string, number> = {};
const startMs = performance.now();

while (values['every-write'] && steps < stepsWanted) {
  const found = await crashAtEveryWrite(seed, {
    draws: Number(values.draws),
    outcomesMax: Number(values.outcomes),
    every: 1,
  });
  steps += found.steps;
  worlds += found.worlds;
  if (found.failure !== undefined) failures++;
  const how = `${found.exhausted} crashes in all ways, ${found.drawn} in ${values.draws} of many`;
  console.log(`seed ${seed}: ${found.worlds} worlds, ${how}: ${found.failure ?? 'every promise held'}`);
  seed++;
}

while (steps < stepsWanted) {
  const crash = values.crash === undefined ? {} : { crash: parseCrash(values.crash) };
  const options = { seed, steps: worldSteps, without, ...crash };
  const result = await simulate(options);
  steps += result.steps;
  simulatedMs += result.simulatedMs;
  worlds++;
  for (const [name, count] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + count;
  if (result.violation !== undefined && values['keep-going']) {
    failures++;
    console.log(`seed ${seed}: ${result.violation.message}`);
  } else if (result.violation !== undefined) {
    failures++;
    console.log(report(options, result));
    if (values.shrink) {
      const shorter = await shrink(options, result.violation.kind, (line) => console.log(line));
      console.log(report(shorter.options, shorter.result));
    }
    break;
  }
  if (!values.quiet) {
    const rate = Math.round(steps / ((performance.now() - startMs) / 1000));
    console.log(`seed ${seed}: ${result.steps} events, ${result.fingerprint}; ${steps} in all, ${rate} a second`);
  }
  seed++;
}

const seconds = (performance.now() - startMs) / 1000;
console.log(
  JSON.stringify(
    {
      worlds,
      failures,
      steps,
      stepsPerSecond: Math.round(steps / seconds),
      seconds: Math.round(seconds),
      simulatedHours: Math.round(simulatedMs / 360_000) / 10,
      ...counts,
    },
    null,
    1,
  ),
);
process.exitCode = failures > 0 ? 1 : 0;
