import type { Core } from '../../src/core/core.ts';
import { PARENT_END, type RelationsOf } from '../../src/core/relations.ts';
import { FLAG_WALL, NONE, STATE_NAMES, State } from '../../src/core/task-table.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { formatTaskId } from '../../src/ids.ts';
import { LIMITS } from '../../src/limits.ts';
import { check, nameOf } from './checkers.ts';
import type { CrashDraw } from './disk.ts';
import { Nemesis } from './nemesis.ts';
import { Promises, type SimProgram } from './program.ts';
import { SimRandom } from './random.ts';
import { Violation } from './scheduler.ts';
import { WatcherProgram } from './watcher.ts';
import { ClientProgram, WorkerProgram } from './workload.ts';
import { drawWorld, World } from './world.ts';

export interface SimulationOptions {
  readonly seed: number;
  /** Events under faults; what follows until everything is drained comes on top. */
  readonly steps: number;
  /** Faults, actions and behaviours that are left out, and `clients=1`, `workers=1`. */
  readonly without?: readonly string[];
  /** The power goes at these writes of the disk, by their number; needs `fsync` always. */
  readonly crash?: CrashPoint;
}

export interface CrashPoint extends CrashDraw {
  readonly writes: readonly number[];
  /** 0 before, 1 after, between them during the write. */
  readonly phase: number;
}

export interface SimulationResult {
  readonly seed: number;
  readonly violation: Violation | undefined;
  readonly steps: number;
  readonly simulatedMs: number;
  readonly fingerprint: string;
  readonly lastLines: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
}

const CHECK_STEPS = 500;
/**
 * Simulated time within which everything that was acknowledged must have ended once nothing goes wrong any more. Delays
 * become longer when a wall clock is set back before a server starts anew.
 */
const DRAIN_MS = 4 * 3_600_000;
const DRAIN_STEPS_MAX = 400_000;
/** Given to a timer of the engine that runs once a second. */
const OVERDUE_MS = 5000;

