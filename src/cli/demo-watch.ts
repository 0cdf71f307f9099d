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
  /** Share of its handlers that ran, over the samples in which tasks were ready; of all when there was none. */
  utilisation: number;
}

/** Collects what the server says of one queue, and of its workers, while the demo runs. */
export class DemoWatch {
  readonly samples: DemoSample[] = [];
  /** The newest. */
  status: Status | undefined;
  readonly #queue: string;
  readonly #startMs = performance.now();
  readonly #loads = new Map<string, { worker: WorkerStatus; busy: Mean; busyUnderLoad: Mean }>();

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
      .map(({ worker: { name, concurrency, completed, failed }, busy, busyUnderLoad }) => ({
        name,
        concurrency,
        completed,
        failed,
        utilisation: busyUnderLoad.value ?? busy.value ?? 0,
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

  #addLoad(worker: WorkerStatus, underLoad: boolean): void {
    if (!worker.queues.includes(this.#queue)) return;
    const load = this.#loads.get(worker.id) ?? { worker, busy: new Mean(), busyUnderLoad: new Mean() };
    load.worker = worker;
    const share = worker.running / worker.concurrency;
    if (worker.held > 0) load.busy.add(share);
    if (underLoad) load.busyUnderLoad.add(share);
    this.#loads.set(worker.id, load);
  }
}

class Mean {
  #sum = 0;
  #count = 0;

  add(value: number): void {
    this.#sum += value;
    this.#count++;
  }

  /** Undefined of nothing. */
  get value(): number | undefined {
    return this.#count === 0 ? undefined : this.#sum / this.#count;
  }
}
