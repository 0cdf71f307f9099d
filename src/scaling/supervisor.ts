import type { ScalingDecision, ScalingReport, Status } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { type Clock, settlesWithin, type Timer } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import { decide, INITIAL_STATE, type Observation, type Policy, type ScalingState } from './decision.ts';
import { Observer } from './observer.ts';
import type { Ending, WorkerProcess } from './worker-process.ts';

export interface SupervisorOptions {
  readonly policy: Policy;
  /** How often it looks, and decides. */
  readonly intervalMs: number;
  /** How long a process may take until it takes tasks; one that takes longer is killed. */
  readonly startTimeoutMs: number;
  /** How long its processes may take to stop; those that take some seconds more are killed. */
  readonly stopTimeoutMs: number;
  /** Names begin with it: `NAME/1`. */
  readonly name: string;
  readonly id: string;
  readonly host: string;
  readonly pid: number;
}

/** What a supervisor needs of the world. */
export interface SupervisorWorld {
  readonly clock: Clock;
  readonly start: (name: string) => WorkerProcess;
  readonly status: () => Promise<Status>;
  readonly report: (report: ScalingReport) => Promise<void>;
  readonly logger: Record<'info' | 'warn', (details: object, message: string) => void>;
}

/** The processes fail as fast as they are started; what the last one said is the cause. */
export class WorkersFailed extends Error {
  override readonly name = 'WorkersFailed';
  readonly ending: Ending;

  constructor(message: string, ending: Ending) {
    super(message);
    this.ending = ending;
  }
}

interface Member {
  readonly process: WorkerProcess;
  state: 'starting' | 'working' | 'retiring';
  /** Steady time. */
  workingSinceMs: number;
}

/** One that has worked for so long has not failed because of how it was started. */
const STABLE_MS = 10_000;
/** So many in a row that did not get so far, and the supervisor ends. */
const CRASHES_MAX = 10;
const RESTART_MS = 500;
const RESTART_MS_MAX = 30_000;
/** What a stop takes beyond its timeout: settlements are answered, connections are closed. */
const KILL_AFTER_MS = 5000;
const LAST_REPORT_MS = 1000;

