import { workersNeeded } from './sizing.ts';

/**
 * How many worker processes there are to be: a function of what was seen, and of when what was decided. docs/scaling-workers.md
 * explains it to those who use it.
 *
 * Up, fast: when tasks wait too long, or will, and the handlers are busy, so that more of them help. Down, slowly: one process
 * at a time, when fewer were enough for long. What keeps it from going back and forth: between the two lies a wide range in
 * which nothing changes, a retirement must leave processes less busy than a start needs, and one that has to be taken back
 * makes the next wait longer.
 */
export interface Policy {
  readonly min: number;
  readonly max: number;
  /** Tasks may wait so long before there are to be more processes. */
  readonly backlogAgeMs: number;
  /** What was started is given so long to show its effect before more are. */
  readonly upPauseMs: number;
  /** So long fewer processes must have been enough before one retires. */
  readonly downAfterMs: number;
}

export const DEFAULT_POLICY = { min: 1, backlogAgeMs: 5000, upPauseMs: 3000, downAfterMs: 30_000 } as const;

/** Handlers that are less busy than this do not need help. */
export const UP_UTILISATION = 0.8;
/** What is started at once: at most as many as there are. */
const UP_FACTOR_MAX = 2;
/** One observation may be a fluke: tasks that have just come, a queue that has just reached its limit. */
const UP_OBSERVATIONS = 2;
/** Processes that never get to work do not hold up a decision for longer. */
const START_PATIENCE_MS = 15_000;
/** How busy those that stay may be after a retirement. */
export const DOWN_UTILISATION = 0.6;
/** Of `backlogAgeMs`: while tasks wait for longer nothing retires. */
const DOWN_AGE_SHARE = 0.5;
/** A start this soon after a retirement, in times of what that had waited, takes it back: the next one waits twice as long … */
const REGRET_WINDOW = 2;
/** … up to 2^3 times. */
const REGRETS_MAX = 3;

export interface ObservedQueue {
  readonly name: string;
  readonly ready: number;
  readonly oldestReadyMs: number;
  /** More workers do not help it. */
  readonly heldUpBy: 'paused' | 'concurrency' | 'rate' | undefined;
}

export interface Observation {
  /** Processes that there are to be, by the last decision. */
  readonly current: number;
  /** Of these, those that the server knows. */
  readonly atWork: number;
  /** Beside these: those that finish what they run. */
  readonly retiring: number;
  readonly queues: readonly ObservedQueue[];
  /** Of the handlers of those at work, the share that was busy over the last seconds, and now. */
  readonly utilisation: number;
  readonly runningShare: number;
  /** Tasks that they hold beyond those that they run. */
  readonly heldAhead: number;
  /** Of queues that are not held up, per second. */
  readonly arrivalRate: number;
  /** Attempts that those at work end, per second. */
  readonly endRate: number;
  /** Their part of the handlers of all workers that take from these queues, 0 to 1: of the backlog as much is theirs. */
  readonly share: number;
}

/** Why nothing changes although tasks wait. */
type Obstacle = 'max' | 'held' | 'free';

export interface ScalingState {
  /** Successive observations that ask for more. */
  readonly pressed: number;
  /** Since when fewer would be enough; steady time. */
  readonly quietSinceMs: number | undefined;
  readonly lastUpAtMs: number;
  readonly lastDownAtMs: number;
  readonly regrets: number;
  /** Was told. */
  readonly obstacle: Obstacle | undefined;
}

export const INITIAL_STATE: ScalingState = {
  pressed: 0,
  quietSinceMs: undefined,
  lastUpAtMs: Number.NEGATIVE_INFINITY,
  lastDownAtMs: Number.NEGATIVE_INFINITY,
  regrets: 0,
  obstacle: undefined,
};

export interface Decision {
  readonly state: ScalingState;
  readonly target: number;
  /** Worth telling: the number changes, or it does not although one might expect it. Told once. */
  readonly reason: string | undefined;
}

/** What the observation comes to. */
interface Pressure {
  /** Of what more workers help. */
  readonly ready: number;
  readonly ageMs: number;
  /** What those at work could end in a second, and how long the backlog will take; undefined while nobody knows. */
  readonly capacity: number | undefined;
  readonly drainMs: number | undefined;
  readonly busy: number;
  readonly isLate: boolean;
  readonly isSlow: boolean;
}

