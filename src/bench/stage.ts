import { mkdtempSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Child } from './child.ts';
import { Observer } from './observer.ts';
import type { ProducerMethods } from './producer-process.ts';
import type { ServerMethods, ServerStats } from './server-process.ts';
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
  readonly #profileName: string;
  #server: Child<ServerMethods>;
  #serverCount = 0;
  #observer: Observer | undefined;
  readonly #onAbort = (): void => {
    for (const child of this.#children) void child.kill();
  };

  /** `name` is for the profiles. */
  static async play<T>(settings: Settings, name: string, scene: (stage: Stage) => Promise<T>): Promise<T> {
    settings.signal.throwIfAborted();
    const stage = new Stage(settings, name);
    try {
      const result = await scene(stage);
      stage.#observer?.stop();
      await Promise.all(stage.#children.map((child) => child.leave()));
      return result;
    } catch (error) {
      // What fails when everyone is killed is not the reason.
      settings.signal.throwIfAborted();
      throw error;
    } finally {
      await stage.#clear();
    }
  }

  private constructor(settings: Settings, name: string) {
    this.#settings = settings;
    this.#profileName = name;
    this.directory = mkdtempSync(join(settings.directory, 'millrace-bench-'));
    this.#server = this.#startServer();
    this.producer = Child.start('producer', this.#profile('producer'));
    this.worker = Child.start('worker', this.#profile('worker'));
    settings.signal.addEventListener('abort', this.#onAbort);
  }

  get #children(): { leave: () => Promise<void>; kill: () => Promise<void> }[] {
    return [this.producer, this.worker, this.#server];
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
    this.#server = this.#startServer();
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
    const { queue } = await this.stats();
    if (report.lost > 0 || report.duplicated > 0 || queue === undefined) return report;
    const { ready, active, scheduled, dead, totals } = queue;
    if (ready + active + scheduled + dead === 0 && totals.completed === tasks && totals.failed === 0) return report;
    throw new Error(`the ledger has ${tasks} tasks done once each, but the server says ${JSON.stringify(queue)}`);
  }

  /** A worker that comes when everything is queued. */
  async workOff(url: string, tasks: number): Promise<WorkerReport> {
    const { encrypted } = this.#settings;
    await this.worker.call('work', { url, tasks, handling: 'batch', encrypted }, PART_TIMEOUT_MS);
    return await this.finish(tasks);
  }

  #startServer(): Child<ServerMethods> {
    this.#serverCount++;
    return Child.start('server', this.#profile(this.#serverCount === 1 ? 'server' : 'server-restarted'));
  }

  #profile(role: string): { directory: string; name: string } | undefined {
    const directory = this.#settings.profileDirectory;
    return directory === undefined ? undefined : { directory, name: `${this.#profileName}-${role}` };
  }

  async #clear(): Promise<void> {
    this.#observer?.stop();
    this.#settings.signal.removeEventListener('abort', this.#onAbort);
    await Promise.all(this.#children.map((child) => child.kill()));
    await rm(this.directory, { recursive: true, force: true });
    if (this.#settings.quick) return;
    await syncDirectory(this.#settings.directory);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  }
}

async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  await handle.sync().finally(() => handle.close());
}
