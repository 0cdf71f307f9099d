import type { DiskOperation } from '../twins/memory-disk.ts';
import type { Machine } from './process.ts';
import type { SimProgram } from './program.ts';
import { SimRandom } from './random.ts';
import type { World } from './world.ts';

/** How often in a simulated minute each thing goes wrong, on the average. */
export const FAULTS = {
  'server-killed': 1,
  'server-loses-power': 1.5,
  'server-killed-writing': 1,
  'server-loses-power-writing': 2,
  'server-loses-power-young': 0.7,
  'server-stops': 0.5,
  'server-stalls': 1,
  'client-killed': 0.7,
  'client-stops': 0.5,
  'client-stalls': 0.5,
  'worker-killed': 1.5,
  'worker-loses-power': 0.7,
  'worker-stops': 0.7,
  'worker-stalls': 1,
  'worker-stalls-busy': 3,
  'network-cut': 1,
  'network-one-way': 1,
  'connection-reset': 2,
  'network-slow': 0.5,
  'disk-slow': 1,
  'disk-error': 0.7,
  'disk-full': 0.5,
  'clock-jumps': 0.5,
} as const;
export type Fault = keyof typeof FAULTS;

const MINUTE = 60_000;

/** Makes things go wrong, each kind at its own times: to leave one out moves none of the others. */
export class Nemesis {
  readonly #world: World;
  readonly #programs: { clients: readonly SimProgram[]; workers: readonly SimProgram[] };
  readonly #heals = new Set<() => void>();
  readonly counts = new Map<Fault, number>();

  constructor(world: World, programs: { clients: readonly SimProgram[]; workers: readonly SimProgram[] }) {
    this.#world = world;
    this.#programs = programs;
  }

