import type { Status, WorkerStatus } from '../broker/contract.ts';

/** What was seen of the queue at one moment. */
export interface DemoSample {
  /** Since the first sample. */
  atMs: number;
  enqueued: number;
  completed: number;
  /** Ready, active, or waiting for another attempt. */
  queued: number;
  ready: number;
  active: number;
  scheduled: number;
  dead: number;
  failed: number;
}

export interface WorkerLoad {
  name: string;
  concurrency: number;
  completed: number;
  failed: number;
  /** Share of its handlers that ran, over the samples in which tasks were ready or running. */
  utilisation: number;
}

/** Collects what the server says of one queue, and of its workers, while the demo runs. */
export class DemoWatch {
  readonly samples: DemoSample[] = [];
  /** The newest. */
  status: Status | undefined;
  readonly #queue: string;
  readonly #startMs = performance.now();
  readonly #loads = new Map<string, { worker: WorkerStatus; busySum: number; sampleCount: number }>();

  constructor(queue: string) {
    this.#queue = queue;
  }

  add(status: Status): DemoSample {
    this.status = status;
    const queue = status.queues.find(({ name }) => name === this.#queue);
    const { ready = 0, active = 0, scheduled = 0, totals } = queue ?? {};
    const sample = {
      atMs: performance.now() - this.#startMs,
      enqueued: totals?.enqueued ?? 0,
      completed: totals?.completed ?? 0,
      failed: totals?.failed ?? 0,
      dead: totals?.dead ?? 0,
      queued: ready + active + scheduled,
      ready,
      active,
      scheduled,
    };
    this.samples.push(sample);
    for (const worker of status.workers) this.#addLoad(worker, ready > 0);
    return sample;
  }

  get loads(): WorkerLoad[] {
    return [...this.#loads.values()]
      .map(({ worker: { name, concurrency, completed, failed }, busySum, sampleCount }) => ({
        name,
        concurrency,
        completed,
        failed,
        utilisation: sampleCount === 0 ? 0 : busySum / sampleCount,
      }))
      .sort((a, b) => a.name.localeCompare(b.name));
  }

  /** Per second, from the moment the count first moved to the moment it was full. */
  rate(of: 'enqueued' | 'completed'): { perSecond: number; seconds: number } {
    const last = this.samples.at(-1)?.[of] ?? 0;
    const end = this.samples.find((sample) => sample[of] >= last);
    const start = this.samples.findLast((sample) => sample[of] === 0);
    const seconds = Math.max(0, (end?.atMs ?? 0) - (start?.atMs ?? 0)) / 1000;
    return { perSecond: seconds === 0 ? 0 : last / seconds, seconds };
  }

  #addLoad(worker: WorkerStatus, countsForLoad: boolean): void {
    if (!worker.queues.includes(this.#queue)) return;
    const load = this.#loads.get(worker.id) ?? { worker, busySum: 0, sampleCount: 0 };
    load.worker = worker;
    if (countsForLoad) {
      load.busySum += worker.running / worker.concurrency;
      load.sampleCount++;
    }
    this.#loads.set(worker.id, load);
  }
}
