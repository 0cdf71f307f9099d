// @ts-check
import { access, readFile, rm, writeFile } from 'node:fs/promises';
import { program } from './binaries.mjs';
import { run } from './processes.mjs';

const UPDATE_MS = 180_000;
const INSTALL_MS = 480_000;
const POLICY = '/usr/sbin/policy-rc.d';

/**
 * What stands in the way of `apt-get install` here; undefined when nothing does.
 *
 * @returns {Promise<string | undefined>}
 */
export async function aptRefusal() {
  if (program('apt-get') === undefined) return 'this is not Debian or Ubuntu';
  return (await rightsPrefix()) === undefined
    ? 'no rights to install packages (not root, and no sudo without password)'
    : undefined;
}

/** Whoever installs next waits: packages are locked all the same, and the file that forbids services is one for all. */
let installing = Promise.resolve();

/**
 * Installs packages without starting their services: what is wanted are the programs, run privately.
 *
 * @param {readonly string[]} packages
 * @param {(line: string) => void} tell
 */
export function aptInstall(packages, tell) {
  const installed = installing.then(() => installNow(packages, tell));
  installing = installed.catch(() => {});
  return installed;
}

/**
 * @param {readonly string[]} packages
 * @param {(line: string) => void} tell
 */
async function installNow(packages, tell) {
  const prefix = await rightsPrefix();
  if (prefix === undefined) throw new Error(`${await aptRefusal()}: ${packages.join(' ')} cannot be installed`);
  tell(`installing ${packages.join(' ')} with apt-get`);
  try {
    await privileged(prefix, ['apt-get', ...APT_OPTIONS, 'update'], UPDATE_MS);
  } catch (error) {
    // One of the machine's sources may be out of reach without being needed: the install will tell.
    tell(`apt-get update: ${String(error)}`);
  }
  const removePolicy = await forbidServices(prefix);
  try {
    await privileged(
      prefix,
      ['apt-get', ...APT_OPTIONS, '--no-install-recommends', 'install', ...packages],
      INSTALL_MS,
    );
  } finally {
    await removePolicy();
  }
}

const APT_OPTIONS = ['-y', '-qq', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];

/**
 * Packages ask this file whether they may start their service; 101 means no. A machine that has one already has decided.
 *
 * @param {readonly string[]} prefix
 */
async function forbidServices(prefix) {
  try {
    await access(POLICY);
    return async () => {};
  } catch {
    // There is none.
  }
  const script = '#!/bin/sh\n# Made by millrace scripts/services for one installation.\nexit 101\n';
  if (prefix.length === 0) {
    await writeFile(POLICY, script, { mode: 0o755 });
    return async () => {
      if ((await readFile(POLICY, 'utf8')) === script) await rm(POLICY, { force: true });
    };
  }
  await privileged(prefix, ['sh', '-c', `printf '%s' "$0" > ${POLICY} && chmod 755 ${POLICY}`, script], 10_000);
  return async () => {
    await privileged(prefix, ['rm', '-f', POLICY], 10_000);
  };
}

/**
 * @param {readonly string[]} prefix
 * @param {readonly string[]} command
 * @param {number} timeoutMs
 */
function privileged(prefix, command, timeoutMs) {
  const [name, ...args] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'NEEDRESTART_MODE=l', ...command];
  return run(name, args, { timeoutMs });
}

/** What commands of root are preceded by; undefined when they cannot be run. @returns {Promise<string[] | undefined>} */
async function rightsPrefix() {
  if (process.getuid?.() === 0) return [];
  if (program('sudo') === undefined) return undefined;
  try {
    await run('sudo', ['-n', 'true'], { timeoutMs: 10_000 });
    return ['sudo', '-n'];
  } catch {
    return undefined;
  }
}
