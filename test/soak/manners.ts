import type { EnqueueOptions } from '../../src/index.ts';

/** What the tasks go through; their payloads say which. */
export type Manner = 'plain' | 'large' | 'delayed' | 'flaky' | 'doomed' | 'cancelled' | 'flow';

export interface Payload {
  readonly key: string;
  readonly manner: Manner;
  /** On the machine's monotonic clock, the same for all processes. */
  readonly sentMs: number;
  readonly pad?: string;
}

interface MannerSettings {
  /** Of a hundred draws. */
  readonly share: number;
  readonly options: EnqueueOptions;
}

export const QUEUE = 'soak';
export const TICKS = 'ticks';
export const DELAY_MS = 1000;
export const LARGE_BYTES = 20_000;
/** Tasks of one flow: two, one that depends on both, and one that depends on that. */
export const FLOW_TASKS = 4;

const SOON = { type: 'fixed', delayMs: 200, jitter: false } as const;
/** Lost workers count as attempts: whoever is to complete has many. */
const MANY = { queue: QUEUE, maxAttempts: 100, backoff: SOON };

export const MANNERS: Readonly<Record<Manner, MannerSettings>> = {
  plain: { share: 48, options: MANY },
  large: { share: 5, options: { ...MANY, priority: 2 } },
  delayed: { share: 17, options: { ...MANY, delayMs: DELAY_MS } },
  // Fails in its first attempt.
  flaky: { share: 16, options: { ...MANY, priority: 7 } },
  doomed: { share: 4, options: { ...MANY, maxAttempts: 2 } },
  // Taken back before it is due.
  cancelled: { share: 6, options: { ...MANY, delayMs: 60_000 } },
  flow: { share: 4, options: MANY },
};

export function drawManner(): Manner {
  let left = Math.random() * 100;
  for (const [manner, { share }] of Object.entries(MANNERS)) {
    left -= share;
    if (left < 0) return manner as Manner;
  }
  return 'plain';
}

/** Milliseconds of the machine's monotonic clock. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
