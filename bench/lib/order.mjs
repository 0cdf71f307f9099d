// @ts-check
import { rotated } from '../../dist/bench/order.js';

/**
 * The order of the systems in a run: every second goes backwards, too, so that none always comes after the same neighbour.
 *
 * @template T
 * @param {readonly T[]} systems
 * @param {number} run From 0.
 * @param {number} runs
 * @returns {T[]}
 */
export function orderOf(systems, run, runs) {
  const order = rotated(systems, run, runs);
  return run % 2 === 0 ? order : order.reverse();
}
