import {
  decide,
  INITIAL_STATE,
  type Observation,
  type ObservedQueue,
  type Policy,
} from '../../src/scaling/decision.ts';

export interface Scene {
  readonly policy: Policy;
  /** Tasks that one process can end in a second. */
  readonly rateOfOne: number;
  /** Tasks that arrive in a second, by the time in milliseconds. */
  readonly arrivals: (atMs: number) => number;
  /** Default: never. */
  readonly heldUpBy?: (atMs: number) => ObservedQueue['heldUpBy'];
  /** Until a process that was started is at work. */
  readonly startMs: number;
  /** Until one that retires has finished what it runs. */
  readonly finishMs: number;
  readonly lengthMs: number;
}

export interface Change {
  readonly atMs: number;
  readonly from: number;
  readonly to: number;
  readonly reason: string;
  readonly ageMs: number;
}

const STEP_MS = 100;
const LOOK_MS = 1000;
const WINDOW_STEPS = 50;

/**
 * Worker processes and one queue as a flow of tasks under simulated time: what arrives, what is ended, how long the oldest one
 * waits, and what is decided each second.
 */
export function run(scene: Scene): {
  changes: Change[];
  remarks: string[];
  sizes: number[];
  ages: number[];
  alive: number;
} {
  const { policy } = scene;
  let state = INITIAL_STATE;
  let current = policy.min;
  const startedAt: number[] = Array(policy.min).fill(Number.NEGATIVE_INFINITY);
  const leaving: number[] = [];
  let arrived = 0;
  let ended = 0;
  const arrivedBy: number[] = [];
  let oldest = 0;
  const steps: { busy: number; arrived: number; ended: number }[] = [];
  const result = {
    changes: [] as Change[],
    remarks: [] as string[],
    sizes: [] as number[],
    ages: [] as number[],
    alive: 0,
  };
  for (let nowMs = 0; nowMs < scene.lengthMs; nowMs += STEP_MS) {
    const heldUpBy = scene.heldUpBy?.(nowMs);
    while (leaving[0] !== undefined && leaving[0] <= nowMs) leaving.shift();
    const atWork = startedAt.filter((startMs) => startMs + scene.startMs <= nowMs).length;
    const comes = (scene.arrivals(nowMs) * STEP_MS) / 1000;
    const capacity = (atWork * scene.rateOfOne * STEP_MS) / 1000;
    arrived += comes;
    arrivedBy.push(arrived);
    const ends = heldUpBy === undefined ? Math.min(capacity, arrived - ended) : 0;
    ended += ends;
    steps.push({ busy: capacity === 0 ? 0 : ends / capacity, arrived: comes, ended: ends });
    if (steps.length > WINDOW_STEPS) steps.shift();
    while (oldest < arrivedBy.length && (arrivedBy[oldest] as number) <= ended + 1e-6) oldest++;
    const ageMs = oldest < arrivedBy.length ? nowMs - oldest * STEP_MS : 0;
    result.alive = Math.max(result.alive, startedAt.length + leaving.length);
    if (nowMs % LOOK_MS !== 0) continue;
    const mean = (of: 'busy' | 'arrived' | 'ended'): number =>
      steps.reduce((sum, step) => sum + step[of], 0) / steps.length;
    const ready = Math.ceil(arrived - ended - 1e-6);
    const seen: Observation = {
      current,
      atWork,
      retiring: leaving.length,
      queues: [{ name: 'q', ready, oldestReadyMs: ready > 0 ? ageMs : 0, heldUpBy }],
      utilisation: mean('busy'),
      runningShare: steps.at(-1)?.busy ?? 0,
      heldAhead: 0,
      arrivalRate: heldUpBy === undefined ? (mean('arrived') * 1000) / STEP_MS : 0,
      endRate: (mean('ended') * 1000) / STEP_MS,
      share: 1,
    };
    const decision = decide(policy, state, seen, nowMs);
    state = decision.state;
    const { target, reason } = decision;
    result.sizes.push(target);
    result.ages.push(ageMs);
    if (target !== current)
      result.changes.push({ atMs: nowMs, from: current, to: target, reason: reason as string, ageMs });
    else if (reason !== undefined) result.remarks.push(reason);
    while (startedAt.length < target) startedAt.push(nowMs);
    while (startedAt.length > target) {
      startedAt.pop();
      leaving.push(nowMs + scene.finishMs);
    }
    current = target;
  }
  return result;
}
