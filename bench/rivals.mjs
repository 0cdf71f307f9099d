// @ts-check
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkPart, writePart } from '../dist/bench/document.js';
import { describeMachine } from '../dist/bench/machine.js';
import { ROWS } from './lib/figures.mjs';
import { problemsOf, renderSitting } from './lib/report.mjs';
import { NORMAL, QUICK } from './lib/scenes.mjs';
import { load, newSitting, save, sit } from './lib/sitting.mjs';
import { SYSTEMS, systemNamed } from './systems/index.mjs';

/** Of the page: what is between its marks is written anew. */
const PART = 'rivals';
const RUNS = 3;
/** Of one system in one run, about. */
const MINUTES_A_RUN = 1.1;

const PAGE = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));
const RESULTS = fileURLToPath(new URL('results/rivals.json', import.meta.url));

const USAGE = `Usage: npm run bench:rivals -- [options]

Measures Millrace beside other queues, each with a private server on this machine, and writes what it finds to
docs/benchmarks.md. A sitting with all ${SYSTEMS.length} of them takes about ${Math.round(SYSTEMS.length * RUNS * MINUTES_A_RUN)} minutes; what was
measured is kept after each system, so that --resume goes on where it was interrupted.

  --systems a,b    of ${SYSTEMS.map(({ name }) => name).join(', ')}
  --rows a,b       of ${ROWS.join(', ')}
  --runs N         default ${RUNS}
  --quick          one run with few tasks: shows that it works, its figures mean nothing
  --data DIR       where the servers keep their data (default: the directory for temporary files)
  --json FILE      where the results are kept (default: bench/results/rivals.json, with --quick rivals-quick.json)
  --resume         go on with the results there; with --runs until there are so many
  --render FILE    measure nothing, show these results
  --write FILE     the page whose part is written (default: docs/benchmarks.md; not with --quick, --systems or --rows)
  --no-write       print it instead
  -h, --help       show this`;

class WrongUsage extends Error {}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof WrongUsage) && !isArgumentError(error)) throw error;
  process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${USAGE}\n`);
  process.exitCode = 2;
}

async function main() {
  const { values } = parseArgs({
    options: {
      systems: { type: 'string' },
      rows: { type: 'string' },
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      data: { type: 'string' },
      json: { type: 'string' },
      resume: { type: 'boolean', default: false },
      render: { type: 'string' },
      write: { type: 'string' },
      'no-write': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const partly = values.quick || values.systems !== undefined || values.rows !== undefined;
  const page = values['no-write']
    ? undefined
    : (values.write ?? (partly || values.render !== undefined ? undefined : PAGE));
  if (page !== undefined) refuseWrongPage(page);
  const sitting = values.render === undefined ? await measure(values) : load(existing(values.render));
  show(sitting, page);
  const problems = problemsOf(sitting);
  for (const problem of problems) tell(problem);
  return problems.length === 0 ? 0 : 1;
}

/** @param {{ systems?: string, rows?: string, runs?: string, quick: boolean, data?: string, json?: string, resume: boolean }} values */
async function measure({ systems, rows, runs, quick, data, json, resume }) {
  if (resume && (systems !== undefined || rows !== undefined || quick)) {
    throw new WrongUsage('--resume goes on with the systems, rows and sizes of the results: leave those flags out');
  }
  // Before anything is installed or started.
  const chosen = { rows: chooseRows(rows), runs: runsOf(runs, quick), systems: chooseSystems(systems) };
  const directory = resolve(data ?? tmpdir());
  mkdirSync(directory, { recursive: true });
  const { fileSystem } = describeMachine(directory);
  if (fileSystem === 'tmpfs')
    throw new WrongUsage(`${directory} is on a tmpfs, where a sync costs nothing: give --data a disk`);
  // Where scripts/services keeps its servers.
  process.env.TMPDIR = directory;
  const file = resolve(json ?? (quick ? RESULTS.replace('.json', '-quick.json') : RESULTS));
  mkdirSync(dirname(file), { recursive: true });
  const sitting = resume ? load(existing(file)) : undefined;
  const all =
    sitting === undefined
      ? await provided(chosen.systems)
      : { here: sitting.systems.map(({ name }) => systemNamed(name)), leftOut: sitting.leftOut };
  if (all.here.length === 0) throw new Error('none of these systems is to be had on this machine');
  const current =
    sitting ??
    newSitting({
      systems: all.here,
      leftOut: all.leftOut,
      rows: chosen.rows,
      runs: chosen.runs,
      quick,
      sizes: quick ? QUICK : NORMAL,
      directory,
    });
  if (runs !== undefined) current.runs = chosen.runs;
  save(file, current);
  await sit(current, all.here, { file, tell });
  tell(`the results are in ${file}`);
  return current;
}

/** @param {readonly import('./lib/system.mjs').System[]} chosen */
async function provided(chosen) {
  /** @type {import('./lib/system.mjs').System[]} */
  const here = [];
  /** @type {{ title: string, reason: string }[]} */
  const leftOut = [];
  for (const system of chosen) {
    const reason = await system.provide(tell);
    if (reason === undefined) here.push(system);
    else {
      leftOut.push({ title: system.title, reason });
      tell(`left out: ${system.title} (${reason})`);
    }
  }
  return { here, leftOut };
}

/** @param {string | undefined} written */
function chooseSystems(written) {
  if (written === undefined) return SYSTEMS;
  return written.split(',').map((name) => {
    try {
      return systemNamed(name);
    } catch (error) {
      throw new WrongUsage(`--systems: ${/** @type {Error} */ (error).message}`);
    }
  });
}

/** @param {string | undefined} written */
function chooseRows(written) {
  if (written === undefined) return [...ROWS];
  const names = written.split(',');
  const unknown = names.find((name) => !ROWS.some((row) => row === name));
  if (unknown !== undefined)
    throw new WrongUsage(`--rows: no row ${JSON.stringify(unknown)}; there are ${ROWS.join(', ')}`);
  return ROWS.filter((row) => names.includes(row));
}

/** @param {string | undefined} written @param {boolean} quick */
function runsOf(written, quick) {
  if (written === undefined) return quick ? 1 : RUNS;
  const runs = Number(written);
  if (!Number.isInteger(runs) || runs < 1 || runs > 100)
    throw new WrongUsage(`--runs is ${written}; it must be 1 to 100`);
  return runs;
}

/** @param {string} file */
function existing(file) {
  if (!existsSync(file)) throw new WrongUsage(`there are no results in ${file}`);
  return file;
}

/**
 * @param {import('./lib/sitting.mjs').Sitting} sitting
 * @param {string | undefined} page
 */
function show(sitting, page) {
  const part = renderSitting(sitting);
  if (page === undefined) {
    process.stdout.write(`${part}\n`);
    return;
  }
  writePart(page, PART, part);
  tell(`written to ${page}`);
}

/** Before anything is measured. @param {string} page */
function refuseWrongPage(page) {
  try {
    checkPart(page, PART);
  } catch (error) {
    throw new WrongUsage(error instanceof Error ? error.message : String(error));
  }
}

/** @param {unknown} error */
function isArgumentError(error) {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}

/** @param {string} line */
function tell(line) {
  process.stderr.write(`${line}\n`);
}
