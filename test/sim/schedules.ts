import type { Misfire } from '../../src/broker/contract.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { check } from './checkers.ts';
import type { SimRandom } from './random.ts';

/**
 * The schedules of a world, and what must be true of them. Each is made once, has a queue with its name in which nothing else
 * is enqueued, and is never made again after somebody has asked for its end: so its queue says what it has fired.
 */
export const SCHEDULES = ['exact0', 'exact1', 'exact2', 'steered0', 'steered1'] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

/** The rest of a simulated second and more: a full disk is asked again once a second. */
const OVERDUE_MS = 5000;

export interface PlannedSchedule {
  readonly name: ScheduleName;
  readonly everyMs: number;
  readonly misfire: Misfire;
  /** Paused, resumed, and run when nothing is due. Others fire by themselves only. */
  readonly isSteered: boolean;
}

/** Those that make up for all that was missed are rare enough never to reach the bound of what is made up for. */
export function planSchedules(random: SimRandom): readonly PlannedSchedule[] {
  return SCHEDULES.map((name) => ({
    name,
    everyMs: Math.round(random.magnitude(5000, 60_000)),
    misfire: random.pick(['skip', 'once', 'all', 'all'] as const),
    isSteered: name.startsWith('steered'),
  }));
}

/** One of two values that calls set; certain once one is answered, until the other is asked for. */
class Register {
  #certain: boolean | undefined;
  readonly #open = new Map<unknown, { readonly value: boolean; overtaken: boolean }>();

  asked(call: unknown, value: boolean): void {
    let overtaken = false;
    for (const other of this.#open.values()) {
      if (other.value === value) continue;
      other.overtaken = true;
      overtaken = true;
    }
    this.#open.set(call, { value, overtaken });
    if (this.#certain !== value) this.#certain = undefined;
  }

  /** Durable, or refused. */
  answered(call: unknown, taken: boolean): void {
    const known = this.#open.get(call);
    this.#open.delete(call);
    if (taken && known?.overtaken === false) this.#certain = known.value;
  }

  /** It may have been taken, or not. */
  forget(call: unknown): void {
    this.#open.delete(call);
  }

  get certain(): boolean | undefined {
    return this.#certain;
  }
}

interface Facts {
  readonly planned: PlannedSchedule;
  readonly isThere: Register;
  readonly isPaused: Register;
  /** Somebody has asked for its end: from then on it is not looked at but for whether it is there. */
  isEnding: boolean;
}

const METHODS: Record<string, { of: 'isThere' | 'isPaused'; value: boolean }> = {
  'schedule.set': { of: 'isThere', value: true },
  'schedule.remove': { of: 'isThere', value: false },
  'schedule.pause': { of: 'isPaused', value: true },
  'schedule.resume': { of: 'isPaused', value: false },
};

export class ScheduleChecker {
  readonly #facts: ReadonlyMap<string, Facts>;
  /** As many as were seen at once. */
  fired = 0;

  constructor(planned: readonly PlannedSchedule[]) {
    this.#facts = new Map(
      planned.map((each) => [
        each.name,
        { planned: each, isThere: new Register(), isPaused: new Register(), isEnding: false },
      ]),
    );
  }

  asked(call: object, method: string, name: unknown): void {
    const facts = this.#facts.get(String(name));
    const sets = METHODS[method];
    if (facts === undefined || sets === undefined) return;
    facts[sets.of].asked(call, sets.value);
    facts.isEnding ||= method === 'schedule.remove';
  }

  answered(call: object, method: string, name: unknown, taken: boolean): void {
    const facts = this.#facts.get(String(name));
    const sets = METHODS[method];
    if (facts !== undefined && sets !== undefined) facts[sets.of].answered(call, taken);
  }

  forget(call: object): void {
    for (const { isThere, isPaused } of this.#facts.values()) {
      isThere.forget(call);
      isPaused.forget(call);
    }
  }

  /** Call now and then, and when a server has read its disk. */
  check({ core }: Engine): void {
    let fired = 0;
    for (const facts of this.#facts.values()) {
      const { planned, isThere, isPaused, isEnding } = facts;
      const { name, everyMs, misfire, isSteered } = planned;
      const schedule = core.schedules.get(name);
      const { certain } = isThere;
      check(certain !== true || schedule !== undefined, 'schedule-lost', `${name} was made, and is not there`);
      check(certain !== false || schedule === undefined, 'schedule-back', `${name} was removed, and is there`);
      if (schedule === undefined || isEnding) continue;
      const { firedCount, nextMs, paused, timing } = schedule;
      fired += firedCount;
      const isWrong = isPaused.certain !== undefined && isPaused.certain !== paused;
      check(!isWrong, 'pause-forgotten', `${name} is ${paused ? '' : 'not '}paused`);
      const enqueued = core.queues.get(name)?.totals.enqueued ?? 0;
      check(enqueued === firedCount, 'firing-miscounted', `${name} has fired ${firedCount}, ${enqueued} were enqueued`);
      if (isSteered || nextMs === null || !('anchorMs' in timing)) continue;
      const due = (nextMs - timing.anchorMs) / everyMs - 1;
      const what = `${name} (${misfire}) has fired ${firedCount} of ${due} times`;
      check(Number.isInteger(due) && firedCount <= due, 'fired-twice', what);
      check(misfire !== 'all' || firedCount === due, 'firing-lost', what);
    }
    this.fired = Math.max(this.fired, fired);
  }

  /** `freeMs`: for how long the server has had nothing to keep it from firing. */
  checkDue({ core, clock }: Engine, freeMs: number): void {
    const lateMs = clock.wallMs() - core.schedules.nextMs;
    check(Math.min(lateMs, freeMs) < OVERDUE_MS, 'schedule-late', `a schedule was due ${lateMs} ms ago`);
  }
}
