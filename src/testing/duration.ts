import { MillraceError, shown, shownValue } from '../errors.ts';
import { LIMITS } from '../limits.ts';

const UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds, or a number with its unit: `'250ms'`, `'30s'`, `'5m'`, `'1h'`, `'2d'`. */
export type Duration = number | `${number}${keyof typeof UNITS_MS}`;

/** In milliseconds; 0 to 366 days. Throws INVALID_ARGUMENT. */
export function durationMs(duration: Duration): number {
  const [, digits, unit] = typeof duration === 'string' ? (/^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(duration) ?? []) : [];
  const ms = unit === undefined ? duration : Number(digits) * UNITS_MS[unit as keyof typeof UNITS_MS];
  if (typeof ms === 'number' && ms >= 0 && ms <= LIMITS.delayMsMax) return ms;
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `a duration is milliseconds, or text such as 250ms, 30s, 5m, 1h or 2d, from 0 to 366 days; not ${shown(duration)}`,
    { details: { value: shownValue(duration), max: LIMITS.delayMsMax } },
  );
}