export function decide(policy: Policy, state: ScalingState, seen: Observation, nowMs: number): Decision {
  const { current, atWork } = seen;
  // Nobody works yet: nothing can be said.
  if (atWork === 0) return { state, target: current, reason: undefined };
  const pressure = assess(policy, seen);
  const isPressed = pressure.isLate || pressure.isSlow;
  const counted = { ...state, pressed: isPressed ? state.pressed + 1 : 0 };
  if (isPressed && pressure.busy >= UP_UTILISATION) return decideUp(policy, counted, seen, pressure, nowMs);
  return decideDown(policy, counted, seen, pressure, nowMs);
}

/** What was started has yet to show what it does. */
function isStarting({ lastUpAtMs }: ScalingState, { current, atWork }: Observation, nowMs: number): boolean {
  return atWork < current && nowMs - lastUpAtMs < START_PATIENCE_MS;
}

function assess({ backlogAgeMs }: Policy, seen: Observation): Pressure {
  const open = seen.queues.filter(({ heldUpBy }) => heldUpBy === undefined);
  const ready = sum(open.map((queue) => queue.ready));
  const ageMs = Math.max(0, ...open.map(({ oldestReadyMs }) => oldestReadyMs));
  const waiting = ready * seen.share + seen.heldAhead;
  const capacity = seen.endRate > 0 && seen.utilisation > 0 ? seen.endRate / seen.utilisation : undefined;
  const drainMs = capacity === undefined ? undefined : (waiting * 1000) / capacity;
  const busy = Math.max(seen.utilisation, seen.runningShare);
  return {
    ready,
    ageMs,
    capacity,
    drainMs,
    busy,
    isLate: ageMs > backlogAgeMs,
    // What is held ahead does not go to others: without ready tasks more processes would get nothing.
    isSlow: ready > 0 && drainMs !== undefined && drainMs > backlogAgeMs && busy >= UP_UTILISATION,
  };
}

function decideUp(
  policy: Policy,
  before: ScalingState,
  seen: Observation,
  pressure: Pressure,
  nowMs: number,
): Decision {
  const { current, retiring } = seen;
  const state = { ...before, quietSinceMs: undefined };
  const isTooSoon = nowMs - state.lastUpAtMs < policy.upPauseMs || isStarting(state, seen, nowMs);
  if (state.pressed < UP_OBSERVATIONS || isTooSoon) return { state, target: current, reason: undefined };
  const needed = neededOf(policy, seen, pressure);
  const wanted = Math.min(Math.max(current + 1, needed ?? current * UP_FACTOR_MAX), current * UP_FACTOR_MAX);
  const target = Math.min(wanted, policy.max - retiring);
  if (target <= current) {
    const reason = state.obstacle === 'max' ? undefined : atMax(policy, seen, pressure);
    return { state: { ...state, obstacle: 'max' }, target: current, reason };
  }
  const waitedMs = policy.downAfterMs * 2 ** state.regrets;
  const isRegret = nowMs - state.lastDownAtMs <= REGRET_WINDOW * waitedMs;
  const regrets = Math.min(REGRETS_MAX, Math.max(0, state.regrets + (isRegret ? 1 : -1)));
  return {
    state: { ...state, pressed: 0, lastUpAtMs: nowMs, regrets, obstacle: undefined },
    target,
    reason: `${describeWait(policy, pressure)}; ${describeWork(seen, pressure, needed)}`,
  };
}

function decideDown(
  policy: Policy,
  before: ScalingState,
  seen: Observation,
  pressure: Pressure,
  nowMs: number,
): Decision {
  const { current, atWork, utilisation } = seen;
  const { obstacle, why } = findObstacle(policy, before, seen, pressure);
  const state = { ...before, obstacle };
  // Tasks that wait although handlers are free wait for something else.
  const isCalm = pressure.isLate || pressure.ageMs <= policy.backlogAgeMs * DOWN_AGE_SHARE;
  const isSpare = current > policy.min && (utilisation * atWork) / (current - 1) <= DOWN_UTILISATION;
  const isQuiet = isSpare && isCalm && !isStarting(state, seen, nowMs);
  const quietSinceMs = isQuiet ? (state.quietSinceMs ?? nowMs) : undefined;
  const waitMs = policy.downAfterMs * 2 ** state.regrets;
  if (quietSinceMs === undefined || nowMs - quietSinceMs < waitMs) {
    return { state: { ...state, quietSinceMs }, target: current, reason: why };
  }
  const longer =
    state.regrets === 0
      ? ''
      : ` (not after ${seconds(policy.downAfterMs)}, because the last retirement was taken back)`;
  const wait = why ?? describeWait(policy, pressure);
  return {
    state: { ...state, quietSinceMs: nowMs, lastDownAtMs: nowMs },
    target: current - 1,
    reason: `fewer have been enough for ${seconds(nowMs - quietSinceMs)}${longer}: ${wait}, handlers are ${percent(utilisation)} busy`,
  };
}