/**
 * Keeps as many worker processes as there are to be, and decides how many those are. It starts with `min`; each interval it
 * looks at the server's status, decides, starts what is missing, and asks those that are too many to retire, which finish what
 * they run. While the server does not answer nothing is decided and nothing started: workers that run reconnect by themselves.
 *
 * A process that ends unasked, or is killed because it does not get to work, is replaced, later each time that one ends soon
 * after its start. If none ever gets to work, or CRASHES_MAX in a row end soon and none is left that works, all are stopped and
 * `run` rejects.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #world: SupervisorWorld;
  readonly #observer = new Observer();
  readonly #members = new Map<string, Member>();
  readonly #decisions: ScalingDecision[] = [];
  #state: ScalingState = INITIAL_STATE;
  #wanted = 0;
  #queues: readonly string[] = [];
  #hasWorked = false;
  #crashes = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #isAway = false;
  #reportedAtMs = Number.NEGATIVE_INFINITY;
  #reports = true;
  #isOver = false;
  #killed = 0;
  #pause: { timer: Timer; end: () => void } | undefined;
  #fail!: (error: unknown) => void;
  readonly #failed: Promise<never>;

  constructor(options: SupervisorOptions, world: SupervisorWorld) {
    this.#options = options;
    this.#world = world;
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    // Whoever runs it hears of it.
    this.#failed.catch(() => {});
  }

  /**
   * Resolves when all has stopped in order after `stopAsked`, which says why. Rejects with WorkersFailed, what the backend
   * gave up with, or when processes had to be killed.
   */
  async run(stopAsked: Promise<string>): Promise<void> {
    const { min } = this.#options.policy;
    this.#decided(min, 'the start, with the least that there may be', {});
    this.#fill();
    void this.#look();
    try {
      const why = await Promise.race([stopAsked, this.#failed]);
      this.#decided(0, `${why}: stopping`, {});
    } catch (error) {
      this.#decided(0, 'the workers fail: stopping', {});
      throw error;
    } finally {
      this.#isOver = true;
      this.#pause?.end();
      await this.#stopAll();
      await settlesWithin(this.#world.clock, LAST_REPORT_MS, this.#report());
    }
    if (this.#killed > 0) {
      throw new MillraceError('TIMEOUT', `worker processes that did not stop in time and were killed: ${this.#killed}`);
    }
  }

  /** At once, without a word. */
  killAll(): void {
    for (const { process } of this.#members.values()) process.kill();
  }

  // ── Processes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  get #staying(): Member[] {
    return [...this.#members.values()].filter(({ state }) => state !== 'retiring');
  }

  get #retiring(): number {
    return this.#members.size - this.#staying.length;
  }

  #fill(): void {
    const { max } = this.#options.policy;
    while (
      this.#staying.length < this.#wanted &&
      this.#members.size < max &&
      this.#world.clock.steadyMs() >= this.#notBeforeMs
    ) {
      this.#start(this.#freeName());
    }
  }

  /** The lowest number: names that stay are series that stay, where workers are counted by name. */
  #freeName(): string {
    for (let number = 1; ; number++) {
      const name = `${this.#options.name}/${number}`;
      if (!this.#members.has(name)) return name;
    }
  }

  #start(name: string): void {
    const process = this.#world.start(name);
    const member: Member = { process, state: 'starting', workingSinceMs: 0 };
    this.#members.set(name, member);
    const late = this.#world.clock.setTimer(this.#options.startTimeoutMs, () => {
      const message = `it took no tasks within ${this.#options.startTimeoutMs / 1000} s: its handlers do not load, or the server does not answer`;
      process.kill({ code: 'TIMEOUT', message });
    });
    late.unref();
    void process.working.then((queues) => {
      late.cancel();
      this.#hasWorked = true;
      this.#queues = queues;
      member.workingSinceMs = this.#world.clock.steadyMs();
      if (member.state === 'starting') member.state = 'working';
    });
    void process.ended.then((ending) => {
      late.cancel();
      this.#ended(member, ending);
    });
  }

  #ended(member: Member, ending: Ending): void {
    const { name, pid } = member.process;
    this.#members.delete(name);
    const failure = ending.failure === undefined ? '' : `: ${ending.failure.code}: ${ending.failure.message}`;
    const how = ending.isInOrder ? 'ended' : `ended with ${ending.how}${failure}`;
    const about = { worker: name, workerPid: pid, how: ending.how };
    this.#reportedAtMs = Number.NEGATIVE_INFINITY;
    if (this.#isOver || member.state === 'retiring') {
      const level = ending.isInOrder ? 'info' : 'warn';
      this.#world.logger[level](about, `worker process ${name} (${pid}) ${how}, as it was to`);
      return;
    }
    if (!this.#hasWorked) {
      this.#fail(new WorkersFailed(`a worker process ${how}`, ending));
      return;
    }
    const waitMs = this.#countCrash(member, ending);
    if (this.#crashes > CRASHES_MAX) {
      this.#fail(
        new WorkersFailed(
          `${this.#crashes} worker processes in a row ended soon after their start, the last ${how}`,
          ending,
        ),
      );
      return;
    }
    const current = this.#wanted;
    const reason = `worker process ${name} (${pid}) ${how}; another is started ${waitMs === 0 ? 'at once' : `in ${waitMs / 1000} s`}`;
    this.#told(current, current, reason);
    this.#world.logger.warn({ ...about, failure: ending.failure }, reason);
    const timer = this.#world.clock.setTimer(waitMs, () => {
      if (!this.#isOver && !this.#isAway) this.#fill();
    });
    timer.unref();
  }

  /** How long its place stays empty at least. */
  #countCrash({ workingSinceMs }: Member, { isInOrder, failure }: Ending): number {
    const nowMs = this.#world.clock.steadyMs();
    const isStable = workingSinceMs > 0 && nowMs - workingSinceMs >= STABLE_MS;
    // Somebody has asked it to end, or the server is away: neither is a fault of the workers.
    const isHarmless = isInOrder || failure?.code === 'DISCONNECTED';
    if (!isStable && !isHarmless) this.#crashes++;
    const waitMs = Math.min(RESTART_MS_MAX, RESTART_MS * 2 ** Math.max(0, this.#crashes - 1));
    this.#notBeforeMs = nowMs + waitMs;
    return waitMs;
  }

  async #stopAll(): Promise<void> {
    const members = [...this.#members.values()];
    for (const { process } of members) process.stop();
    const ended = Promise.all(members.map(({ process }) => process.ended));
    if (await settlesWithin(this.#world.clock, this.#options.stopTimeoutMs + KILL_AFTER_MS, ended)) return;
    this.#killed = this.#members.size;
    this.#world.logger.warn(
      { workers: [...this.#members.keys()] },
      `worker processes that do not stop are killed: ${this.#killed}`,
    );
    this.killAll();
    // A system call that does not return keeps a process alive.
    await settlesWithin(this.#world.clock, KILL_AFTER_MS, ended);
  }

  // ── Looking and deciding ──────────────────────────────────────────────────────────────────────────────────────────

  async #look(): Promise<void> {
    try {
      while (!this.#isOver) {
        await this.#waitInterval();
        if (!this.#isOver) await this.#lookOnce();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  async #lookOnce(): Promise<void> {
    let status: Status;
    try {
      status = await this.#world.status();
    } catch (error) {
      // One whose disk has failed ends, and comes back.
      if (!(error instanceof MillraceError) || !(error.retryable || error.code === 'STORAGE_FAILED')) throw error;
      this.#lost(error);
      return;
    }
    if (this.#isOver) return;
    if (this.#isAway) {
      this.#isAway = false;
      this.#world.logger.info({}, 'the server answers again: scaling goes on');
    }
    this.#decide(status);
    this.#fill();
    const nowMs = this.#world.clock.steadyMs();
    if (nowMs - this.#reportedAtMs >= LIMITS.scalingReportMs) await this.#report();
  }

  #lost(error: MillraceError): void {
    this.#observer.forget();
    this.#state = { ...this.#state, pressed: 0, quietSinceMs: undefined };
    if (this.#isAway) return;
    this.#isAway = true;
    const message = `the server does not answer: the worker processes stay as they are, nothing is decided until it does`;
    this.#world.logger.warn({ err: error }, message);
  }

  #waitInterval(): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        resolve();
      };
      const timer = this.#world.clock.setTimer(this.#options.intervalMs, end);
      this.#pause = { timer, end };
    });
  }

  #decide(status: Status): void {
    const nowMs = this.#world.clock.steadyMs();
    const working = this.#staying.filter(({ state }) => state === 'working');
    if (working.some(({ workingSinceMs }) => nowMs - workingSinceMs >= STABLE_MS)) this.#crashes = 0;
    const own = {
      working: working.map(({ process: { name, pid } }) => ({ name, pid })),
      current: this.#wanted,
      retiring: this.#retiring,
      queues: this.#queues,
    };
    const seen = this.#observer.observe(status, own, nowMs);
    const { state, target, reason } = decide(this.#options.policy, this.#state, seen, nowMs);
    this.#state = state;
    if (reason !== undefined) this.#decided(target, reason, figuresOf(seen));
    for (const member of this.#choose(this.#staying.length - target, status)) {
      member.state = 'retiring';
      member.process.retire();
    }
  }

  /** Those with the least to do, of equals the youngest. */
  #choose(count: number, { workers }: Status): Member[] {
    if (count <= 0) return [];
    const running = ({ process }: Member): number =>
      workers.find(({ name, pid }) => name === process.name && pid === process.pid)?.running ?? 0;
    return this.#staying
      .reverse()
      .sort((one, other) => running(one) - running(other))
      .slice(0, count);
  }

  // ── Telling ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #decided(target: number, reason: string, figures: object): void {
    const from = this.#wanted;
    this.#wanted = target;
    this.#told(from, target, reason);
    const what =
      from === target
        ? 'not scaling'
        : `scaling from ${from} to ${target} ${target === 1 ? 'worker process' : 'worker processes'}`;
    this.#world.logger.info({ from, to: target, reason, ...figures }, `${what}: ${reason}`);
  }

  #told(from: number, to: number, reason: string): void {
    const atMs = Math.round(this.#world.clock.wallMs());
    this.#decisions.unshift({ atMs, from, to, reason: reason.slice(0, LIMITS.scalingReasonCharactersMax) });
    if (this.#decisions.length > LIMITS.scalingDecisionsMax) this.#decisions.pop();
    this.#reportedAtMs = Number.NEGATIVE_INFINITY;
  }

  /** What cannot be told now is told with the next one. */
  async #report(): Promise<void> {
    if (!this.#reports) return;
    const { id, name, host, pid, policy } = this.#options;
    const { min, max } = policy;
    try {
      await this.#world.report({
        ...{ id, name, host, pid, min, max },
        queues: [...this.#queues],
        current: this.#wanted,
        retiring: this.#retiring,
        decisions: [...this.#decisions],
      });
      this.#reportedAtMs = this.#world.clock.steadyMs();
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      if (error.retryable || this.#isOver) return;
      this.#reports = false;
      this.#world.logger.warn({ err: error }, 'the server takes no reports of scaling: they are in this log only');
    }
  }
}

function figuresOf({ queues, utilisation, atWork, endRate }: Observation): object {
  return {
    backlogAgeMs: Math.max(0, ...queues.map(({ oldestReadyMs }) => oldestReadyMs)),
    waiting: queues.reduce((sum, { ready }) => sum + ready, 0),
    utilisation,
    atWork,
    endRate,
  };
}
