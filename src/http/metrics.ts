import type { Broker, Status } from '../broker/contract.ts';
import type { Telemetry } from '../io/telemetry.ts';
import { formatMetrics, histogram, type MetricFamily, single } from './metric-family.ts';
import { ProcessMetrics } from './process-metrics.ts';
import { QueueLabels } from './queue-labels.ts';
import { queueMetrics } from './queue-metrics.ts';
import { workerMetrics } from './worker-metrics.ts';

/** What Prometheus is told, made anew from a broker's status at each scrape. */
export class Metrics {
  readonly #broker: Broker;
  readonly #telemetry: Telemetry | undefined;
  readonly #labels = new QueueLabels();
  readonly #process = new ProcessMetrics();
  #scrape: Promise<string> | undefined;

  constructor(broker: Broker, telemetry: Telemetry | undefined) {
    this.#broker = broker;
    this.#telemetry = telemetry;
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
    const status = await this.#broker.status();
    const { queues, workers } = status;
    return formatMetrics([
      ...queueMetrics(this.#labels.scrape(queues), queues, workers),
      ...workerMetrics(workers),
      ...serverMetrics(status),
      ...durationMetrics(this.#telemetry),
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
