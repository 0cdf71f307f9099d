import { RemoteBroker } from '../../src/broker/tcp/remote-broker.ts';
import { Client } from '../../src/client/client.ts';
import { MillraceError } from '../../src/errors.ts';
import { DEFAULTS } from '../../src/limits.ts';
import { type Machine, SimProcess } from './process.ts';
import type { SimRandom } from './random.ts';
import { Violation } from './scheduler.ts';
import { PORT, type World } from './world.ts';

/** A promise of the product that somebody waits for. */
interface Awaited {
  readonly what: string;
  readonly process: SimProcess;
  readonly settlesByMs: number;
}

/** What calls may take longer than their timeouts: event loops that were blocked, timers that were late. */
const LATE_MS = 5000;

/** Every promise that the product gave and has not kept yet. */
export class Promises {
  readonly #world: World;
  readonly #open = new Set<Awaited>();
  settled = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Passes the promise through; it must settle within `timeoutMs` of the process's own time. */
  watch<T>(what: string, process: SimProcess, timeoutMs: number, promise: Promise<T>): Promise<T> {
    const awaited = { what, process, settlesByMs: this.#world.scheduler.nowMs + timeoutMs + LATE_MS };
    this.#open.add(awaited);
    const done = (): void => {
      this.#open.delete(awaited);
      this.settled++;
    };
    promise.then(done, done);
    return promise;
  }

  check(): void {
    const { nowMs } = this.#world.scheduler;
    for (const awaited of this.#open) {
      const { process, what } = awaited;
      if (!process.alive) this.#open.delete(awaited);
      else if (nowMs > Math.max(awaited.settlesByMs, process.stalledUntilMs + LATE_MS)) {
        throw new Violation(
          'promise-unsettled',
          `${process.name}: ${what} has not settled, ${nowMs - awaited.settlesByMs} ms late`,
        );
      }
    }
  }

  get openCount(): number {
    let count = 0;
    for (const { process } of this.#open) if (process.alive) count++;
    return count;
  }
}

/** A program on a machine of its own, with a client in it: it runs, ends in one way or another, and returns. */
export abstract class SimProgram {
  readonly name: string;
  readonly machine: Machine;
  readonly world: World;
  readonly random: SimRandom;
  readonly promises: Promises;
  process: SimProcess | undefined;
  client: Client | undefined;
  lives = 0;
  #stopping = false;
  /** Its event loop is blocked for so long the next time that it has begun with something; 0 for not at all. */
  stallsWhenBusyMs = 0;
  /** Set when the run is over: it does not return. */
  retired = false;

  constructor(name: string, world: World, promises: Promises) {
    this.name = name;
    this.world = world;
    this.promises = promises;
    this.machine = world.machine(name);
    this.random = world.random.fork(name);
  }

  start(): void {
    if (this.process !== undefined || this.retired) return;
    const { scheduler } = this.world;
    const process = new SimProcess(
      `${this.name}.${++this.lives}`,
      this.machine,
      scheduler,
      this.random.fork(`life ${this.lives}`),
    );
    this.machine.up = true;
    this.process = process;
    this.#stopping = false;
    scheduler.schedule(0, process, 'program starts', () => {
      scheduler.note(`${process.name} starts`);
      this.#connect(process);
    });
  }

  #connect(process: SimProcess): void {
    const net = this.world.net.of(process);
    const { connectTimeoutMs, enqueueTimeoutMs, callTimeoutMs, reconnect } = DEFAULTS;
    const connected = RemoteBroker.connect({
      url: `tcp://server:${PORT}`,
      dial: () => net.connect({ host: 'server', port: PORT }, connectTimeoutMs),
      lifelines: true,
      clock: process.clock,
      random: process.random,
      reconnect,
      connectTimeoutMs,
      enqueueTimeoutMs,
      callTimeoutMs,
      identity: {
        client: process.name,
        host: this.machine.name,
        pid: this.lives,
        version: 'sim',
        producer: process.random.hex(16),
      },
    });
    // An attempt that was begun in time may take its own time.
    this.promises.watch('connect', process, connectTimeoutMs * 2 + 5000, connected).then(
      (broker) => {
        this.client = new Client(broker, { clock: process.clock, workerName: this.name });
        this.begin(process, this.client);
      },
      (error: unknown) => {
        this.allow('connect', error, ['DISCONNECTED']);
        this.end(false);
      },
    );
  }

  /** Does what the program is for. */
  protected abstract begin(process: SimProcess, client: Client): void;

  /** A failure that is none of the codes is a defect. */
  allow(what: string, error: unknown, codes: readonly string[]): void {
    if (error instanceof MillraceError && codes.includes(error.code)) return;
    const code = error instanceof MillraceError ? error.code : 'no code';
    throw new Violation('unexpected-error', `${this.name}: ${what} rejected with ${code}: ${String(error)}`, {
      cause: error,
    });
  }

  /** Gone at once. */
  end(powerLost: boolean): void {
    const { process } = this;
    if (process === undefined) return;
    const { scheduler, net } = this.world;
    scheduler.note(`${process.name} ends${powerLost ? ' with the power' : ''}`);
    process.alive = false;
    this.process = undefined;
    this.client = undefined;
    if (powerLost) this.machine.up = false;
    net.abandon(process, powerLost);
    if (this.retired) return;
    const downMs = this.world.calm ? 50 : this.random.magnitude(10, 20_000);
    scheduler.schedule(downMs, undefined, 'program returns', () => this.start());
  }

  /** In order: the client is closed first. */
  stop(timeoutMs: number): void {
    const { process, client } = this;
    if (process === undefined || client === undefined || this.#stopping) return;
    this.#stopping = true;
    this.world.scheduler.schedule(0, process, 'program stops', () => {
      this.world.scheduler.note(`${process.name} stops within ${timeoutMs} ms`);
      // Each worker may wait for the answer to UNSUBSCRIBE and to its settlements, and the broker for its enqueues.
      const boundMs = timeoutMs * 2 + DEFAULTS.callTimeoutMs + 10_000;
      void this.promises
        .watch('close', process, boundMs, client.close({ timeoutMs }))
        .then(() => this.closed(process))
        .then(() => this.end(false));
    });
  }

  /** Its client is closed, and it is about to end. */
  protected async closed(_process: SimProcess): Promise<void> {}

  get stopping(): boolean {
    return this.#stopping;
  }
}
