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
const SCHEDULE_OVERHEAD_BYTES = 768;
const RUNS_KEPT = 8;
const STALE_MAX = 64;

/** What a schedule adds to the begin of each segment, at most. */
export function scheduleBytes({ name, timing, spec, payload }: Schedule): number {
  return Buffer.byteLength(JSON.stringify([name, timing, spec, payload])) + SCHEDULE_OVERHEAD_BYTES;
}

interface Entry {
  readonly schedule: Schedule;
  readonly dueMs: number;
  readonly order: number;
}

/**
 * All schedules, and in which order they are due: a binary heap whose entries are not removed but outlived. An entry counts
 * while its schedule is still kept and still due at that time.
 *
 *   set ─► waiting ──due──► fired (waiting for its next time) … ──removed──► gone
 *             ▲ │ put aside: its task cannot be taken now
 *             └─┘ bring back
 */
export class Schedules {
  readonly #byName = new Map<string, Schedule>();
  readonly #heap: Entry[] = [];
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
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0].dueMs;
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
    this.#dropOutlived();
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
    return this.nextMs <= wallMs ? this.#heap[0].schedule : undefined;
  }

  /** The one that is due first cannot fire now: the others have their turn. */
  putAside(): void {
    this.#aside.push(this.#heap[0].schedule);
    this.#pop();
    this.#dropOutlived();
  }

  bringBack(): void {
    if (this.#aside.length === 0) return;
    const aside = this.#aside;
    this.#aside = [];
    for (const schedule of aside) if (this.#byName.get(schedule.name) === schedule) this.#wait(schedule);
  }

  #moveTo(schedule: Schedule, nextMs: number | null): void {
    if (schedule.nextMs === nextMs) return;
    schedule.nextMs = nextMs;
    this.#wait(schedule);
  }

  #wait(schedule: Schedule): void {
    if (schedule.nextMs !== null) {
      this.#heap.push({ schedule, dueMs: schedule.nextMs, order: this.#added++ });
      this.#siftUp(this.#heap.length - 1);
    }
    this.#dropOutlived();
  }

  #counts({ schedule, dueMs }: Entry): boolean {
    return schedule.nextMs === dueMs && this.#byName.get(schedule.name) === schedule;
  }

  /** So that the first entry always counts, and the others are few. */
  #dropOutlived(): void {
    const heap = this.#heap;
    if (heap.length > this.#byName.size * 2 + STALE_MAX) {
      const kept = heap.filter((entry) => this.#counts(entry)).sort(earlier);
      heap.length = 0;
      // In order is a heap.
      for (const entry of kept) heap.push(entry);
    }
    while (heap.length > 0 && !this.#counts(heap[0])) this.#pop();
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let at = 0; ; ) {
      const left = at * 2 + 1;
      if (left >= heap.length) return;
      const least = left + 1 < heap.length && earlier(heap[left + 1], heap[left]) < 0 ? left + 1 : left;
      if (earlier(heap[at], heap[least]) <= 0) return;
      [heap[at], heap[least]] = [heap[least], heap[at]];
      at = least;
    }
  }

  #siftUp(start: number): void {
    const heap = this.#heap;
    for (let at = start; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (earlier(heap[parent], heap[at]) <= 0) return;
      [heap[at], heap[parent]] = [heap[parent], heap[at]];
      at = parent;
    }
  }
}

function earlier(a: Entry, b: Entry): number {
  return a.dueMs - b.dueMs || a.order - b.order;
}