/** One world from its first event to its last: chaos, calm, a last restart. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { stackTraceLimit } = Error;
  // Stacks of handlers' errors travel: without them a run does not depend on where the code lies.
  Error.stackTraceLimit = 0;
  try {
    return await new Simulation(options).run();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #world: World;
  readonly #promises: Promises;
  readonly #clients: ClientProgram[];
  readonly #workers: WorkerProgram[];
  readonly #watchers: WatcherProgram[];
  readonly #nemesis: Nemesis;
  #nextCheck = CHECK_STEPS;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const without = new Set(options.without ?? []);
    const random = new SimRandom(options.seed);
    const drawn = drawWorld(random.fork('world'));
    const clients = without.has('clients=1') ? 1 : drawn.clients;
    const workers = without.has('workers=1') ? 1 : drawn.workers;
    const watchers = without.has('watching') ? 0 : drawn.watchers;
    const { crash } = options;
    const fsync = crash === undefined ? drawn.fsync : 'always';
    const world = new World(random, { ...drawn, fsync, clients, workers, watchers }, crash);
    if (crash !== undefined) world.disk.duringWrites(crash.writes, crash.phase, () => world.endServer(true));
    this.#world = world;
    this.#promises = new Promises(world);
    this.#clients = Array.from(
      { length: clients },
      (_, i) => new ClientProgram(`client${i}`, world, this.#promises, without),
    );
    this.#workers = Array.from({ length: workers }, (_, i) => new WorkerProgram(`worker${i}`, world, this.#promises));
    this.#watchers = Array.from(
      { length: watchers },
      (_, i) => new WatcherProgram(`watcher${i}`, world, this.#promises),
    );
    this.#nemesis = new Nemesis(world, { clients: [...this.#clients, ...this.#watchers], workers: this.#workers });
    this.#nemesis.begin(String(options.seed), without, random.fork('rate').magnitude(0.3, 5));
  }

  get #programs(): SimProgram[] {
    return [...this.#clients, ...this.#workers, ...this.#watchers];
  }

  async run(): Promise<SimulationResult> {
    const { scheduler } = this.#world;
    scheduler.note(`world ${JSON.stringify(this.#world.options)}`);
    this.#world.startServer();
    for (const program of this.#programs) program.start();
    await this.#until(() => scheduler.steps >= this.#options.steps);
    await this.#drain();
    await this.#restartOnce();
    return {
      seed: this.#options.seed,
      violation: scheduler.violation,
      steps: scheduler.steps,
      simulatedMs: scheduler.nowMs,
      fingerprint: scheduler.fingerprint,
      lastLines: scheduler.lastLines(60),
      counts: this.#counts(),
    };
  }

  #counts(): Record<string, number> {
    const { checkers, model, serverLives, disk } = this.#world;
    const faults = Object.fromEntries([...this.#nemesis.counts].map(([fault, count]) => [`fault ${fault}`, count]));
    return {
      ...checkers.counts,
      fired: checkers.schedules.fired,
      eventStreams: checkers.events.counts.streams,
      eventsTold: checkers.events.counts.told,
      eventGaps: checkers.events.counts.gaps,
      eventsDropped: checkers.events.counts.dropped,
      tasks: model.tasks.size,
      serverLives,
      diskOperations: disk.operations,
      diskWrites: disk.writes,
      ...(this.#options.crash === undefined ? {} : { firstCrashOutcomes: disk.firstCrashOutcomes ?? 0 }),
      promises: this.#promises.settled,
      ...faults,
    };
  }

  async #until(isOver: () => boolean): Promise<void> {
    const { scheduler } = this.#world;
    await scheduler.run(() => {
      if (scheduler.steps >= this.#nextCheck) {
        this.#nextCheck = scheduler.steps + CHECK_STEPS;
        this.#guarded(() => this.#checkNow());
      }
      return isOver();
    });
  }

  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#world.scheduler.violate(error);
    }
  }

  // ── After the faults ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Nothing goes wrong any more, so everything that was acknowledged must end. */
  async #drain(): Promise<void> {
    const { scheduler } = this.#world;
    if (scheduler.violation !== undefined) return;
    scheduler.note('calm');
    this.#world.calm = true;
    this.#nemesis.end();
    for (const program of this.#programs) program.stallsWhenBusyMs = 0;
    const limits = { ms: scheduler.nowMs + DRAIN_MS, steps: scheduler.steps + DRAIN_STEPS_MAX };
    let nextLookMs = 0;
    let done = false;
    await this.#until(() => {
      if (scheduler.nowMs >= nextLookMs) {
        nextLookMs = scheduler.nowMs + 500;
        this.#resumeQueues();
        done = this.#isDrained();
      }
      return done || scheduler.nowMs > limits.ms || scheduler.steps > limits.steps;
    });
    if (scheduler.violation === undefined && !done) this.#guarded(() => this.#tellWhatIsLeft());
  }

  #resumeQueues(): void {
    const engine = this.#world.server?.host.engine;
    if (engine === undefined || engine.stopping) return;
    // As an administrator would who finds them paused.
    for (const queue of engine.core.queues.values()) if (queue.paused) engine.commands.resumeQueue(queue.name);
    // Or who wants to see the end of it.
    for (const { name } of this.#world.schedules) this.#endSchedule(engine, name);
  }

  #endSchedule(engine: Engine, name: string): void {
    const call = {};
    this.#world.endedSchedules.add(name);
    this.#world.checkers.schedules.asked(call, 'schedule.remove', name);
    engine.scheduler.remove(name);
    this.#world.checkers.schedules.forget(call);
  }

  #isDrained(): boolean {
    const { server, model } = this.#world;
    if (server === undefined || server.host.engine.stopping || this.#promises.openCount > 0) return false;
    const { core } = server.host.engine;
    for (const task of model.tasks.values()) {
      const slot = core.index.get(task.id);
      if (slot !== NONE && core.table.state(slot) < State.COMPLETED && !waitsForRedrive(core, task.id)) return false;
    }
    for (const queue of core.queues.values()) if (queue.ready + queue.active + queue.scheduled > 0) return false;
    return this.#world.events.behind === undefined;
  }

  #tellWhatIsLeft(): void {
    const { server, model, serverIsIn } = this.#world;
    this.#promises.check();
    if (server === undefined) throw new Violation('not-drained', `the server is ${serverIsIn}`);
    const { behind } = this.#world.events;
    const { core } = server.host.engine;
    const left: string[] = [];
    for (const task of model.tasks.values()) {
      const slot = core.index.get(task.id);
      if (slot === NONE || core.table.state(slot) >= State.COMPLETED || waitsForRedrive(core, task.id)) continue;
      left.push(`${nameOf(task)} ${STATE_NAMES[core.table.state(slot)]}, held by ${task.holder?.name ?? 'nobody'}`);
    }
    const queues = [...core.queues.values()].map(({ name, ready, active, paused, marked, workers }) => {
      const who = workers.map(
        ({ held, prefetch, paused: stops }) => `${held} of ${prefetch}${stops ? ', stopping' : ''}`,
      );
      return `${name}: ${ready} ready, ${active} active${paused ? ', paused' : ''}${marked ? ', marked' : ''} [${who.join(' | ')}]`;
    });
    if (left.length === 0 && behind !== undefined) throw new Violation('events-behind', behind);
    const what = `${left.length} tasks have not ended: ${left.slice(0, 5).join('; ')}; queues ${queues.join('; ')}`;
    throw new Violation('not-drained', what);
  }

  /** Everything is closed in order, and what is on disk then is what was said. */
  async #restartOnce(): Promise<void> {
    const { scheduler } = this.#world;
    if (scheduler.violation !== undefined) return;
    const { server } = this.#world;
    this.#guarded(() => {
      this.#checkNow();
      checkEnds(this.#world);
      if (server !== undefined) this.#world.events.checkEnds(server.host.engine);
    });
    for (const program of this.#programs) program.retired = true;
    const running = (): string[] => this.#programs.flatMap(({ process }) => process?.name ?? []);
    await this.#untilOrLate(
      () => {
        // One that is only connecting is stopped once it has.
        for (const program of this.#programs) program.stop(5000);
        return running().length === 0;
      },
      () => `still there: ${running().join(', ')}`,
    );
    const lives = this.#world.serverLives;
    if (server !== undefined) this.#world.stopServer(5000);
    await this.#untilOrLate(
      () => this.#world.serverLives > lives && this.#world.serverIsIn === 'running',
      () => `the server is ${this.#world.serverIsIn}`,
    );
    if (scheduler.violation === undefined) this.#guarded(() => checkEnds(this.#world));
  }

  async #untilOrLate(isDone: () => boolean, what: () => string): Promise<void> {
    const { scheduler } = this.#world;
    const endMs = scheduler.nowMs + 120_000;
    await this.#until(() => isDone() || scheduler.nowMs > endMs);
    if (!isDone() && scheduler.violation === undefined) scheduler.violate(new Violation('not-stopped', what()));
  }

  // ── Looking inside ────────────────────────────────────────────────────────────────────────────────────────────────

  #checkNow(): void {
    this.#promises.check();
    const engine = this.#world.server?.host.engine;
    if (engine === undefined || this.#world.serverIsIn !== 'running') return;
    checkCounters(engine);
    checkTimers(this.#world, engine);
    this.#world.checkers.schedules.check(engine);
    const { scheduler, serverProcess, checkers } = this.#world;
    const stalled = (serverProcess?.stalledUntilMs ?? 0) + 1000 > scheduler.nowMs;
    checkers.checkWaiters(engine, stalled || engine.journal.unwrittenBytes > 0);
    checkLimits(this.#world, engine);
  }
}

/** What queues say of themselves is what is there. */
function checkCounters(engine: Engine): void {
  const { core } = engine;
  const counted = new Map<string, number[]>();
  core.index.scan(0, (_id, slot) => {
    const { queue } = core.kindOf(slot);
    const counts = counted.get(queue.name) ?? new Array(STATE_NAMES.length).fill(0);
    const state = core.table.state(slot);
    counts[state]++;
    counted.set(queue.name, counts);
    return true;
  });
  for (const queue of core.queues.values()) {
    const counts = counted.get(queue.name) ?? new Array(STATE_NAMES.length).fill(0);
    const said = {
      ready: queue.ready,
      active: queue.active,
      scheduled: queue.scheduled,
      blocked: queue.blocked,
      completed: queue.endedCount.finished - queue.cancelledKept,
      dead: queue.endedCount.dead,
      cancelled: queue.cancelledKept,
    };
    for (const [name, count] of Object.entries(said)) {
      const real = counts[STATE_NAMES.indexOf(name as (typeof STATE_NAMES)[number])];
      check(count === real, 'counter', `queue ${queue.name} says ${count} ${name}, there are ${real}`);
    }
  }
  let held = 0;
  for (const worker of core.assignments.workers.values()) {
    held += worker.held;
    // One that comes back keeps what it had settled without an answer, too.
    check(
      worker.held <= worker.prefetch + LIMITS.unansweredTasksMax,
      'over-prefetch',
      `a worker holds ${worker.held} of ${worker.prefetch}`,
    );
  }
  let active = 0;
  for (const queue of core.queues.values()) active += queue.active;
  check(held + core.assignments.asideCount === active, 'counter', `workers hold ${held} tasks, ${active} are active`);
}

/** What is due has become ready, soon after the server was free to do it. */
function checkTimers(world: World, engine: Engine): void {
  const { core, clock } = engine;
  const { nowMs } = world.scheduler;
  const stalledMs = (world.serverProcess?.stalledUntilMs ?? 0) - nowMs;
  const freeMs = Math.max(
    engine.startedAtMs,
    clock.steadyMs() - (nowMs - world.serverClockSetMs),
    clock.steadyMs() + stalledMs,
  );
  world.checkers.schedules.checkDue(engine, clock.steadyMs() - freeMs);
  core.index.scan(0, (id, slot) => {
    if (core.table.state(slot) !== State.SCHEDULED) return true;
    const isWall = core.table.hasFlag(slot, FLAG_WALL);
    const lateMs = (isWall ? clock.wallMs() : clock.steadyMs()) - core.dueMs(slot);
    // One that waited for others may have been due for long when they ended.
    const isUnblocked = (core.relations.of(id)?.edges.length ?? 0) > 0;
    const scheduledMs = isUnblocked ? world.seenDueMs(id, lateMs > 0, clock.steadyMs()) : core.table.enqueuedAtMs(slot);
    const sinceMs = clock.steadyMs() - Math.max(freeMs, scheduledMs);
    check(Math.min(lateMs, sinceMs) < OVERDUE_MS, 'delay-late', `task ${formatTaskId(id)} was due ${lateMs} ms ago`);
    return true;
  });
}

/** Nothing grows beyond what is live and what the limits say. */
function checkLimits(world: World, engine: Engine): void {
  const { cachedBytes, unwrittenBytes, segments } = engine.journal.stats();
  const { cacheBytes, segmentBytes } = world.options;
  check(cachedBytes <= cacheBytes + 4 * segmentBytes, 'cache-limit', `${cachedBytes} bytes are cached`);
  check(unwrittenBytes <= LIMITS.unconfirmedBytesMax * 2, 'buffer-limit', `${unwrittenBytes} bytes are not written`);
  const files = world.disk.memory.names('/memory/data').length;
  check(files <= segments + LIMITS.spareSegmentsMax + 8, 'disk-limit', `${files} files for ${segments} segments`);
}

/** Somebody has to redrive what it depends on, or what that depends on. */
function waitsForRedrive(core: Core, id: number): boolean {
  if (core.table.state(core.index.get(id)) !== State.BLOCKED) return false;
  const { edges, ends } = core.relations.of(id) as RelationsOf;
  return edges.some((edge, index) => {
    const slot = core.index.get(edge.id);
    return ends[index] === PARENT_END.open && slot !== NONE && RESTING.includes(core.table.state(slot));
  });
}

const RESTING: readonly State[] = [State.DEAD, State.BLOCKED];

/** Everything that was acknowledged is there and has ended, and the totals say so. */
function checkEnds(world: World): void {
  const { server, model, checkers } = world;
  for (const { name, totals, ready, scheduled, finished, dead } of server?.host.engine.core.queues.values() ?? []) {
    const kept = `${ready} ready, ${scheduled} scheduled, ${finished.count} finished, ${dead.count} dead`;
    world.scheduler.note(`totals of ${name}: ${JSON.stringify(totals)}, ${kept}`);
  }
  if (server === undefined) throw new Violation('not-drained', 'there is no server');
  const { core } = server.host.engine;
  for (const task of model.tasks.values()) {
    const slot = core.index.get(task.id);
    if (slot === NONE) {
      const excused = task.vanished || !task.confirmed || task.mayBePurged || checkers.forgets;
      check(excused, 'ack-lost', `${nameOf(task)} was confirmed and is not there at the end`);
      continue;
    }
    const state = STATE_NAMES[core.table.state(slot)];
    check(task.end === undefined || state === task.end, 'end-forgotten', `${nameOf(task)}: ${task.end}, now ${state}`);
  }
  if (checkers.forgets) return;
  for (const queue of core.queues.values()) {
    const { totals } = queue;
    const { finished, dead } = queue.endedCount;
    const kept = finished + dead;
    // A client that was cut off may have sent what it had kept only now.
    const waiting = queue.ready + queue.active + queue.scheduled + queue.blocked;
    const done = totals.completed + totals.cancelled + dead + waiting;
    check(
      totals.enqueued === done,
      'totals',
      `queue ${queue.name}: ${done} there or ended of ${JSON.stringify(totals)}`,
    );
    check(kept <= totals.enqueued, 'totals', `queue ${queue.name} keeps ${kept} of ${totals.enqueued}`);
    check(totals.dead >= dead, 'totals', `queue ${queue.name}: ${totals.dead} dead, ${dead} kept`);
  }
}
