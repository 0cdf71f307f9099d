import { MillraceError } from '../../src/errors.ts';
import type { FsyncPolicy } from '../../src/journal/journal.ts';
import { DEFAULTS, LIMITS } from '../../src/limits.ts';
import { Server } from '../../src/server/server.ts';
import { Checkers } from './checkers.ts';
import { type CrashDraw, SimDisk } from './disk.ts';
import { EventChecker } from './events.ts';
import { Model } from './model.ts';
import { SimNet } from './net.ts';
import { Machine, SimProcess } from './process.ts';
import type { SimRandom } from './random.ts';
import { Scheduler, Violation } from './scheduler.ts';
import { type PlannedSchedule, planSchedules, ScheduleChecker } from './schedules.ts';
import { ServerTap } from './tap.ts';

export const PORT = 5555;
const DIRECTORY = '/memory/data';

/** What a seed decides before anything happens. */
export interface WorldOptions {
  readonly fsync: FsyncPolicy;
  readonly segmentBytes: number;
  readonly cacheBytes: number;
  /** Finished tasks are forgotten soon. */
  readonly forgets: boolean;
  readonly clients: number;
  readonly workers: number;
  /** Between two actions of a client. */
  readonly pauseMeanMs: number;
  readonly latencyMeanMs: number;
  /** Programs that watch events; without them no server does more than look at one flag. */
  readonly watchers: number;
  /** Handlers tell so much of their progress that slow watchers miss some of it. */
  readonly chatty: boolean;
}

export function drawWorld(random: SimRandom): WorldOptions {
  const watching = random.fork('watching');
  const watchers = watching.pick([0, 1, 2]);
  return {
    watchers,
    chatty: watchers > 0 && watching.chance(0.3),
    fsync: random.weighted({ always: 8, interval: 1, never: 1 }),
    segmentBytes: random.pick([16, 32, 64, 256]) * 1024,
    cacheBytes: random.pick([64, 256, 2048]) * 1024,
    forgets: random.chance(0.3),
    clients: random.int(1, 3),
    workers: random.int(1, 4),
    pauseMeanMs: random.magnitude(5, 300),
    latencyMeanMs: random.magnitude(0.05, 20),
  };
}

/** The machines, the network between them, and the one server with its disk. */
export class World {
  readonly options: WorldOptions;
  readonly scheduler = new Scheduler();
  readonly random: SimRandom;
  readonly net: SimNet;
  readonly disk: SimDisk;
  readonly model = new Model();
  readonly checkers: Checkers;
  readonly schedules: readonly PlannedSchedule[];
  /** Schedules that somebody has begun to end: nobody makes them again. */
  readonly endedSchedules = new Set<string>();
  readonly serverMachine = new Machine('server');
  readonly machines: Machine[] = [this.serverMachine];
  /** No more faults: whatever is wrong from here on is the product's. */
  calm = false;
  /** When its wall clock was last set. */
  serverClockSetMs = 0;
  serverLives = 0;
  serverProcess: SimProcess | undefined;
  server: Server | undefined;
  #starting = false;
  #stopping = false;

  constructor(random: SimRandom, options: WorldOptions, crash: CrashDraw = { draw: 0 }) {
    this.random = random;
    this.options = options;
    this.net = new SimNet(this.scheduler, random.fork('net'));
    this.net.latencyMeanMs = options.latencyMeanMs;
    this.net.serverMachine = this.serverMachine;
    this.disk = new SimDisk(this.scheduler, random.fork('disk'), crash);
    this.schedules = planSchedules(random.fork('schedules'));
    const schedules = new ScheduleChecker(this.schedules);
    const { forgets } = options;
    const events = new EventChecker(this.model, forgets);
    this.checkers = new Checkers(this.model, this.scheduler, { forgets, schedules, events });
    this.checkers.steadyMs = () => this.server?.host.engine.clock.steadyMs() ?? 0;
    this.scheduler.afterEvent = () => {
      if (this.serverProcess !== undefined) {
        const { checkers, serverProcess } = this;
        checkers.wallMaxMs = Math.max(checkers.wallMaxMs, serverProcess.clock.wallMs());
        checkers.steadyMaxMs = Math.max(checkers.steadyMaxMs, serverProcess.clock.steadyMs());
      }
      this.checkers.afterEvent();
    };
    this.net.accepted = (link) => {
      const { server } = this;
      if (server !== undefined) link.tap = new ServerTap(this.checkers, server.host.engine, link.remote);
    };
  }

  machine(name: string): Machine {
    const machine = new Machine(name);
    this.machines.push(machine);
    return machine;
  }

  get events(): EventChecker {
    return this.checkers.events;
  }

  // ── The server ────────────────────────────────────────────────────────────────────────────────────────────────────

