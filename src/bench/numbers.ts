export interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('a spread needs at least one value');
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  return { median: (lower + upper) / 2, min: sorted[0], max: sorted[sorted.length - 1] };
}

/** `share` from 0 to 1. `values` are sorted in place. */
export function percentile(values: Float64Array, share: number): number {
  if (values.length === 0) throw new RangeError('a percentile needs at least one value');
  values.sort();
  return values[Math.min(values.length - 1, Math.floor(values.length * share))];
}

/** Nanoseconds of the machine's monotonic clock: exact to the microsecond for the first 104 days after its start. */
export function nowNs(): number {
  return Number(process.hrtime.bigint());
}

/** Linux hands every process the same monotonic clock; elsewhere only the wall clock is common, in milliseconds. */
export const CLOCK_IS_SHARED = process.platform === 'linux';

/** A clock that is common to the processes of this machine. */
export function sharedNs(): number {
  return CLOCK_IS_SHARED ? nowNs() : (performance.timeOrigin + performance.now()) * 1e6;
}
