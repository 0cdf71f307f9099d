import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, QueueStatus, ScheduleInfo } from '../../src/index.ts';
import { TcpProxy } from '../conformance/tcp-proxy.ts';
import { Actor } from './actor.ts';
import type { Backend } from './backend.ts';
import type { Disturbance } from './check.ts';
import { nowMs, QUEUE, TICKS } from './manners.ts';
import { product } from './product.ts';
import { bytesBelow, type Usage, usageOf } from './sampler.ts';
import { Viewer } from './viewer.ts';

const PRODUCERS = 2;
/** The first is never ended: what a worker takes over the whole time is seen from it. */
const WORKERS = 3;
const CUT_EVERY_MS = 15_000;
const RESTART_EVERY_MS = 40_000;
const SETTLE_MS_MAX = 300_000;
/** Sockets that were closed a moment ago are closed at their other end too. */
const CALM_MS = 3000;
const TICK_EVERY_MS = 1000;
/** Reached within five minutes, so that what is kept grows no more after that. */
const RETENTION = { completedCountMax: 100_000, completedAgeMs: 3_600_000, deadCountMax: 2000, deadAgeMs: 3_600_000 };

export interface Sample {
  /** Since the load began. */
  readonly seconds: number;
  readonly processes: Readonly<Record<string, Usage>>;
  /** Resident memory of RabbitMQ and PostgreSQL. */
  readonly services: Readonly<Record<string, number>>;
  readonly dataBytes: number;
  readonly backlog: number;
  readonly completed: number;
}

export interface Evidence {
  readonly samples: readonly Sample[];
  readonly producerBooks: readonly string[];
  /** By the name of the worker. */
  readonly workerBooks: Readonly<Record<string, string>>;
  readonly disturbances: readonly Disturbance[];
  readonly complaints: readonly string[];
  readonly queue: QueueStatus;
  readonly ticks: QueueStatus;
  readonly schedule: ScheduleInfo;
  readonly firstTickMs: number;
  /** When the load began, on the machine's monotonic clock. */
  readonly beganMs: number;
  /** Of the server: before anybody came, and after all had gone. */
  readonly openFiles: readonly [before: number, after: number];
  readonly viewer: Pick<Viewer, 'requests' | 'events' | 'dropped'>;
  readonly cuts: number;
  readonly restarts: number;
}

export interface SceneOptions {
  readonly backend: Backend;
  /** For what the processes write down. */
  readonly directory: string;
  readonly seconds: number;
  /** Tasks a second, of all producers. */
  readonly rate: number;
  readonly sampleSeconds: number;
  readonly onSample: (sample: Sample) => void;
}

/** A place for one process after the other, which comes to the backend through the same proxies. */
interface Slot {
  readonly role: 'producer' | 'worker';
  readonly proxies: readonly TcpProxy[];
  readonly url: string;
  readonly store: string | undefined;
  actor: Actor;
}

export class Scene {
  readonly #options: SceneOptions;
  readonly #slots: Slot[] = [];
  readonly #actors: Actor[] = [];
  readonly #disturbances: Disturbance[] = [];
  readonly #samples: Sample[] = [];
  readonly #counts = { cuts: 0, restarts: 0 };
  #workerCount = 0;
  #client!: Client;
  #viewer!: Viewer;
  #beganMs = 0;

  constructor(options: SceneOptions) {
    this.#options = options;
  }

  async run(): Promise<Evidence> {
    const { backend, directory } = this.#options;
    await mkdir(directory, { recursive: true });
    const before = await this.#openFilesWhenCalm();
    const { connect } = await product();
    this.#client = await connect(backend.url, { name: 'soak', store: backend.store });
    await this.#client.queue(QUEUE).retention(RETENTION);
    await this.#client.queue(TICKS).retention(RETENTION);
    const schedule = { everyMs: TICK_EVERY_MS, misfire: 'all', task: 'tick', queue: TICKS } as const;
    const { nextAtMs: firstTickMs = 0 } = await this.#client.schedule('ticks', schedule);
    this.#viewer = new Viewer(backend.httpUrl);
    for (let i = 0; i < WORKERS; i++) await this.#open('worker');
    for (let i = 0; i < PRODUCERS; i++) await this.#open('producer');
    this.#beganMs = nowMs();
    await this.#trouble();
    return await this.#settle(before, firstTickMs);
  }

