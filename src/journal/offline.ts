import { join } from 'node:path';
import type { Disk } from '../io/disk.ts';

/** Runs `work` while nobody else has the directory open. Where nothing can be written, nobody has. */
export async function whileLocked<T>(disk: Disk, directory: string, work: () => Promise<T>): Promise<T> {
  const lock = await disk.lock(directory).catch((error: unknown) => {
    const code = (error as { code?: unknown }).code;
    if (code === 'EROFS' || code === 'EACCES') return undefined;
    throw error;
  });
  try {
    return await work();
  } finally {
    await lock?.release();
  }
}

const COPY_BYTES = 4 * 1024 * 1024;

/** Copies the first `bytes` of a file, fewer if it is shorter, and syncs the copy. */
export async function copyFile(disk: Disk, from: string, to: string, bytes: number): Promise<void> {
  const source = await disk.open(from, {});
  try {
    const copy = await disk.open(to, { create: true, write: true });
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(COPY_BYTES, Math.max(bytes, 1)));
      for (let at = 0; at < bytes; ) {
        const count = await source.read(buffer.subarray(0, Math.min(buffer.length, bytes - at)), at);
        if (count === 0) break;
        await copy.write([buffer.subarray(0, count)], at);
        at += count;
      }
      await copy.sync();
    } finally {
      await copy.close();
    }
  } finally {
    await source.close();
  }
}

export async function isEmptyDirectory(disk: Disk, directory: string): Promise<boolean> {
  return (await disk.list(directory)).length === 0;
}

/** `directory`.`suffix`-N, the first that is not there yet. */
export async function makeNumberedDirectory(disk: Disk, directory: string, suffix: string): Promise<string> {
  for (let number = 1; ; number++) {
    const path = `${join(directory)}.${suffix}-${number}`;
    await disk.makeDirectory(path);
    if (await isEmptyDirectory(disk, path)) return path;
  }
}
