// @ts-check

/**
 * @typedef {{ version?: string, resolved?: string, integrity?: string, link?: boolean, inBundle?: boolean, dev?: boolean,
 *   peer?: boolean, hasInstallScript?: boolean }} Locked
 */

/**
 * What is wrong with a lockfile, a line each: a package that runs a script when it is installed, one whose bytes are not held
 * by a hash, and one that comes from elsewhere than a registry.
 *
 * @param {{ lockfileVersion?: number, packages?: Readonly<Record<string, Locked>> }} lock
 * @returns {string[]}
 */
export function problemsOfLock({ lockfileVersion, packages }) {
  if (lockfileVersion !== 3 || packages === undefined) {
    return [`package-lock.json has the version ${lockfileVersion}, and this reads 3`];
  }
  return Object.entries(packages).flatMap(([path, locked]) => (path === '' ? [] : problemsOf(path, locked)));
}

/**
 * @param {string} path
 * @param {Locked} locked
 */
function problemsOf(path, { resolved, integrity, link, inBundle, hasInstallScript }) {
  const problems = [];
  if (hasInstallScript === true) problems.push(`${path} runs a script when it is installed`);
  if (link === true) problems.push(`${path} is a link to a folder`);
  else if (inBundle === true) problems.push(`${path} is bundled with another package, where nothing holds its bytes`);
  else if (integrity?.startsWith('sha512-') !== true) problems.push(`${path} has no SHA-512 hash`);
  if (resolved !== undefined && !/^https:\/\/[^/]+\/.+\.tgz$/.test(resolved)) {
    problems.push(`${path} comes from ${resolved}, which is no registry`);
  }
  return problems;
}

/**
 * The part that is about what comes along with an installation. `npm sbom --omit dev` leaves out packages that tools for
 * development need as well.
 *
 * @param {{ lockfileVersion: number, packages: Readonly<Record<string, Locked>> }} lock
 */
export function installedLock({ packages, ...lock }) {
  const { devDependencies: _, ...root } = /** @type {Record<string, unknown>} */ (packages['']);
  const installed = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  return { ...lock, packages: { '': root, ...Object.fromEntries(installed) } };
}
