// @ts-check
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { run } from '../services/processes.mjs';
import { installedLock } from './lock.mjs';

/**
 * @typedef {{ name: string, version: string, repository?: unknown, devDependencies?: unknown,
 *   scripts: Readonly<Record<string, string>> }} Manifest
 */
/** @typedef {{ lockfileVersion: number, packages: Readonly<Record<string, import('./lock.mjs').Locked>> }} Lock */

export const ROOT = resolve(import.meta.dirname, '../..');
const BUILD_TIMEOUT_MS = 5 * 60_000;

/**
 * Resolves with what it printed.
 *
 * @param {readonly string[]} args
 * @param {{ cwd?: string, timeoutMs?: number }} [options]
 */
export function npm(args, { cwd = ROOT, timeoutMs = BUILD_TIMEOUT_MS } = {}) {
  // On Windows it is a script.
  return run('npm', args, { cwd, timeoutMs, shell: process.platform === 'win32' });
}

/** @returns {Promise<Manifest>} */
export async function readManifest() {
  return JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
}

/** @returns {Promise<Lock>} */
export async function readLock() {
  return JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'));
}

/**
 * Packs into a folder; returns the path of the package. What is in `dist` is packed as it is, or built anew.
 *
 * @param {string} folder
 * @param {{ build: boolean }} options
 */
export async function pack(folder, { build }) {
  const args = ['pack', '--json', '--offline', '--pack-destination', folder, ...(build ? [] : ['--ignore-scripts'])];
  const said = await npm(args);
  // What the build prints comes before it.
  const [{ filename }] = JSON.parse(said.slice(said.lastIndexOf('\n[\n') + 1));
  return join(folder, filename);
}

/**
 * What comes along with an installation, as CycloneDX: of every platform, from the lockfile alone. The serial number and the time
 * that npm puts in are left out, so that the same lockfile gives the same bytes.
 *
 * @returns {Promise<string>}
 */
export async function billOfMaterials() {
  const { devDependencies: _, ...manifest } = await readManifest();
  const scratch = await mkdtemp(join(tmpdir(), 'millrace-sbom-'));
  try {
    // npm takes the name of the folder for the name of what is in it.
    const folder = join(scratch, manifest.name);
    await mkdir(folder);
    await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
    await writeFile(join(folder, 'package-lock.json'), JSON.stringify(installedLock(await readLock())));
    const said = await npm(['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx'], { cwd: folder });
    const { serialNumber: _number, ...bill } = JSON.parse(said);
    delete bill.metadata.timestamp;
    return `${JSON.stringify(bill, undefined, 2)}\n`;
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** @param {string} path */
export async function sha512(path) {
  return createHash('sha512')
    .update(await readFile(path))
    .digest('hex');
}

/**
 * Installs a package where nothing else is, without any script of any package, and lets it work.
 *
 * @param {string} tarball
 */
export async function tryOut(tarball) {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-try-'));
  try {
    await writeFile(join(folder, 'package.json'), '{"private":true,"type":"module"}\n');
    await npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', tarball], { cwd: folder });
    const millrace = join(folder, 'node_modules/millrace/dist/cli/main.js');
    const { version } = await readManifest();
    const said = (await run(process.execPath, [millrace, '--version'], { cwd: folder })).trim();
    if (said !== version) throw new Error(`the package says that it is ${said}, and should be ${version}`);
    await run(process.execPath, [millrace, 'demo', '--tasks', '1000'], { cwd: folder, timeoutMs: BUILD_TIMEOUT_MS });
  } finally {
    await rm(folder, { recursive: true });
  }
}
