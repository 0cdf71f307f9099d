import { readFileSync } from 'node:fs';

/** How many files and sockets this process may have open; undefined where the system does not say. */
export function openFilesMax(): number | undefined {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'latin1');
  } catch {
    // Another system than Linux, or one that hides it.
    return undefined;
  }
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}
