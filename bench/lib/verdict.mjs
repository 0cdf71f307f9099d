// @ts-check
/**
 * @typedef {object} Count What the ledger of a consumer says.
 * @property {number} seen Different tasks that were processed.
 * @property {number} duplicated Times that one was processed again.
 * @property {number} foreign Times that something was processed which nobody enqueued.
 * @property {number} last The greatest number that came; -1 for none.
 */

/**
 * What is wrong with a row in which each of `tasks` was to be processed exactly once; undefined when nothing is.
 *
 * @param {number} tasks
 * @param {Count} count
 */
export function exactlyOnce(tasks, count) {
  return told([...missing(tasks, count), ...strange(tasks, count), ...again(count)]);
}

/**
 * The same after a crash, which may repeat tasks but lose none.
 *
 * @param {number} tasks
 * @param {Count} count
 */
export function atLeastOnce(tasks, count) {
  return told([...missing(tasks, count), ...strange(tasks, count)]);
}

/**
 * The same where the time was over before all had come: what is missing proves nothing.
 *
 * @param {number} tasks
 * @param {Count} count
 */
export function atMostThose(tasks, count) {
  return told(strange(tasks, count));
}

/** @param {number} tasks @param {Count} count */
const missing = (tasks, { seen }) => (seen < tasks ? [`${tasks - seen} of ${tasks} tasks were lost`] : []);

/** @param {number} tasks @param {Count} count */
function strange(tasks, { seen, foreign, last }) {
  const beyond = foreign > 0 || last >= tasks || seen > tasks;
  return beyond ? [`tasks came that nobody enqueued (${foreign} unreadable, numbers up to ${last} of ${tasks})`] : [];
}

/** @param {Count} count */
const again = ({ duplicated }) => (duplicated > 0 ? [`${duplicated} times a task was processed again`] : []);

/** @param {string[]} problems */
const told = (problems) => (problems.length === 0 ? undefined : problems.join('; '));
