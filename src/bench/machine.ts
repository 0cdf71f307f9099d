import { readFileSync, statfsSync } from 'node:fs';
import os from 'node:os';
import { VERSION } from '../version.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  os: string;
  /** Of the data directory: a sync on tmpfs costs nothing and proves nothing. */
  fileSystem: string;
}

export interface Versions {
  millrace: string;
  node: string;
  v8: string;
}

/** Magic numbers of statfs(2). */
const FILE_SYSTEMS = new Map([
  [0xef53, 'ext4'],
  [0x01021994, 'tmpfs'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x794c7630, 'overlayfs'],
  [0x2fc12fc1, 'zfs'],
  [0x6969, 'nfs'],
  [0x1a, 'apfs'],
]);

export function describeMachine(directory: string): Machine {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() || cpuOfOtherKinds() || os.arch(),
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    fileSystem: fileSystemOf(directory),
  };
}

export function describeVersions(): Versions {
  return { millrace: VERSION, node: process.versions.node, v8: process.versions.v8 };
}

function fileSystemOf(directory: string): string {
  // Windows and some others give no type.
  const { type } = statfsSync(directory);
  return FILE_SYSTEMS.get(type >>> 0) ?? (type === 0 ? 'unknown' : `0x${(type >>> 0).toString(16)}`);
}

/** Some ARM kernels name no model in the place where Node looks. */
function cpuOfOtherKinds(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  return /^(?:Hardware|CPU part|cpu model)\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
}
