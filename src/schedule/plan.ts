import type { Misfire, Timing } from '../core/schedules.ts';
import { MillraceError, shown } from '../errors.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { lastDueMs, nextDueMs } from './timing.ts';

/** What a schedule that is due does now: so many tasks, the last of them for `dueMs`, and its next time. */
export interface Plan {
  readonly count: number;
  readonly dueMs: number;
  readonly nextMs: number | null;
  /** Missed times that were fired in a row, these included; 0 when it is not about to make up for all of them. */
  readonly madeUp: number;
}

/** `firstMs`, its due time, is not after `wallMs`. `countMax` at a time, at least 1. */
export function planFiring(
  { timing, misfire }: { timing: Timing; misfire: Misfire },
  firstMs: number,
  wallMs: number,
  { countMax, madeUp }: { countMax: number; madeUp: number },
): Plan {
  const afterMs = nextDueMs(timing, firstMs);
  const missed = afterMs !== null && afterMs <= wallMs;
  if (missed && misfire === 'all' && madeUp < LIMITS.scheduleMissedMax) {
    return planSeveral(timing, firstMs, wallMs, Math.min(countMax, LIMITS.scheduleMissedMax - madeUp), madeUp);
  }
  const dueMs = missed ? Math.max(firstMs, lastDueMs(timing, wallMs) ?? firstMs) : firstMs;
  const nextMs = missed ? nextDueMs(timing, wallMs) : afterMs;
  const count = misfire === 'skip' && wallMs - dueMs > LIMITS.scheduleLateMs ? 0 : 1;
  return { count, dueMs, nextMs, madeUp: 0 };
}

function planSeveral(timing: Timing, firstMs: number, wallMs: number, countMax: number, madeUp: number): Plan {
  let count = 1;
  let dueMs = firstMs;
  let nextMs = nextDueMs(timing, firstMs);
  for (; count < countMax && nextMs !== null && nextMs <= wallMs; count++) {
    dueMs = nextMs;
    nextMs = nextDueMs(timing, dueMs);
  }
  return { count, dueMs, nextMs, madeUp: madeUp + count };
}

/** Throws INVALID_ARGUMENT. */
export function parseMisfire(misfire: unknown): Misfire {
  if (misfire === undefined || misfire === null) return DEFAULTS.misfire;
  if (misfire === 'skip' || misfire === 'once' || misfire === 'all') return misfire;
  const message = `misfire is ${shown(misfire)}; allowed are "skip", "once" and "all"`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

/** Throws PAYLOAD_TOO_LARGE. */
export function checkSchedulePayload(bytes: number): void {
  if (bytes <= LIMITS.schedulePayloadBytesMax) return;
  const message = `the payload of a schedule has ${bytes} bytes; at most ${LIMITS.schedulePayloadBytesMax} are allowed: store large data elsewhere and schedule where it is`;
  throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes, bound: LIMITS.schedulePayloadBytesMax } });
}
