// @ts-check
/**
 * @typedef {object} Figure
 * @property {string} name
 * @property {string} title
 * @property {'tasks/s' | 'µs' | 'ms' | 'bytes' | 's'} unit
 * @property {'higher' | 'lower'} better
 * @property {RowName} row
 * @property {false} [compared] Measured under conditions of each system's own: no best is named.
 *
 * @typedef {'bulk' | 'one' | 'callers' | 'end-to-end' | 'latency' | 'backlog'} RowName As in `--rows`.
 */

/** @type {readonly RowName[]} */
export const ROWS = ['bulk', 'one', 'callers', 'end-to-end', 'latency', 'backlog'];

const OWN_PACE = { row: /** @type {const} */ ('latency'), compared: /** @type {const} */ (false) };

/** @type {readonly { title: string, figures: readonly Figure[] }[]} */
export const TABLES = [
  {
    title: 'Throughput',
    figures: [
      { name: 'enqueue-bulk', row: 'bulk', title: 'enqueue, bulk', unit: 'tasks/s', better: 'higher' },
      { name: 'enqueue-callers', row: 'callers', title: 'enqueue, 256 callers', unit: 'tasks/s', better: 'higher' },
      { name: 'drain', row: 'bulk', title: 'drain', unit: 'tasks/s', better: 'higher' },
      { name: 'end-to-end', row: 'end-to-end', title: 'end to end', unit: 'tasks/s', better: 'higher' },
    ],
  },
  {
    title: 'Latency',
    figures: [
      { name: 'enqueue-one', row: 'one', title: 'one awaited enqueue, p50', unit: 'µs', better: 'lower' },
      { name: 'latency-500-p50', row: 'latency', title: 'to the handler at 500/s, p50', unit: 'ms', better: 'lower' },
      { name: 'latency-500-p99', row: 'latency', title: 'p99', unit: 'ms', better: 'lower' },
      { ...OWN_PACE, name: 'half', title: 'half of its maximum', unit: 'tasks/s', better: 'higher' },
      { ...OWN_PACE, name: 'latency-half-p50', title: 'to the handler at that pace, p50', unit: 'ms', better: 'lower' },
      { ...OWN_PACE, name: 'latency-half-p99', title: 'p99', unit: 'ms', better: 'lower' },
    ],
  },
  {
    title: 'Backlog',
    figures: [
      { name: 'memory', row: 'backlog', title: 'memory a task', unit: 'bytes', better: 'lower' },
      { name: 'disk', row: 'backlog', title: 'disk a task', unit: 'bytes', better: 'lower' },
      { name: 'restart', row: 'backlog', title: 'restart to first delivery', unit: 's', better: 'lower' },
      { name: 'backlog-drain', row: 'backlog', title: 'drain of the backlog', unit: 'tasks/s', better: 'higher' },
    ],
  },
];
