import type { BucketCounts } from './bucket-counts.ts';

/** What a backend in this process has counted beyond its status. */
export interface Telemetry {
  durations(): Durations;
}

/** Since the process started. Those of tasks are sampled under load, and weighted so that counts are those of all. */
export interface Durations {
  /** From enqueue to the first start, of tasks that were ready when they were enqueued. */
  readonly taskStart: BucketCounts;
  /** Of attempts, as their workers tell when they begin and end. */
  readonly taskRun: BucketCounts;
  /** From enqueue to completion, of tasks that were ready when they were enqueued. */
  readonly taskTotal: BucketCounts;
  /** Until written bytes were on disk; undefined when there is none. */
  readonly fsync: BucketCounts | undefined;
}
