// @ts-check
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { inScratch, probeDisk } from '../../dist/bench/disk-probe.js';
import { describeMachine } from '../../dist/bench/machine.js';
import { PAYLOAD_BYTES } from '../../dist/bench/payload.js';
import { orderOf } from './order.mjs';
import { nodeProgram } from './runtime.mjs';
import { play } from './scenes.mjs';

/**
 * @typedef {import('./scenes.mjs').Sample & { system: string, run: number, tookMs: number }} Run
 *
 * @typedef {object} Described What the report says of a system.
 * @property {string} name
 * @property {string} title
 * @property {boolean} syncs
 * @property {string} durability
 * @property {string[]} settings
 * @property {Record<string, string>} versions
 *
 * @typedef {object} Sitting Everything that was measured; what `--json` holds.
 * @property {string} startedAt
 * @property {boolean} quick
 * @property {number} runs
 * @property {import('./figures.mjs').RowName[]} rows
 * @property {import('./scenes.mjs').Sizes} sizes
 * @property {number} payloadBytes
 * @property {import('../../dist/bench/machine.js').Machine} machine
 * @property {import('../../dist/bench/disk-probe.js').DiskProbe} disk
 * @property {string} node
 * @property {Described[]} systems
 * @property {{ title: string, reason: string }[]} leftOut
 * @property {Run[]} done
 */

/** The disk gets this long to forget what was removed. */
const SETTLE_MS = 1000;

/**
 * @param {{ systems: readonly import('./system.mjs').System[], leftOut: { title: string, reason: string }[],
 *   rows: import('./figures.mjs').RowName[], runs: number, quick: boolean, sizes: import('./scenes.mjs').Sizes,
 *   directory: string }} options
 * @returns {Sitting}
 */
export function newSitting({ systems, leftOut, rows, runs, quick, sizes, directory }) {
  return {
    startedAt: new Date().toISOString(),
    quick,
    runs,
    rows,
    sizes,
    payloadBytes: PAYLOAD_BYTES,
    machine: describeMachine(directory),
    disk: inScratch(directory, (own) => probeDisk(own, quick ? 50 : 2000)),
    node: execFileSync(nodeProgram(), ['--version'], { encoding: 'utf8' }).trim().slice(1),
    systems: systems.map(describe),
    leftOut,
    done: [],
  };
}

/**
 * Runs what the sitting lacks, one system after the other, and writes it down after each.
 *
 * @param {Sitting} sitting
 * @param {readonly import('./system.mjs').System[]} systems
 * @param {{ file: string, tell: (line: string) => void }} options
 */
export async function sit(sitting, systems, { file, tell }) {
  const { runs, rows, sizes, quick } = sitting;
  for (let run = 0; run < runs; run++) {
    for (const system of orderOf(systems, run, runs)) {
      if (sitting.done.some((one) => one.system === system.name && one.run === run)) continue;
      const startedMs = performance.now();
      const { version, ...sample } = await playOrTell(system, rows, sizes);
      const tookMs = Math.round(performance.now() - startedMs);
      sitting.done.push({ system: system.name, run, tookMs, ...sample });
      const described = sitting.systems.find(({ name }) => name === system.name);
      if (described !== undefined && version !== '') described.versions.server = version;
      save(file, sitting);
      const problems = sample.problems.map((problem) => `\n  ${problem}`).join('');
      tell(`run ${run + 1} of ${runs}: ${system.title}, ${(tookMs / 1000).toFixed(0)} s${problems}`);
      if (!quick) await sleep(SETTLE_MS);
    }
  }
}

/**
 * A system that does not even start has failed, and the others go on.
 *
 * @param {import('./system.mjs').System} system
 * @param {import('./figures.mjs').RowName[]} rows
 * @param {import('./scenes.mjs').Sizes} sizes
 */
async function playOrTell(system, rows, sizes) {
  try {
    return await play(system, rows, sizes);
  } catch (error) {
    const problems = [error instanceof Error ? (error.stack ?? error.message) : String(error)];
    return { figures: {}, notes: {}, problems, version: '' };
  }
}

/** @param {string} file @returns {Sitting} */
export function load(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Whole or not at all: the sitting may be interrupted at any time. @param {string} file @param {Sitting} sitting */
export function save(file, sitting) {
  writeFileSync(`${file}.new`, `${JSON.stringify(sitting, null, 1)}\n`);
  renameSync(`${file}.new`, file);
}

/** @param {import('./system.mjs').System} system @returns {Described} */
function describe({ name, title, syncs, durability, settings, packages }) {
  const versions = Object.fromEntries(packages.map((one) => [one, versionOfPackage(one)]));
  return { name, title, syncs, durability, settings, versions };
}

/** @param {string} name */
function versionOfPackage(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')).version;
}
