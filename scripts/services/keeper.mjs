// @ts-check
// Ends what its owner leaves behind, however the owner ends: it reads from a pipe whose other end closes with the owner.
// Lines in: `pid N` and `-pid N` (the leader of a process group), `dir PATH`. A process of its own session, so that the
// terminal's Ctrl-C does not take it along.
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { endGroup } from './processes.mjs';

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => {});

/** @type {Set<number>} */
const pids = new Set();
/** @type {Set<string>} */
const directories = new Set();

for await (const line of createInterface({ input: process.stdin })) {
  const [word, value] = line.split(/ (.*)/);
  if (word === 'pid') pids.add(Number(value));
  else if (word === '-pid') pids.delete(Number(value));
  else if (word === 'dir') directories.add(value);
  else if (word === '-dir') directories.delete(value);
}
for (const pid of pids) endGroup(pid, 'SIGKILL');
// What was killed may still be writing for a moment.
for (let attempt = 0; attempt < 20 && directories.size > 0; attempt += 1) {
  await sleep(100);
  for (const directory of directories) {
    try {
      rmSync(directory, { recursive: true, force: true });
      directories.delete(directory);
    } catch {
      // Tried again; what is left in the end is in the system's directory for temporary files.
    }
  }
}
