import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Child } from './child.ts';
import { inScratch, probeStream } from './disk-probe.ts';
import {
  type GrowthPoint,
  type GrowthReading,
  type GrowthSeries,
  type GrowthShape,
  growthPoint,
  growthShapes,
  warmUpTasks,
} from './growth-points.ts';
import type { LoadMethods } from './load-process.ts';
import { describeMachine, describeVersions, type Machine, type Versions } from './machine.ts';
import type { ServerLoad, ServerMethods } from './server-process.ts';
import { PART_TIMEOUT_MS, QUIET_MS } from './stage.ts';
import { Troupe, type TroupeSettings } from './troupe.ts';
import type { FsyncPolicy } from './workload.ts';

export interface GrowthSettings extends TroupeSettings {
  /** Where the throwaway data directories are made: the disk that is measured. */
  directory: string;
  fsync: FsyncPolicy;
  series: readonly GrowthSeries[];
  quick: boolean;
  onProgress: (line: string) => void;
}

/** Beside those that are counted: the other side's, and lifelines. */
const CONNECTIONS_MAX = 4096;

/** What `bench --growth --json` prints. */
export interface GrowthReport {
  machine: Machine;
  versions: Versions;
  durability: string;
  disk: {
    /** Of writes of 1 MiB, each durable before the next. */
    bytesPerS: number;
  };
  points: GrowthPoint[];
}

const DISK_WRITES = { normal: 256, quick: 4 };

export async function runGrowth(settings: GrowthSettings): Promise<GrowthReport> {
  const { directory, fsync, quick } = settings;
  const writes = quick ? DISK_WRITES.quick : DISK_WRITES.normal;
  const bytesPerS = inScratch(directory, (own) => probeStream(own, writes));
  return {
    machine: describeMachine(directory),
    versions: describeVersions(),
    durability: `fsync ${fsync}`,
    disk: { bytesPerS },
    points: await runPoints(settings),
  };
}

async function runPoints(settings: GrowthSettings): Promise<GrowthPoint[]> {
  const shapes = growthShapes(settings.series, settings.quick);
  const points: GrowthPoint[] = [];
  for (const [index, shape] of shapes.entries()) {
    settings.onProgress(`${index + 1} of ${shapes.length}: ${shape.series}, ${shape.size}`);
    points.push(await Scene.play(settings, shape));
  }
  return points;
}

/** Server, producers and workers of one point, in a process each. */
class Scene {
  readonly #settings: GrowthSettings;
  readonly #shape: GrowthShape;
  readonly #directory: string;
  readonly #server: Child<ServerMethods>;
  readonly #producer: Child<LoadMethods>;
  readonly #worker: Child<LoadMethods>;
  readonly #queues: readonly string[];
  #enqueued = 0;

  static async play(settings: GrowthSettings, shape: GrowthShape): Promise<GrowthPoint> {
    settings.signal.throwIfAborted();
    const directory = mkdtempSync(join(settings.directory, 'millrace-bench-'));
    try {
      return await Troupe.play(settings, (troupe) => new Scene(settings, shape, directory, troupe).#measure());
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  private constructor(settings: GrowthSettings, shape: GrowthShape, directory: string, troupe: Troupe) {
    this.#settings = settings;
    this.#shape = shape;
    this.#directory = directory;
    this.#queues = Array.from({ length: shape.queues }, (_, index) => `growth-${index}`);
    const name = `${shape.series}-${shape.size}`;
    this.#server = troupe.start('server', `${name}-server`);
    this.#producer = troupe.start('load', `${name}-producer`);
    this.#worker = troupe.start('load', `${name}-worker`);
  }

  async #measure(): Promise<GrowthPoint> {
    const shape = this.#shape;
    const { fsync, quick } = this.#settings;
    const warmUp = warmUpTasks(shape, quick);
    const data = { directory: join(this.#directory, 'data'), fsync, observed: false, connectionsMax: CONNECTIONS_MAX };
    const { url } = await this.#server.call('start', data, PART_TIMEOUT_MS);
    await this.#producer.call('connect', { url, connections: shape.producers }, PART_TIMEOUT_MS);
    await this.#worker.call('connect', { url, connections: 1 }, PART_TIMEOUT_MS);
    const { workers, concurrency } = shape;
    const work = { workers, concurrency, queues: this.#queues, tasks: warmUp + shape.rounds * shape.tasks };
    await this.#worker.call('work', work, PART_TIMEOUT_MS);
    await this.#flow(warmUp);
    const readings: GrowthReading[] = [];
    for (let round = 0; round < shape.rounds; round++) {
      readings.push(shape.series === 'queued' ? await this.#fillAndDrain() : await this.#flow(shape.tasks));
    }
    const ledger = await this.#worker.call('stop', {}, PART_TIMEOUT_MS);
    const { completed, left } = await this.#server.call('load', { completed: 0 }, PART_TIMEOUT_MS);
    if (ledger.lost + ledger.duplicated === 0 && (completed !== this.#enqueued || left !== 0)) {
      throw new Error(`of ${this.#enqueued} tasks the server says ${completed} completed, ${left} left`);
    }
    return growthPoint(shape, readings, ledger);
  }

  /** Producers and workers at the same time. */
  async #flow(tasks: number): Promise<GrowthReading> {
    const before = await this.#load();
    const all = this.#enqueued + tasks;
    const [{ startNs }, { lastNs }] = await Promise.all([this.#enqueue(tasks), this.#reach(all)]);
    const after = await this.#load();
    return {
      tasks,
      tookNs: lastNs - startNs,
      serverCpuUs: after.cpuUs - before.cpuUs,
      enqueue: undefined,
      emptyBytes: before.rssBytes,
      fullBytes: after.rssBytes,
    };
  }

  /** The queue is paused while its tasks come. */
  async #fillAndDrain(): Promise<GrowthReading> {
    const { tasks } = this.#shape;
    const [queue] = this.#queues;
    await this.#worker.call('pause', { queue }, PART_TIMEOUT_MS);
    const empty = await this.#load();
    const { startNs, endNs } = await this.#enqueue(tasks);
    const full = await this.#load(0);
    const { startNs: resumedNs } = await this.#worker.call('resume', { queue }, PART_TIMEOUT_MS);
    const { lastNs } = await this.#reach(this.#enqueued);
    const drained = await this.#load();
    return {
      tasks,
      tookNs: lastNs - resumedNs,
      serverCpuUs: drained.cpuUs - full.cpuUs,
      enqueue: { tookNs: endNs - startNs, serverCpuUs: full.cpuUs - empty.cpuUs },
      emptyBytes: empty.rssBytes,
      fullBytes: full.rssBytes,
    };
  }

  async #enqueue(tasks: number): Promise<{ startNs: number; endNs: number }> {
    const { batchTasks, payloadBytes, busyQueues, callsInFlight } = this.#shape;
    const first = this.#enqueued;
    this.#enqueued += tasks;
    const queues = this.#queues.slice(0, busyQueues);
    const options = { first, tasks, batchTasks, payloadBytes, callsInFlight, queues };
    return await this.#producer.call('enqueue', options, PART_TIMEOUT_MS);
  }

  #reach(tasks: number): Promise<{ lastNs: number }> {
    return this.#worker.call('reach', { tasks, quietMs: QUIET_MS }, PART_TIMEOUT_MS);
  }

  /** Once the server has all completions of what was enqueued. */
  #load(completed = this.#enqueued): Promise<ServerLoad> {
    return this.#server.call('load', { completed }, PART_TIMEOUT_MS);
  }
}
