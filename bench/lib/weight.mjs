// @ts-check
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

const BLOCK_BYTES = 512;

/**
 * What processes hold in memory, where what they share counts once (`Pss`): PostgreSQL has a process for each connection.
 *
 * @param {readonly number[]} pids
 */
export function memoryBytes(pids) {
  return pids.reduce((sum, pid) => sum + shareOf(pid), 0);
}

/** @param {number} pid */
function shareOf(pid) {
  try {
    const found = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
    return found === null ? 0 : Number(found[1]) * 1024;
  } catch (error) {
    // A process that ended meanwhile holds nothing.
    if (['ENOENT', 'ESRCH'].includes(String(/** @type {NodeJS.ErrnoException} */ (error).code))) return 0;
    throw error;
  }
}

/**
 * What a directory takes on the disk, with room that was allocated ahead.
 *
 * @param {string} directory
 * @returns {number}
 */
export function diskBytes(directory) {
  return readdirSync(directory, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(directory, entry.name);
    try {
      return sum + (entry.isDirectory() ? diskBytes(path) : statSync(path).blocks * BLOCK_BYTES);
    } catch (error) {
      // Servers remove files at any time.
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return sum;
      throw error;
    }
  }, 0);
}
