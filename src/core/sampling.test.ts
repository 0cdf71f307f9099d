import { describe, expect, it } from 'vitest';
import { SAMPLES_AT_ONCE, SAMPLES_PER_SECOND, Sampling } from './sampling.ts';

/** How many samples so many give within `ms`, and how many these stand for. */
function sample(sampling: Sampling, count: number, ms: number): { samples: number; stoodFor: number } {
  let until = 1;
  let from = 1;
  let samples = 0;
  let stoodFor = 0;
  for (let index = 0; index < count; index++) {
    if (--until > 0) continue;
    samples++;
    stoodFor += from;
    until = from = sampling.next(1000 + (index * ms) / count);
  }
  return { samples, stoodFor };
}

describe('samples', () => {
  it('are all, while few come', () => {
    const all = { samples: SAMPLES_PER_SECOND, stoodFor: SAMPLES_PER_SECOND };
    expect(sample(new Sampling(), SAMPLES_PER_SECOND, 1000)).toEqual(all);
  });

  it('of a burst are few, and stand for all of it', () => {
    const { samples, stoodFor } = sample(new Sampling(), 1_000_000, 0);
    expect(samples).toBeLessThan(12 * SAMPLES_AT_ONCE);
    expect(1_000_000 - stoodFor).toBeLessThan(4096);
    expect(stoodFor).toBeLessThanOrEqual(1_000_000);
  });

  it('are about as many as they may be when it is known how many will come', () => {
    const sampling = new Sampling();
    sampling.second(1_000_000);
    expect(sample(sampling, 1_000_000, 1000).samples).toBeLessThanOrEqual(SAMPLES_PER_SECOND + 1);
    sampling.second(0);
    expect(sampling.every).toBe(1);
  });
});
