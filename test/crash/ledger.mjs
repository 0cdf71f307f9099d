import { openSync, readFileSync, writeSync } from 'node:fs';

/**
 * What a process did, one JSON line each, in a file that outlives it: a line is with the kernel when `write` returns, so
 * a process that is killed afterwards cannot take it back. Times are the machine's monotonic clock, the same for all.
 *
 * @typedef {{ at: number, kind: string } & Record<string, any>} Entry
 */
export class Ledger {
  #file;

  /** @param {string} path */
  constructor(path) {
    this.#file = openSync(path, 'a');
  }

  /**
   * @param {string} kind
   * @param {Record<string, unknown>} [particulars]
   */
  write(kind, particulars) {
    writeSync(this.#file, `${JSON.stringify({ at: now(), kind, ...particulars })}\n`);
  }
}

/** Nanoseconds. */
export function now() {
  return Number(process.hrtime.bigint());
}

/**
 * The last line may be half a line: its process was killed.
 *
 * @param {string} path
 * @returns {Entry[]}
 */
export function readLedger(path) {
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop();
  return lines.map((line) => JSON.parse(line));
}