/** With why it is one, if that was not told yet. */
function findObstacle(
  policy: Policy,
  state: ScalingState,
  { queues }: Observation,
  pressure: Pressure,
): { obstacle: Obstacle | undefined; why: string | undefined } {
  if (pressure.isLate) {
    if (state.obstacle === 'free') return { obstacle: 'free', why: undefined };
    const isSure = state.pressed >= UP_OBSERVATIONS;
    return isSure
      ? { obstacle: 'free', why: handlersAreFree(policy, pressure) }
      : { obstacle: state.obstacle, why: undefined };
  }
  const held = queues.filter(
    ({ heldUpBy, oldestReadyMs }) => heldUpBy !== undefined && oldestReadyMs > policy.backlogAgeMs,
  );
  if (held.length === 0) return { obstacle: undefined, why: undefined };
  return { obstacle: 'held', why: state.obstacle === 'held' ? undefined : queuesAreHeld(held) };
}

function neededOf({ backlogAgeMs }: Policy, seen: Observation, { ready }: Pressure): number | undefined {
  const { arrivalRate, endRate, utilisation, atWork, heldAhead, share } = seen;
  const load = {
    arrivalRate: arrivalRate * share,
    endRate,
    waiting: ready * share + heldAhead,
    busyWorkers: utilisation * atWork,
  };
  return workersNeeded(load, backlogAgeMs);
}

function describeWait({ backlogAgeMs }: Policy, { ready, ageMs, drainMs, isLate, isSlow }: Pressure): string {
  if (ready === 0) return 'no task waits';
  const waiting = `${ready} ${ready === 1 ? 'task waits' : 'tasks wait'}`;
  if (isLate) return `${waiting}, the oldest for ${seconds(ageMs)}, longer than ${seconds(backlogAgeMs)}`;
  if (isSlow) return `${waiting} and will take ${seconds(drainMs as number)}, longer than ${seconds(backlogAgeMs)}`;
  return `${waiting}, the oldest for ${seconds(ageMs)}`;
}

function describeWork({ atWork }: Observation, { busy, capacity }: Pressure, needed: number | undefined): string {
  const work = `handlers are ${percent(busy)} busy`;
  const processes = atWork === 1 ? '1 process' : `${atWork} processes`;
  if (capacity === undefined || needed === undefined)
    return `${work}, and nothing that ${processes} began has ended yet`;
  return `${work}, ${processes} can do ${rate(capacity)} a second: ${needed} would be right`;
}

function handlersAreFree(policy: Policy, pressure: Pressure): string {
  return `${describeWait(policy, pressure)}, but handlers are only ${percent(pressure.busy)} busy: more processes would not help`;
}

function atMax(policy: Policy, { current, retiring }: Observation, pressure: Pressure): string {
  const leaving = retiring === 0 ? '' : `, ${retiring} that finish what they run included`;
  return `${describeWait(policy, pressure)}, but there are ${current + retiring} processes, as many as may be${leaving}`;
}

function queuesAreHeld(held: readonly ObservedQueue[]): string {
  const each = held
    .slice(0, 3)
    .map(({ name, heldUpBy }) => (heldUpBy === 'paused' ? `${name} is paused` : `${name} is at its ${heldUpBy}`));
  const more = held.length > 3 ? ` and ${held.length - 3} more` : '';
  return `tasks wait, but ${each.join(', ')}${more}: more processes would not help`;
}

function seconds(ms: number): string {
  return ms < 950 ? `${Math.round(ms)} ms` : `${Number((ms / 1000).toFixed(ms < 99_950 ? 1 : 0))} s`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function rate(perSecond: number): string {
  return String(Number(perSecond < 9.95 ? perSecond.toFixed(1) : perSecond.toFixed(0)));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
