import type { Status } from '../broker/contract.ts';
import type { Telemetry } from '../io/telemetry.ts';
import type { HttpWorld } from './context.ts';
import { formatMetrics, histogram, type MetricFamily, single } from './metric-family.ts';
import { ProcessMetrics } from './process-metrics.ts';
import { QueueLabels } from './queue-labels.ts';
import { depthMetrics, queueMetrics } from './queue-metrics.ts';
import { workerMetrics } from './worker-metrics.ts';

/** What Prometheus is told, made anew from a broker's status at each scrape. */
export class Metrics {
  readonly #world: Pick<HttpWorld, 'broker' | 'features' | 'telemetry'>;
  readonly #labels = new QueueLabels();
  readonly #process = new ProcessMetrics();
  #scrape: Promise<string> | undefined;

  constructor(world: Pick<HttpWorld, 'broker' | 'features' | 'telemetry'>) {
    this.#world = world;
  }

  /** Those who ask at the same time get the same. Rejects as `Broker.status` does. */
  scrape(): Promise<string> {
    this.#scrape ??= this.#make().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  stop(): void {
    this.#process.stop();
  }

  async #make(): Promise<string> {
    const { broker, features, telemetry } = this.#world;
    const status = await broker.status();
    const { queues, workers } = status;
    const labelled = this.#labels.scrape(queues);
    return formatMetrics([
      ...(features.tasks
        ? [...queueMetrics(labelled, workers), ...workerMetrics(workers)]
        : // A broker of messages alone knows no more; zeros would be lies.
          depthMetrics(labelled, ['ready', 'dead'])),
      ...serverMetrics(status),
      ...durationMetrics(telemetry),
      ...this.#process.scrape(),
    ]);
  }
}

function serverMetrics({ server, journal }: Status): MetricFamily[] {
  const { version, connections } = server;
  return [
    {
      name: 'millrace_build_info',
      help: 'Always 1.',
      type: 'gauge',
      samples: [{ labels: { version }, value: 1 }],
    },
    single('gauge', 'millrace_connections', 'Connections of clients and workers.', connections),
    ...(journal === null
      ? []
      : [
          single('gauge', 'millrace_journal_bytes', 'Bytes in the journal.', journal.bytes),
          single('gauge', 'millrace_journal_segments', 'Segments of the journal.', journal.segments),
          single('counter', 'millrace_journal_syncs_total', 'Syncs since the start.', journal.syncs),
          single(
            'counter',
            'millrace_journal_appended_bytes_total',
            'Bytes that were appended to the journal since the start.',
            journal.appendedBytes,
          ),
        ]),
  ];
}

function durationMetrics(telemetry: Telemetry | undefined): MetricFamily[] {
  if (telemetry === undefined) return [];
  const { taskStart, taskRun, taskTotal, fsync } = telemetry.durations();
  return [
    histogram('millrace_task_start_delay_seconds', 'From enqueue to start, of tasks without a delay.', taskStart),
    histogram('millrace_task_duration_seconds', 'How long attempts ran.', taskRun),
    histogram('millrace_task_total_seconds', 'From enqueue to completion, of tasks without a delay.', taskTotal),
    ...(fsync === undefined
      ? []
      : [histogram('millrace_fsync_duration_seconds', 'Until bytes were on disk, a group commit each.', fsync)]),
  ];
}
