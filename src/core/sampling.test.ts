import { describe, expect, it } from 'vitest';
import { SAMPLES_PER_SECOND, Sampling } from './sampling.ts';

/** How many samples so many give, and how many these stand for. */
function sample(sampling: Sampling, count: number): { samples: number; stoodFor: number } {
  let until = 1;
  let from = 1;
  let samples = 0;
  let stoodFor = 0;
  for (let index = 0; index < count; index++) {
    if (--until > 0) continue;
    samples++;
    stoodFor += from;
    until = from = sampling.next();
  }
  return { samples, stoodFor };
}

describe('samples', () => {
  it('are all, while few come', () => {
    expect(sample(new Sampling(), SAMPLES_PER_SECOND)).toEqual({
      samples: SAMPLES_PER_SECOND,
      stoodFor: SAMPLES_PER_SECOND,
    });
  });

  it('of a burst are few, and stand for all of it', () => {
    const { samples, stoodFor } = sample(new Sampling(), 1_000_000);
    expect(samples).toBeLessThan(10 * SAMPLES_PER_SECOND);
    expect(1_000_000 - stoodFor).toBeLessThan(1024);
    expect(stoodFor).toBeLessThanOrEqual(1_000_000);
  });

  it('are about as many as they may be when it is known how many will come', () => {
    const sampling = new Sampling();
    sampling.second(1_000_000);
    expect(sample(sampling, 1_000_000).samples).toBeLessThanOrEqual(SAMPLES_PER_SECOND + 1);
    sampling.second(0);
    expect(sampling.every).toBe(1);
  });
});