  get serverIsIn(): 'no process' | 'starting' | 'running' | 'stopping' {
    if (this.serverProcess === undefined) return 'no process';
    if (this.#stopping) return 'stopping';
    return this.#starting ? 'starting' : 'running';
  }

  /** Tasks that have not ended, as far as there is a server. */
  readonly #seenDue = new Map<number, number>();

  /** When a task was first seen to be due, by the server's steady clock. */
  seenDueMs(id: number, isDue: boolean, nowMs: number): number {
    const sinceMs = isDue ? Math.min(this.#seenDue.get(id) ?? nowMs, nowMs) : nowMs;
    this.#seenDue.set(id, sinceMs);
    return sinceMs;
  }

  get waitingTasks(): number {
    let count = 0;
    for (const queue of this.server?.host.engine.core.queues.values() ?? []) {
      count += queue.ready + queue.active + queue.scheduled;
    }
    return count;
  }

  startServer(): void {
    if (this.serverProcess !== undefined) return;
    this.serverMachine.up = true;
    const life = ++this.serverLives;
    const process = new SimProcess(
      `server.${life}`,
      this.serverMachine,
      this.scheduler,
      this.random.fork(`server.${life}`),
    );
    this.serverProcess = process;
    this.#starting = true;
    this.#stopping = false;
    this.scheduler.schedule(0, process, 'server starts', () => {
      this.scheduler.note(`${process.name} starts`);
      this.#open(process).then(
        (server) => this.#opened(process, server),
        (error: unknown) => this.#notOpened(process, error),
      );
    });
  }

  #open(process: SimProcess): Promise<Server> {
    const { fsync, segmentBytes, cacheBytes, forgets } = this.options;
    const short = {
      completedCountMax: 5,
      completedAgeMs: 2000,
      deadCountMax: 5,
      deadAgeMs: DEFAULTS.retention.deadAgeMs,
    };
    return Server.start({
      directory: DIRECTORY,
      port: PORT,
      fsync,
      segmentBytes,
      cacheBytes,
      retention: forgets
        ? short
        : { ...DEFAULTS.retention, completedAgeMs: LIMITS.delayMsMax, deadAgeMs: LIMITS.delayMsMax },
      clock: process.clock,
      random: process.random,
      disk: this.disk.mount(process),
      net: this.net.of(process),
      usage: () => ({ pid: this.serverLives, rssBytes: 0, heapBytes: 0 }),
      onFailure: (error) => {
        this.scheduler.note(`${process.name} fails: ${error.code}`);
        this.#checkFailure(error);
        // As the program does: it ends, and somebody starts it again.
        const endsMs = this.random.fork(`end.${process.name}`).exponential(5);
        this.scheduler.schedule(endsMs, process, 'server exits', () => this.endServer(false));
      },
      onNotice: (level, message) => this.scheduler.note(`${process.name} ${level}: ${message}`),
    });
  }

  #checkFailure(error: MillraceError): void {
    if (error.code === 'JOURNAL_DAMAGED' || (this.calm && !this.#diskHadTrouble)) {
      throw new Violation('storage-failed', `${error.code}: ${error.message}`);
    }
  }

  #diskHadTrouble = false;

  /** Called each time that a server has begun. */
  opened: () => void = () => {};

  /** A fault of the disk may show later. */
  expectTrouble(): void {
    this.#diskHadTrouble = true;
  }

  #opened(process: SimProcess, server: Server): void {
    this.#starting = false;
    this.server = server;
    this.scheduler.note(
      `${process.name} runs, epoch ${server.host.report.epoch}, ${server.host.report.recordCount} records`,
    );
    for (const { name, totals } of server.host.engine.core.queues.values()) {
      this.scheduler.note(`totals of ${name}: ${JSON.stringify(totals)}`);
    }
    this.checkers.recovered(server.host.engine);
    if (this.options.watchers > 0) this.events.begin(server.host.engine);
    if (this.calm) this.#diskHadTrouble = false;
    this.opened();
  }

  #notOpened(process: SimProcess, error: unknown): void {
    const code = error instanceof MillraceError ? error.code : 'no code';
    this.scheduler.note(`${process.name} does not start: ${String(error)}`);
    const expected =
      ['JOURNAL_UNUSABLE', 'DISK_FULL', 'STORAGE_FAILED'].includes(code) && !(this.calm && !this.#diskHadTrouble);
    if (!expected) throw new Violation('start-refused', `${code}: ${String(error)}`, { cause: error });
    if (this.calm) this.#diskHadTrouble = false;
    this.endServer(false);
  }

  /** The process is gone at once, and is started again after a while. */
  endServer(powerLost: boolean, returnsAfterMs?: number): void {
    const process = this.serverProcess;
    if (process === undefined) return;
    this.scheduler.note(`${process.name} ends${powerLost ? ' with the power' : ''}`);
    process.alive = false;
    this.serverProcess = undefined;
    this.server = undefined;
    this.#starting = false;
    this.#stopping = false;
    if (powerLost) this.serverMachine.up = false;
    this.net.abandon(process, powerLost);
    this.model.serverEnded();
    // Only what is synced is promised to survive the power.
    this.disk.lose(powerLost);
    const drawnMs = this.random.fork(`down.${process.name}`).magnitude(10, 20_000);
    const downMs = this.calm ? 100 : (returnsAfterMs ?? drawnMs);
    this.scheduler.schedule(downMs, undefined, 'server returns', () => this.startServer());
  }

  /** In order, as for an update. */
  stopServer(timeoutMs: number): void {
    const { server, serverProcess: process } = this;
    if (server === undefined || process === undefined || this.#stopping) return;
    this.#stopping = true;
    this.scheduler.note(`${process.name} stops within ${timeoutMs} ms`);
    server.stop({ timeoutMs }).then(
      () => this.endServer(false),
      (error: unknown) => {
        this.scheduler.note(`${process.name} could not stop: ${String(error)}`);
        if (this.calm && !this.#diskHadTrouble) {
          throw new Violation('stop-failed', String(error), { cause: error });
        }
        this.endServer(false);
      },
    );
  }
}