  begin(seed: string, without: ReadonlySet<string>, rate: number): void {
    for (const [fault, perMinute] of Object.entries(FAULTS) as [Fault, number][]) {
      if (without.has(fault) || without.has('*')) continue;
      const random = new SimRandom(`${seed}/${fault}`);
      const again = (): void => {
        this.#world.scheduler.schedule(random.exponential(MINUTE / (perMinute * rate)), undefined, 'fault', () => {
          if (this.#world.calm) return;
          this.#strike(fault, random);
          again();
        });
      };
      again();
    }
  }

  /** Everything is well again. */
  end(): void {
    for (const heal of [...this.#heals]) heal();
    this.#world.disk.heal();
    this.#world.disk.duringNextWrite(() => {});
    this.#world.opened = () => {};
    this.#world.net.latencyMeanMs = this.#world.options.latencyMeanMs;
  }

  #strike(fault: Fault, random: SimRandom): void {
    const { scheduler, disk, net } = this.#world;
    const world = this.#world;
    const client = random.pick(this.#programs.clients);
    const worker = random.pick(this.#programs.workers);
    scheduler.note(`fault ${fault}`);
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
    switch (fault) {
      case 'server-killed':
        world.endServer(false);
        break;
      case 'server-loses-power':
        // Only `always` promises anything about that.
        world.endServer(world.options.fsync === 'always');
        break;
      case 'server-killed-writing':
        disk.duringNextWrite(() => world.endServer(false));
        break;
      case 'server-loses-power-writing':
        disk.duringNextWrite(() => world.endServer(world.options.fsync === 'always'));
        break;
      case 'server-loses-power-young':
        this.#dieYoung(random);
        break;
      case 'server-stops':
        world.stopServer(random.pick([0, 500, 5000]));
        break;
      case 'server-stalls':
        stall(world.serverProcess, scheduler.nowMs + random.magnitude(10, 30_000));
        break;
      case 'client-killed':
        client.end(random.chance(0.3));
        break;
      case 'client-stops':
        client.stop(random.pick([0, 200, 10_000]));
        break;
      case 'client-stalls':
        stall(client.process, scheduler.nowMs + random.magnitude(10, 60_000));
        break;
      case 'worker-killed':
        worker.end(false);
        break;
      case 'worker-loses-power':
        worker.end(true);
        break;
      case 'worker-stops':
        worker.stop(random.pick([0, 200, 10_000]));
        break;
      case 'worker-stalls':
        stall(worker.process, scheduler.nowMs + random.magnitude(100, 60_000));
        break;
      case 'worker-stalls-busy':
        worker.stallsWhenBusyMs = random.magnitude(1000, 30_000);
        break;
      case 'network-cut':
        this.#cut(random.pick([client, worker]).machine, random, true);
        break;
      case 'network-one-way':
        this.#cut(random.pick([client, worker]).machine, random, false);
        break;
      case 'connection-reset':
        net.reset(random.int(0, 1000));
        break;
      case 'network-slow':
        net.latencyMeanMs = random.magnitude(50, 2000);
        this.#healAfter(random.magnitude(1000, 30_000), () => {
          net.latencyMeanMs = world.options.latencyMeanMs;
        });
        break;
      case 'disk-slow':
        disk.slowShare = random.pick([0.1, 1]);
        disk.slowMeanMs = random.magnitude(50, 3000);
        this.#healAfter(random.magnitude(500, 20_000), () => disk.heal());
        break;
      case 'disk-error':
        world.expectTrouble();
        disk.failOnce(this.#failing(random), 'EIO');
        break;
      case 'disk-full':
        world.expectTrouble();
        disk.memory.capacityBytes = disk.memory.usedBytes + random.int(0, 100_000);
        this.#healAfter(random.magnitude(500, 20_000), () => disk.heal());
        break;
      case 'clock-jumps': {
        const machine = random.pick(world.machines);
        if (machine === world.serverMachine) world.serverClockSetMs = scheduler.nowMs;
        machine.wallOffsetMs += Math.round(random.magnitude(100, 1_200_000)) * random.pick([-1, 1]);
        break;
      }
      default:
        fault satisfies never;
    }
  }

  /** What was not synced is lost with a sync that fails, as it is with the power: where that may be, neither happens. */
  #failing(random: SimRandom): DiskOperation {
    const operation = random.pick([
      'write',
      'write',
      'sync',
      'syncDirectory',
      'rename',
      'read',
      'open',
      'create',
    ] as const);
    return operation === 'sync' && this.#world.options.fsync !== 'always' ? 'write' : operation;
  }

  /** The next server finds a slow disk, and loses its power soon after it has begun. */
  #dieYoung(random: SimRandom): void {
    const world = this.#world;
    const { disk, scheduler } = world;
    // Soon back, so that its clients are, too.
    world.endServer(false, 50);
    disk.slowShare = 1;
    disk.slowMeanMs = random.magnitude(50, 2000);
    // Those of its start, so that it does begin.
    disk.quickWrites = random.int(0, 3);
    const livesMs = random.exponential(disk.slowMeanMs);
    world.opened = () => {
      world.opened = () => {};
      scheduler.schedule(livesMs, undefined, 'young death', () => {
        disk.heal();
        if (!world.calm) world.endServer(world.options.fsync === 'always');
      });
    };
  }

  #cut(machine: Machine, random: SimRandom, bothWays: boolean): void {
    const { net, serverMachine } = this.#world;
    const outwards = bothWays || random.chance(0.5);
    const inwards = bothWays || !outwards;
    if (outwards) net.cut(machine, serverMachine);
    if (inwards) net.cut(serverMachine, machine);
    this.#healAfter(random.magnitude(100, 120_000), () => {
      if (outwards) net.heal(machine, serverMachine);
      if (inwards) net.heal(serverMachine, machine);
    });
  }

  #healAfter(delayMs: number, heal: () => void): void {
    const once = (): void => {
      if (!this.#heals.delete(once)) return;
      this.#world.scheduler.note('healed');
      heal();
    };
    this.#heals.add(once);
    this.#world.scheduler.schedule(delayMs, undefined, 'heal', once);
  }
}

function stall(process: { stalledUntilMs: number } | undefined, untilMs: number): void {
  if (process !== undefined) process.stalledUntilMs = Math.max(process.stalledUntilMs, untilMs);
}
