import type { Status } from '../broker/contract.ts';
import type { DemoView, WorkerView } from './demo-view.ts';

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
  /**
   * Share of its handlers that ran, over the samples in which tasks were ready; of all when there was none. Absent where
   * the backend does not tell.
   */
  utilisation?: number;
}

/** Collects what is seen of the demo's queue, and of its workers, while it runs. */
export class DemoWatch {
  readonly samples: DemoSample[] = [];
  /** The newest; undefined where the backend does not tell. */
  status: Status | undefined;
  workers: readonly WorkerView[] = [];
  readonly #startMs = performance.now();
  readonly #loads = new Map<string, { worker: WorkerView; busy: Mean; busyUnderLoad: Mean }>();

  add({ status, workers, ...counts }: DemoView): DemoSample {
    this.status = status;
    this.workers = workers;
    const { ready, active, scheduled } = counts;
    const sample = { atMs: performance.now() - this.#startMs, queued: ready + active + scheduled, ...counts };
    this.samples.push(sample);
    for (const worker of workers) this.#addLoad(worker, ready > 0);
    return sample;
  }

  get loads(): WorkerLoad[] {
    return [...this.#loads.values()]
      .map(({ worker: { name, concurrency, completed, failed, running }, busy, busyUnderLoad }) => ({
        name,
        concurrency,
        completed,
        failed,
        ...(running === undefined ? {} : { utilisation: busyUnderLoad.value ?? busy.value ?? 0 }),
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

  #addLoad(worker: WorkerView, underLoad: boolean): void {
    const load = this.#loads.get(worker.name) ?? { worker, busy: new Mean(), busyUnderLoad: new Mean() };
    load.worker = worker;
    this.#loads.set(worker.name, load);
    if (worker.running === undefined) return;
    const share = worker.running / worker.concurrency;
    if (worker.running > 0) load.busy.add(share);
    if (underLoad) load.busyUnderLoad.add(share);
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
