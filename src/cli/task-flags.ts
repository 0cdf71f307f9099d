import { DEFAULTS, LIMITS } from '../limits.ts';
import type { EnqueueOptions, TaskOptions } from '../task/options.ts';
import { choice, flag, integer, pairs, text, type Values } from './flags.ts';

const PAUSE = integer(0, LIMITS.backoffMsMax, 'ms');
const { type, delayMs, maxDelayMs, jitter } = DEFAULTS.backoff;

/** Of every command that makes tasks. */
export const TASK_FLAGS = {
  queue: flag(text('queue'), 'queue that the tasks go to', DEFAULTS.queue as string),
  priority: flag(integer(0, LIMITS.priorityMax), 'higher first', DEFAULTS.priority as number),
  maxAttempts: flag(integer(1, LIMITS.maxAttemptsMax), 'how often to try', DEFAULTS.maxAttempts as number),
  timeoutMs: flag(
    integer(LIMITS.timeoutMsMin, LIMITS.timeoutMsMax, 'ms'),
    'how long an attempt may run',
    DEFAULTS.timeoutMs as number,
  ),
  backoff: flag(choice('exponential', 'fixed'), 'pauses between attempts: each twice the one before, or alike', type),
  backoffDelayMs: flag(PAUSE, 'the first pause', delayMs as number),
  backoffMaxDelayMs: flag(PAUSE, `the longest pause (default: ${maxDelayMs})`),
  backoffJitter: flag(choice('on', 'off'), 'draw each pause from its upper half', jitter ? 'on' : 'off'),
  concurrencyKey: flag(text('key'), 'take turns with tasks of other keys'),
  header: flag(pairs('name=value'), 'text that travels with the task to its handler; may be given several times'),
};

export function taskOptions(values: Values<typeof TASK_FLAGS>): TaskOptions & Pick<EnqueueOptions, 'headers'> {
  const { queue, priority, maxAttempts, timeoutMs, concurrencyKey } = values;
  const backoff = {
    type: values.backoff,
    delayMs: values.backoffDelayMs,
    maxDelayMs: values.backoffMaxDelayMs,
    jitter: values.backoffJitter === 'on',
  };
  return { queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey, headers: values.header };
}
