import { mkdtempSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { QueueStatus } from '../broker/contract.ts';
import type { Child, Role } from './child.ts';
import type { Methods } from './methods.ts';
import { Observer } from './observer.ts';
import type { ProducerMethods } from './producer-process.ts';
import type { ServerMethods, ServerStats } from './server-process.ts';
import { Troupe } from './troupe.ts';
import type { WorkerMethods, WorkerReport } from './worker-process.ts';
import type { Settings } from './workload.ts';

/** Longer than any part of any row takes on a slow machine. */
export const PART_TIMEOUT_MS = 30 * 60_000;
/** A worker that gets nothing for so long reports what is missing as lost. */
export const QUIET_MS = 20_000;
/** The disk gets this long to forget what was removed: on a `discard` mount that slows the syncs after it. */
const SETTLE_MS = 1000;

/** One run's server, producer and worker with their data directory. */
export class Stage {
  readonly directory: string;
  readonly producer: Child<ProducerMethods>;
  readonly worker: Child<WorkerMethods>;
  readonly #settings: Settings;
  readonly #name: string;
  readonly #troupe: Troupe;
  #server: Child<ServerMethods>;
  #observer: Observer | undefined;

  /** `name` is for the profiles. */
  static async play<T>(settings: Settings, name: string, scene: (stage: Stage) => Promise<T>): Promise<T> {
    settings.signal.throwIfAborted();
    const directory = mkdtempSync(join(settings.directory, 'millrace-bench-'));
    try {
      return await Troupe.play(settings, async (troupe) => {
        const stage = new Stage(settings, name, directory, troupe);
        return await scene(stage).finally(() => stage.#observer?.stop());
      });
    } finally {
      await clear(directory, settings);
    }
  }

  private constructor(settings: Settings, name: string, directory: string, troupe: Troupe) {
    this.#settings = settings;
    this.#name = name;
    this.directory = directory;
    this.#troupe = troupe;
    this.#server = troupe.start('server', `${name}-server`);
    this.producer = troupe.start('producer', `${name}-producer`);
    this.worker = troupe.start('worker', `${name}-worker`);
  }

  /** Another process, which ends with the others. */
  start<M extends Methods>(role: Role): Child<M> {
    return this.#troupe.start(role, `${this.#name}-${role}`);
  }

  /** Opens the data directory; resolves with the URL. */
  async openServer(): Promise<string> {
    const { fsync, observed } = this.#settings;
    const options = { directory: join(this.directory, 'data'), fsync, observed };
    const { url, httpUrl } = await this.#server.call('start', options, PART_TIMEOUT_MS);
    if (httpUrl !== undefined) this.#observer = new Observer(httpUrl);
    return url;
  }

  async crashServer(): Promise<void> {
    this.#observer?.stop();
    await this.#server.kill();
  }

  /** In a new process; resolves with its URL. */
  async reopenServer(): Promise<string> {
    this.#server = this.#troupe.start('server', `${this.#name}-server-restarted`);
    return await this.openServer();
  }

  stats(): Promise<ServerStats> {
    return this.#server.call('stats', {}, PART_TIMEOUT_MS);
  }

  /** Waits until the worker has done so many tasks. */
  async reach(tasks: number): Promise<void> {
    await this.worker.call('reach', { tasks, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  }

  /** Waits until the worker has done all `tasks`, and lets the server confirm that these are all that there were. */
  async finish(tasks: number, warmUp = 0): Promise<WorkerReport> {
    const report = await this.worker.call('finish', { warmUp, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
    if (report.lost > 0 || report.duplicated > 0) return report;
    const { queue } = await this.stats();
    if (queue !== undefined && isDone(queue, tasks)) return report;
    throw new Error(`the ledger has ${tasks} tasks done once each, but the server says ${JSON.stringify(queue)}`);
  }

  /** A worker that comes when everything is queued. */
  async workOff(url: string, tasks: number): Promise<WorkerReport> {
    const { encrypted } = this.#settings;
    await this.worker.call('work', { url, tasks, handling: 'batch', encrypted }, PART_TIMEOUT_MS);
    return await this.finish(tasks);
  }
}

/** Whether so many tasks came to it, were completed at their first attempt, and nothing else ever did. */
function isDone({ ready, active, scheduled, blocked, totals }: QueueStatus, tasks: number): boolean {
  const { enqueued, completed, failed, dead, cancelled } = totals;
  const isEmpty = ready + active + scheduled + blocked === 0;
  return isEmpty && enqueued === tasks && completed === tasks && failed + dead + cancelled === 0;
}

async function clear(directory: string, settings: Settings): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  if (settings.quick || settings.signal.aborted) return;
  await syncDirectory(settings.directory);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  await handle.sync().finally(() => handle.close());
}
