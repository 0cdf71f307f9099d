import { LIMITS } from '../../limits.ts';

/**
 * The delay ladder: level n holds a message for 16 ms · 2^n and passes it to the exchange of level n-1. The routing key
 * has a letter for each level, highest first, that says whether the message waits there (`1`) or passes at once (`0`),
 * and then the name of the queue where it is due:
 *
 *   0.0. … .1.0.1.millrace.default
 *
 * A message enters at its highest `1`. The time of a level is counted by the broker in whole milliseconds, so each can be
 * up to one short: it is rounded up so that none starts early.
 */
const LEVELS = LIMITS.amqpDelayLevels;
const STEP_MS = LIMITS.amqpDelayStepMs;
const STEPS_MAX = 2 ** LEVELS - 1;

export interface Route {
  /** Where it enters; the exchanges and queues of it and of those below are needed. */
  readonly level: number;
  readonly routingKey: string;
}

/** How to wait for `delayMs`; undefined for no time. What is longer than the ladder has to go around again. */
export function routeOf(delayMs: number, queue: string): Route | undefined {
  if (delayMs <= 0) return undefined;
  let steps = Math.min(Math.ceil(delayMs / STEP_MS), STEPS_MAX);
  while (steps < STEPS_MAX && steps * STEP_MS - levelsOf(steps) < delayMs) steps++;
  const bits = steps.toString(2).padStart(LEVELS, '0');
  return { level: LEVELS - 1 - bits.indexOf('1'), routingKey: `${[...bits].join('.')}.${queue}` };
}

export function levelMs(level: number): number {
  return STEP_MS * 2 ** level;
}

/** What the exchange of a level gives to its queue (`1`), and what to the exchange below (`0`). */
export function patternOf(level: number, bit: 0 | 1): string {
  return `${'*.'.repeat(LEVELS - 1 - level)}${bit}.#`;
}

export function duePattern(queue: string): string {
  return `#.${queue}`;
}

/** Ones in the binary form. */
function levelsOf(steps: number): number {
  let count = 0;
  for (let rest = steps; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}
