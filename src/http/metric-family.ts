import { type Metric, Registry } from 'prom-client';
import { BucketCounts } from '../io/bucket-counts.ts';

export interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** When it is not the family's. */
  readonly metricName?: string;
}

/** All samples of one name, as they are at the moment of a scrape. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly Sample[];
}

export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** The text format of Prometheus. */
export function formatMetrics(families: readonly MetricFamily[]): Promise<string> {
  const registry = new Registry();
  for (const { samples, ...about } of families) {
    // All that the registry asks of a metric. Its own kinds would count a second time what is counted already.
    registry.registerMetric({ ...about, get: async () => ({ ...about, values: samples }) } as unknown as Metric);
  }
  return registry.metrics();
}

/** A family with one sample, without labels. */
export function single(type: 'counter' | 'gauge', name: string, help: string, value: number): MetricFamily {
  return { name, help, type, samples: [{ labels: {}, value }] };
}

/** In seconds, with cumulative buckets, as Prometheus has them. */
export function histogram(name: string, help: string, durations: BucketCounts): MetricFamily {
  const metricName = `${name}_bucket`;
  let count = 0;
  const samples: Sample[] = BucketCounts.boundsMs.map((boundMs, index) => {
    count += durations.counts[index] ?? 0;
    return { metricName, labels: { le: boundMs / 1000 }, value: count };
  });
  count += durations.counts[BucketCounts.boundsMs.length] ?? 0;
  samples.push(
    { metricName, labels: { le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels: {}, value: durations.sumMs / 1000 },
    { metricName: `${name}_count`, labels: {}, value: count },
  );
  return { name, help, type: 'histogram', samples };
}
