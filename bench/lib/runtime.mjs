// @ts-check
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** What the newest of the client libraries ask for. */
const NODE_VERSION_MIN = [22, 18];

/** The Bun that npm brings: the platform's own package, since `bun` itself fetches its program by an install script. */
export function bunProgram() {
  const { platform, arch } = process;
  const directory = new URL(
    `../node_modules/@oven/bun-${platform}-${arch === 'arm64' ? 'aarch64' : arch}/`,
    import.meta.url,
  );
  const file = fileURLToPath(new URL('bin/bun', directory));
  return existsSync(file) ? file : undefined;
}

/** All clients and Millrace's server run in the same Node: this one, or that of npm when this one is too old. */
export function nodeProgram() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [majorMin, minorMin] = NODE_VERSION_MIN;
  if (major > majorMin || (major === majorMin && minor >= minorMin)) return process.execPath;
  const { platform, arch } = process;
  const file = fileURLToPath(new URL(`../node_modules/node-${platform}-${arch}/bin/node`, import.meta.url));
  if (existsSync(file)) return file;
  throw new Error(
    `the bench needs Node ${NODE_VERSION_MIN.join('.')} or later for its client libraries, this is ${process.versions.node}`,
  );
}
