/**
 * The order of a run: each begins at another one, since what comes late in a fixed order meets a warmer machine and a fuller
 * disk. Runs count from 0.
 */
export function rotated<T>(items: readonly T[], run: number, runs: number): T[] {
  const first = Math.floor((run * items.length) / runs);
  return [...items.slice(first), ...items.slice(0, first)];
}