  /** Leaves no process of its own behind. */
  async clear(): Promise<void> {
    await this.#viewer?.stop();
    await this.#client?.close({ timeoutMs: 0 });
    await Promise.all(this.#actors.map((actor) => actor.end('SIGKILL')));
    for (const { proxies } of this.#slots) await Promise.all(proxies.map((proxy) => proxy.stop()));
  }

  /** Until the time is over: samples, cuts and restarts, each at its own pace. */
  async #trouble(): Promise<void> {
    const { seconds, sampleSeconds } = this.#options;
    const due = { sample: 0, cut: CUT_EVERY_MS, restart: RESTART_EVERY_MS };
    for (;;) {
      const elapsedMs = nowMs() - this.#beganMs;
      if (elapsedMs >= seconds * 1000) return;
      if (elapsedMs >= due.sample) {
        due.sample += sampleSeconds * 1000;
        await this.#sample();
      }
      if (elapsedMs >= due.cut) {
        due.cut += CUT_EVERY_MS;
        this.#cut();
      }
      if (elapsedMs >= due.restart) {
        due.restart += RESTART_EVERY_MS;
        await this.#restart();
      }
      this.#checkAlive();
      await sleep(200);
    }
  }

  async #settle(before: number, firstTickMs: number): Promise<Evidence> {
    const ofRole = (role: Slot['role']): Actor[] =>
      this.#slots.filter((slot) => slot.role === role).map(({ actor }) => actor);
    const finished = Promise.all(ofRole('producer').map((actor) => actor.finish()));
    await this.#soon(finished, 'the producers did not get the answers to all that they had asked');
    const schedule = await this.#client.schedules.get('ticks');
    await this.#client.schedules.remove('ticks');
    const [queue, ticks] = await this.#soon(this.#drained(), 'not everything came to its end');
    await this.#sample();
    await Promise.all(ofRole('worker').map((actor) => actor.end('SIGTERM')));
    await this.#viewer.stop();
    await this.#client.close();
    const after = await this.#openFilesWhenCalm();
    const books = await readdir(this.#options.directory);
    const booksOf = (role: string): string[] => books.filter((name) => name.startsWith(role));
    const pathOf = (name: string): string => join(this.#options.directory, name);
    return {
      samples: this.#samples,
      producerBooks: booksOf('producer').map(pathOf),
      workerBooks: Object.fromEntries(booksOf('worker').map((name) => [name, pathOf(name)])),
      disturbances: this.#disturbances,
      complaints: this.#complaints(),
      ...{ queue, ticks, schedule, firstTickMs },
      beganMs: this.#beganMs,
      openFiles: [before, after],
      viewer: this.#viewer,
      ...this.#counts,
    };
  }

  async #drained(): Promise<[QueueStatus, QueueStatus]> {
    for (;;) {
      const queues = await Promise.all([QUEUE, TICKS].map((name) => this.#client.queue(name).status()));
      const open = queues.map(({ ready, active, scheduled, blocked }) => ready + active + scheduled + blocked);
      if (open.every((count) => count === 0)) return queues as [QueueStatus, QueueStatus];
      await sleep(250);
    }
  }

  async #soon<T>(work: Promise<T>, what: string): Promise<T> {
    const late = sleep(SETTLE_MS_MAX, undefined, { ref: false }).then(() => {
      throw new Error(`${what} within ${SETTLE_MS_MAX / 1000} s`);
    });
    return await Promise.race([work, late]);
  }

  async #open(role: Slot['role']): Promise<void> {
    const { url, store } = this.#options.backend;
    const proxies: TcpProxy[] = [];
    const behind = async (address: string, port: number): Promise<string> => {
      const through = new URL(address);
      // A proxy would have to be where the service is.
      if (!['127.0.0.1', 'localhost'].includes(through.hostname)) return address;
      const proxy = await TcpProxy.start(Number(through.port || port));
      proxies.push(proxy);
      through.host = `127.0.0.1:${proxy.port}`;
      return through.href;
    };
    const ownUrl = await behind(url, 5672);
    const ownStore = store === undefined ? undefined : await behind(store, 5432);
    const slot = { role, proxies, url: ownUrl, store: ownStore };
    this.#slots.push({ ...slot, actor: await this.#start(slot) });
  }

  async #start({ role, url, store }: Omit<Slot, 'actor'>): Promise<Actor> {
    const number = role === 'worker' ? ++this.#workerCount : this.#slots.length - WORKERS + 1;
    const name = `${role}${number}`;
    const rate = this.#options.rate / PRODUCERS;
    const orders = { url, store, name, book: join(this.#options.directory, name), rate };
    const program = join(import.meta.dirname, `${role}.js`);
    const actor = new Actor(name, [program, JSON.stringify(orders)]);
    this.#actors.push(actor);
    await actor.said(/^ready$/);
    return actor;
  }

  /** Resets all connections of one process to one service. */
  #cut(): void {
    const slot = pick(this.#slots);
    if (slot.proxies.length === 0) return;
    this.#counts.cuts++;
    this.#disturbances.push({ worker: slot.actor.name, atMs: nowMs() });
    pick(slot.proxies).cut();
  }

  /** One worker goes, in order or killed, and another comes. */
  async #restart(): Promise<void> {
    const slot = pick(this.#slots.filter(({ role }) => role === 'worker').slice(1));
    const isKilled = this.#counts.restarts++ % 2 === 1;
    if (isKilled) this.#disturbances.push({ worker: slot.actor.name, atMs: nowMs() });
    await slot.actor.end(isKilled ? 'SIGKILL' : 'SIGTERM');
    slot.actor = await this.#start(slot);
  }

  async #sample(): Promise<void> {
    const { backend, onSample } = this.#options;
    const status = await this.#client.queue(QUEUE).status();
    const named = [['server', backend.server.pid], ...this.#slots.map((slot, i) => [nameOf(slot, i), slot.actor.pid])];
    const usages = named.map(([name, pid]) => [name, usageOf(pid as number)]);
    const services = Object.entries(backend.servicePids()).map(([name, pids]) => [
      name,
      pids.reduce((sum, pid) => sum + (usageOf(pid)?.rssBytes ?? 0), 0),
    ]);
    const bytes = await Promise.all(backend.directories.map(bytesBelow));
    const sample: Sample = {
      seconds: Math.round((nowMs() - this.#beganMs) / 1000),
      processes: Object.fromEntries(usages.filter(([, usage]) => usage !== undefined)) as Record<string, Usage>,
      services: Object.fromEntries(services) as Record<string, number>,
      dataBytes: bytes.reduce((sum, each) => sum + each, 0),
      backlog: status.ready + status.active,
      completed: status.totals.completed,
    };
    this.#samples.push(sample);
    onSample(sample);
  }

  #checkAlive(): void {
    for (const actor of [this.#options.backend.server, ...this.#slots.map((slot) => slot.actor)]) {
      if (!actor.isAlive) throw new Error(`${actor.name} has ended: ${actor.complaints.join('\n')}`);
    }
  }

  #complaints(): string[] {
    const actors = [this.#options.backend.server, ...this.#actors];
    const said = actors.flatMap(({ name, complaints }) => complaints.map((line) => `${name}: ${line}`));
    return [...said, ...this.#viewer.failures];
  }

  async #openFilesWhenCalm(): Promise<number> {
    await sleep(CALM_MS);
    return usageOf(this.#options.backend.server.pid)?.openFiles ?? 0;
  }
}

/** A process that is replaced by others is seen as one. */
function nameOf({ role }: Slot, index: number): string {
  return role === 'worker' ? `worker ${index + 1}` : `producer ${index - WORKERS + 1}`;
}

function pick<T>(values: readonly T[]): T {
  return values[Math.floor(Math.random() * values.length)] as T;
}
