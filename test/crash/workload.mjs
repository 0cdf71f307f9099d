/**
 * What the clients enqueue. Every payload has a key of its own; the result of a completed task is its key. Killed workers
 * cost attempts, so those that are to complete have many.
 *
 * @typedef {'plain' | 'delayed' | 'timed' | 'flaky' | 'once' | 'doomed' | 'final'} Manner
 * @typedef {{ key: string, manner: Manner }} Payload
 */
const QUICK = /** @type {const} */ ({ type: 'exponential', delayMs: 5, maxDelayMs: 200, jitter: true });

export const DELAY_MS = 100;

/** Fails in its first attempts, whatever becomes of them. */
export const FLAKY_FAILURES = 2;

/**
 * Options, and how such a task may end.
 *
 * @type {Record<Manner, { share: number, options: Record<string, any>, ends: readonly string[] }>}
 */
export const MANNERS = {
  plain: { share: 40, options: { maxAttempts: 100, backoff: QUICK }, ends: ['completed'] },
  delayed: { share: 10, options: { maxAttempts: 100, backoff: QUICK, delayMs: DELAY_MS }, ends: ['completed'] },
  // Times out when its worker is frozen.
  timed: { share: 10, options: { maxAttempts: 100, backoff: QUICK, timeoutMs: 1000 }, ends: ['completed'] },
  flaky: { share: 15, options: { maxAttempts: 100, backoff: QUICK, priority: 7 }, ends: ['completed'] },
  // Dead when its worker was killed; a killed server costs no attempt.
  once: { share: 10, options: { maxAttempts: 1, backoff: QUICK }, ends: ['completed', 'dead'] },
  doomed: { share: 10, options: { maxAttempts: 3, backoff: QUICK }, ends: ['dead'] },
  final: { share: 5, options: { maxAttempts: 100, backoff: QUICK }, ends: ['dead'] },
};

/** @param {import('./random.mjs').Random} random */
export function drawManner(random) {
  let left = random.integer(0, 99);
  for (const [manner, { share }] of Object.entries(MANNERS)) {
    left -= share;
    if (left < 0) return /** @type {Manner} */ (manner);
  }
  return 'plain';
}
