import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LIMITS } from '../limits.ts';
import { type BackoffPolicy, backoffMs } from './kind.ts';

const exponential: BackoffPolicy = { type: 'exponential', delayMs: 100, maxDelayMs: 1000, jitter: false };

describe('backoff', () => {
  it('doubles up to its bound', () => {
    expect([1, 2, 3, 4, 5, 6].map((failed) => backoffMs(exponential, failed, 0.5))).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
  });

  it('stays the same when it is fixed', () => {
    const fixed: BackoffPolicy = { ...exponential, type: 'fixed', maxDelayMs: 10 };
    expect([1, 2, 50].map((failed) => backoffMs(fixed, failed, 0.5))).toEqual([100, 100, 100]);
  });

  it('with jitter is between half and all of itself', () => {
    const jitter = { ...exponential, jitter: true };
    expect(backoffMs(jitter, 2, 0)).toBe(100);
    expect(backoffMs(jitter, 2, 0.999_999)).toBeCloseTo(200, 3);
  });

  it('is never negative, infinite or above its bound, whatever the attempt', () => {
    fc.assert(
      fc.property(
        fc.nat(LIMITS.backoffMsMax),
        fc.nat(LIMITS.backoffMsMax),
        fc.integer({ min: 1, max: LIMITS.maxAttemptsMax }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (delayMs, maxDelayMs, failed, random) => {
          const ms = backoffMs({ type: 'exponential', delayMs, maxDelayMs, jitter: true }, failed, random);
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThanOrEqual(maxDelayMs);
        },
      ),
    );
  });
});
