import type { KindSpec } from './kind.ts';

/** When a schedule is due. The time zone is one that the process knows; times are wall-clock milliseconds. */
export type Timing =
  | { readonly cron: string; readonly timeZone: string }
  /** Due at `anchorMs` + k × `everyMs`, k = 1, 2, 3 … */
  | { readonly everyMs: number; readonly anchorMs: number };

/** What becomes of due times that nobody was there for. */
export type Misfire = 'skip' | 'once' | 'all';

/** A schedule as it is kept: plain data, which every segment of the journal begins with. */
export interface Schedule {
  readonly name: string;
  readonly timing: Timing;
  readonly misfire: Misfire;
  readonly spec: KindSpec;
  readonly payload: { readonly encoding: 'utf8' | 'base64'; readonly data: string };
  /** Of its tasks; absent: none. */
  readonly headers?: Readonly<Record<string, string>>;
  paused: boolean;
  /** Null while it is paused, and when its expression has no further time. */
  nextMs: number | null;
  /** The due time of the last firing; of one that somebody asked for, when that was. */
  lastMs: number | null;
  lastId: number | null;
  firedCount: number;
  /** Keys and ids of the last firings that somebody asked for, so that asking again gives the same task. */
  runs: [key: string, id: number][];
}

/** One record of the journal moves a schedule on and enqueues its tasks: `count` of them, the last with the id `lastId`. */
export interface Firing {
  readonly dueMs: number;
  readonly nextMs: number | null;
  readonly count: number;
  readonly lastId: number;
  /** Of one that somebody asked for; empty when it was due. */
  readonly key: string;
}

/** Beside its texts: numbers, property names, what it remembers of its firings. */
export const SCHEDULE_OVERHEAD_BYTES = 768;
const RUNS_KEPT = 8;

/** What a schedule adds to the begin of each segment, at most. */
export function scheduleBytes({ name, timing, spec, payload, headers }: Schedule): number {
  return Buffer.byteLength(JSON.stringify([name, timing, spec, payload, headers])) + SCHEDULE_OVERHEAD_BYTES;
}

interface Entry {
  readonly schedule: Schedule;
  readonly dueMs: number;
  readonly order: number;
}

/**
 * All schedules, and in which order they are due: a sorted list, for there are LIMITS.schedulesMax at most.
 *
 *   set ─► waiting ──due──► fired (waiting for its next time) … ──removed──► gone
 *             ▲ │ put aside: its task cannot be taken now
 *             └─┘ bring back
 */
export class Schedules {
  readonly #byName = new Map<string, Schedule>();
  /** By when they are due, then by when that was said. */
  readonly #waiting: Entry[] = [];
  /** The same, by name. */
  readonly #entries = new Map<string, Entry>();
  #aside: Schedule[] = [];
  #added = 0;
  #bytes = 0;

  get count(): number {
    return this.#byName.size;
  }

  /** What all of them add to the begin of each segment. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Wall time; Infinity when none waits. */
  get nextMs(): number {
    return this.#waiting.length === 0 ? Number.POSITIVE_INFINITY : this.#waiting[0].dueMs;
  }

  get(name: string): Schedule | undefined {
    return this.#byName.get(name);
  }

  values(): Iterable<Schedule> {
    return this.#byName.values();
  }

  /** In place of the one that has its name. */
  set(schedule: Schedule): void {
    this.remove(schedule.name);
    this.#byName.set(schedule.name, schedule);
    this.#bytes += scheduleBytes(schedule);
    this.#wait(schedule);
  }

  remove(name: string): void {
    const known = this.#byName.get(name);
    if (known === undefined) return;
    this.#byName.delete(name);
    this.#bytes -= scheduleBytes(known);
    this.#waitNoMore(name);
  }

  /** To another time without firing: paused, resumed, or past times that are let go. */
  move(name: string, paused: boolean, nextMs: number | null): void {
    const schedule = this.#byName.get(name);
    if (schedule === undefined) return;
    schedule.paused = paused;
    this.#moveTo(schedule, nextMs);
  }

  fired(name: string, firing: Firing): void {
    const schedule = this.#byName.get(name);
    if (schedule === undefined) return;
    schedule.lastMs = firing.dueMs;
    schedule.lastId = firing.lastId;
    schedule.firedCount += firing.count;
    if (firing.key !== '') {
      schedule.runs.push([firing.key, firing.lastId]);
      if (schedule.runs.length > RUNS_KEPT) schedule.runs.shift();
    }
    this.#moveTo(schedule, firing.nextMs);
  }

  /** The one that is due first, and has been since `wallMs` or before. */
  due(wallMs: number): Schedule | undefined {
    return this.nextMs <= wallMs ? this.#waiting[0].schedule : undefined;
  }

  /** The one that is due first cannot fire now: the others have their turn. */
  putAside(): void {
    const { schedule } = this.#waiting[0];
    this.#aside.push(schedule);
    this.#waitNoMore(schedule.name);
  }

  bringBack(): void {
    if (this.#aside.length === 0) return;
    const aside = this.#aside;
    this.#aside = [];
    for (const schedule of aside) {
      const isWaiting = this.#entries.has(schedule.name) || this.#byName.get(schedule.name) !== schedule;
      if (!isWaiting) this.#wait(schedule);
    }
  }

  #moveTo(schedule: Schedule, nextMs: number | null): void {
    if (schedule.nextMs === nextMs) return;
    this.#waitNoMore(schedule.name);
    schedule.nextMs = nextMs;
    this.#wait(schedule);
  }

  #wait(schedule: Schedule): void {
    if (schedule.nextMs === null) return;
    const entry = { schedule, dueMs: schedule.nextMs, order: this.#added++ };
    this.#entries.set(schedule.name, entry);
    this.#waiting.splice(this.#placeOf(entry), 0, entry);
  }

  #waitNoMore(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#waiting.splice(this.#placeOf(entry), 1);
  }

  /** Where the entry is, or belongs. */
  #placeOf(entry: Entry): number {
    let from = 0;
    let to = this.#waiting.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (earlier(this.#waiting[middle], entry) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

function earlier(a: Entry, b: Entry): number {
  return a.dueMs - b.dueMs || a.order - b.order;
}
