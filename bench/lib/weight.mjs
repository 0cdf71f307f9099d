// @ts-check
import { readFileSync } from 'node:fs';

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
