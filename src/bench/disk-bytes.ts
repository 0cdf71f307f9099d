import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const BLOCK_BYTES = 512;

/** What a directory takes on the disk, with all below it and with room that was allocated ahead. */
export function diskBytes(directory: string): number {
  return readdirSync(directory, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(directory, entry.name);
    try {
      return sum + (entry.isDirectory() ? diskBytes(path) : fileBytes(path));
    } catch (error) {
      // Servers remove files at any time.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return sum;
      throw error;
    }
  }, 0);
}

function fileBytes(path: string): number {
  const { blocks, size } = statSync(path);
  // Windows does not count blocks.
  return process.platform === 'win32' ? size : blocks * BLOCK_BYTES;
}
