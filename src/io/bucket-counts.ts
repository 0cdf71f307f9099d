/**
 * How many durations fell into each bucket since the process started. Buckets are fixed, from 0.1 ms to a day, so that
 * counts of different processes and times can be added up; recording makes no garbage.
 */
export class BucketCounts {
  /** Upper bounds, inclusive; what is longer is in the bucket behind the last. */
  static readonly boundsMs: readonly number[] = [
    ...[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500],
    ...[1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400].map((seconds) => seconds * 1000),
  ];

  /** Not cumulative: each duration is in one bucket. */
  readonly counts = new Float64Array(BucketCounts.boundsMs.length + 1);
  #sumMs = 0;

  get sumMs(): number {
    return this.#sumMs;
  }

  /** `weight`: how many durations this one was sampled from. */
  record(ms: number, weight = 1): void {
    const { boundsMs } = BucketCounts;
    let low = 0;
    let high = boundsMs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((boundsMs[middle] as number) < ms) low = middle + 1;
      else high = middle;
    }
    (this.counts[low] as number) += weight;
    this.#sumMs += ms * weight;
  }
}
