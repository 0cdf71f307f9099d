import type { Core } from '../core/core.ts';
import type { CoreCounters } from '../core/effects.ts';
import type { CoreWorker } from '../core/worker.ts';
import { BucketCounts } from '../io/bucket-counts.ts';
import { LatencyWindow } from '../io/histogram.ts';

const WINDOW_SECONDS = 5;
const ROTATE_SECONDS = 10;

interface Sample extends CoreCounters {
  atMs: number;
  /** Busy milliseconds by worker index. */
  busyMs: Map<number, number>;
}

/** Rates over the last seconds, latencies over the last minute, and durations since the start. */
export class Stats {
  readonly start = new LatencyWindow();
  readonly total = new LatencyWindow();
  readonly taskStart = new BucketCounts();
  readonly taskRun = new BucketCounts();
  readonly taskTotal = new BucketCounts();
  readonly #samples: Sample[] = [];
  #seconds = 0;

  startedAfter(ms: number, count: number): void {
    this.start.record(ms);
    this.taskStart.record(ms, count);
  }

  completedAfter(ms: number, count: number): void {
    this.total.record(ms);
    this.taskTotal.record(ms, count);
  }

  /** Call once a second. */
  second(core: Core, steadyMs: number): void {
    const busyMs = new Map<number, number>();
    for (const worker of core.assignments.workers.values()) busyMs.set(worker.index, worker.busyMs(steadyMs));
    this.#samples.push({ ...core.counters, atMs: steadyMs, busyMs });
    if (this.#samples.length > WINDOW_SECONDS + 1) this.#samples.shift();
    if (++this.#seconds % ROTATE_SECONDS === 0) {
      this.start.rotate();
      this.total.rotate();
    }
    const { completed, failed } = this.throughput();
    core.assignments.sampling.second(completed + failed);
  }

  /** Per second. */
  throughput(): CoreCounters {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs)
      return { enqueued: 0, completed: 0, failed: 0 };
    const seconds = (last.atMs - first.atMs) / 1000;
    return {
      enqueued: (last.enqueued - first.enqueued) / seconds,
      completed: (last.completed - first.completed) / seconds,
      failed: (last.failed - first.failed) / seconds,
    };
  }

  /** Share of its handlers that were busy, 0 to 1, over the window or since the worker came. */
  utilisation(worker: CoreWorker, steadyMs: number): number {
    const sample = this.#samples.find(({ busyMs }) => busyMs.has(worker.index));
    if (sample === undefined || sample.atMs >= steadyMs) return worker.busy / worker.concurrency;
    const busyMs = worker.busyMs(steadyMs) - (sample.busyMs.get(worker.index) ?? 0);
    return Math.min(1, busyMs / (steadyMs - sample.atMs) / worker.concurrency);
  }
}
