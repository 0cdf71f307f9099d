import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { MUTANTS, type Mutant } from './mutants.ts';

/**
 * `npm run test:mutants`: plants each bug in a copy of the source, runs the simulation over it, and tells how many events
 * it took to find. Ends non-zero when one is not found, or when the source itself is found wanting.
 */
const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seed: { type: 'string', default: '1' },
    steps: { type: 'string', default: '3000000' },
  },
});

/** A bug may also keep a world from ever going on. */
const RUN_MS_MAX = 30 * 60_000;

const ROOT = resolve('.');
const COPY = join(ROOT, 'build', 'mutants');

interface Verdict {
  readonly mutant: Pick<Mutant, 'name' | 'bug'>;
  readonly found: string | undefined;
  readonly steps: number;
}

function copySource(): void {
  rmSync(COPY, { recursive: true, force: true });
  mkdirSync(join(COPY, 'test'), { recursive: true });
  for (const path of ['src', 'test/sim', 'test/twins', 'package.json', 'tsconfig.json']) {
    cpSync(join(ROOT, path), join(COPY, path), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(COPY, 'node_modules'), 'dir');
}

function plant(mutant: Mutant): void {
  const original = readFileSync(join(ROOT, mutant.file), 'utf8');
  const parts = original.split(mutant.find);
  if (parts.length !== 2) {
    throw new Error(
      `mutant ${mutant.name}: its text occurs ${parts.length - 1} times in ${mutant.file}; write it anew`,
    );
  }
  writeFileSync(join(COPY, mutant.file), parts.join(mutant.replace));
}

function heal(mutant: Mutant): void {
  cpSync(join(ROOT, mutant.file), join(COPY, mutant.file));
}

function run(mutant: Pick<Mutant, 'name' | 'bug'>, steps: string): Verdict {
  const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
  execFileSync(tsc, ['-p', 'test/sim/tsconfig.json', '--noCheck'], { cwd: COPY, stdio: 'inherit' });
  const args = ['build/sim/test/sim/main.js', `--seed=${values.seed}`, `--steps=${steps}`, '--no-shrink', '--quiet'];
  const options = { cwd: COPY, encoding: 'utf8', maxBuffer: 2 ** 28, timeout: RUN_MS_MAX } as const;
  const { stdout, stderr, status, error } = spawnSync('node', args, options);
  const summary = /"steps": (\d+)/.exec(stdout);
  const found = /broke a promise after \d+ events \(\w+\): ([a-z-]+):/.exec(stdout)?.[1];
  // One so bad that the process does not survive it is found, too.
  return {
    mutant,
    found: found ?? (status === 0 ? undefined : `the run ended: ${error?.message ?? stderr.slice(0, 100)}`),
    steps: Number(summary?.[1] ?? 0),
  };
}

const chosen = MUTANTS.filter(({ name }) => values.only === undefined || values.only.split(',').includes(name));
for (const mutant of MUTANTS) if (!readFileSync(join(ROOT, mutant.file), 'utf8').includes(mutant.find)) plant(mutant);
copySource();
const verdicts: Verdict[] = [];
for (const mutant of chosen) {
  plant(mutant);
  const verdict = run(mutant, values.steps);
  heal(mutant);
  verdicts.push(verdict);
  console.log(
    `| ${mutant.name} | ${mutant.bug} | ${verdict.found ?? '**not found**'} | ${verdict.steps.toLocaleString('en')} |`,
  );
}
// With nothing planted the same seeds must pass, or what was found was something else.
const stepsMax = Math.max(...verdicts.map(({ steps }) => steps));
const clean = run({ name: 'nothing planted', bug: '' }, String(Math.min(stepsMax, Number(values.steps))));
console.log(`| nothing planted | | ${clean.found ?? 'nothing'} | ${clean.steps.toLocaleString('en')} |`);
process.exitCode = verdicts.every(({ found }) => found !== undefined) && clean.found === undefined ? 0 : 1;
