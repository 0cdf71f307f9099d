// @ts-check
/**
 * The order of the systems in a run: each run begins at another one, and every second goes backwards, so that none is
 * always the one that comes after the same neighbour, or late in the sitting.
 *
 * @template T
 * @param {readonly T[]} systems
 * @param {number} run From 0.
 * @param {number} runs
 * @returns {T[]}
 */
export function orderOf(systems, run, runs) {
  const first = Math.floor((run * systems.length) / runs);
  const rotated = [...systems.slice(first), ...systems.slice(0, first)];
  return run % 2 === 0 ? rotated : rotated.reverse();
}
