import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

const UNIT_PER_MS = 1000;

/** Latencies of the last minute, in six slices of ten seconds; recorded in microseconds with 1 % resolution. */
export class LatencyWindow {
  readonly #slices: RecordableHistogram[] = Array.from({ length: 6 }, newHistogram);
  #current = 0;

  record(ms: number): void {
    (this.#slices[this.#current] as RecordableHistogram).record(Math.max(1, Math.round(ms * UNIT_PER_MS)));
  }

  /** Call every ten seconds: the oldest slice is forgotten. */
  rotate(): void {
    this.#current = (this.#current + 1) % this.#slices.length;
    this.#slices[this.#current]?.reset();
  }

  percentiles(): { p50: number; p95: number; p99: number; count: number } {
    const sum = newHistogram();
    for (const slice of this.#slices) if (slice.count > 0) sum.add(slice);
    const at = (percentile: number): number => (sum.count === 0 ? 0 : sum.percentile(percentile) / UNIT_PER_MS);
    return { p50: at(50), p95: at(95), p99: at(99), count: sum.count };
  }
}

function newHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: 86_400_000_000, figures: 2 });
}
