import type { TaskEvent } from '../../src/broker/contract.ts';
import { NONE, STATE_NAMES, State } from '../../src/core/task-table.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { formatTaskId, parseTaskId } from '../../src/ids.ts';
import { check } from './checkers.ts';
import type { Model, TaskFacts } from './model.ts';
import { EventStream, type StreamFilter } from './streams.ts';

export type Told = Exclude<TaskEvent, { readonly type: 'dropped' }>;

/** Something that a server has told its streams, of one task. */
export interface Happening {
  readonly text: string;
  readonly event: Told;
  readonly id: number;
}

/** A place in what the servers have told, between two happenings. */
export interface Place {
  readonly life: number;
  readonly at: number;
}

/** How far a task has come, by what was told of it since its server began. */
interface Known {
  phase: 'waiting' | 'running' | 'failed' | 'lost' | 'completed' | 'dead' | 'cancelled';
  /** The newest that was told. */
  attempt: number;
  /** A worker that came back goes on with it, and says once more that it has begun. */
  isKept: boolean;
}

const ENDS: ReadonlySet<Known['phase']> = new Set(['completed', 'dead', 'cancelled']);

/** What must be true after a restart because somebody was told so. */
interface Stays {
  readonly queue: string;
  end: 'completed' | 'dead' | 'cancelled' | undefined;
  attempts: number;
}

/**
 * What became of tasks as each server told it, heard by a stream of all tasks that drops nothing; how that fits to what else
 * is known; and what the streams of clients made of it.
 */
export class EventChecker {
  readonly counts = { streams: 0, told: 0, gaps: 0, dropped: 0 };
  readonly #model: Model;
  readonly #forgets: boolean;
  readonly #lives: Happening[][] = [];
  /** Of the first task that is enqueued from then on. */
  #firstId = 0;
  #known = new Map<number, Known>();
  #unchecked: Happening[] = [];
  readonly #stays = new Map<number, Stays>();
  readonly #progressed = new Set<string>();
  readonly #streams = new Set<EventStream>();

  constructor(model: Model, forgets: boolean) {
    this.#model = model;
    this.#forgets = forgets;
  }

  // ── What happens ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** A server has begun; nobody is connected yet. */
  begin(engine: Engine): void {
    const life: Happening[] = [];
    this.#lives.push(life);
    this.#known = new Map();
    // Schedules that were due meanwhile have fired already.
    this.#firstId = engine.core.ids.reserveIds(0);
    engine.events.add({}, { push: (text, _sequence, count) => this.#happened(life, text, count) });
  }

  #happened(life: Happening[], text: string, count: number): void {
    const { count: _count, ...event } = JSON.parse(text) as Told & { count?: number };
    const firstId = parseTaskId(event.id);
    for (let id = firstId; id < firstId + count; id++) {
      const one = id === firstId ? event : { ...event, id: formatTaskId(id) };
      const happening = { text: JSON.stringify(one), event: one, id };
      this.#follows(happening);
      life.push(happening);
      this.#unchecked.push(happening);
    }
  }

  /** A handler has called `progress`. */
  progressed(id: string, attempt: number): void {
    this.#progressed.add(`${id} ${attempt}`);
  }

  /** A worker that came back keeps it. */
  kept(id: number): void {
    const known = this.#known.get(id);
    if (known !== undefined) known.isKept = true;
  }

  /** A server has confirmed it: what it says was told, or waits to be. */
  confirmed(id: number, type: 'enqueued' | 'completed' | 'cancelled'): void {
    if (this.#lives.length === 0) return;
    const known = this.#known.get(id);
    const isTold = type === 'enqueued' ? known !== undefined || id < this.#firstId : known?.phase === type;
    check(isTold, 'event-untold', `${formatTaskId(id)} was confirmed to be ${type}, and nobody is told`);
  }

  /** Nothing happens any more: whatever has ended was told to have. */
  checkEnds({ core }: Engine): void {
    for (const [id, { phase }] of this.#known) {
      const slot = core.index.get(id);
      const state = slot === NONE ? undefined : core.table.state(slot);
      if (state !== undefined && state < State.COMPLETED) continue;
      const isTold = state === undefined ? ENDS.has(phase) : phase === STATE_NAMES[state];
      const name = state === undefined ? 'gone' : STATE_NAMES[state];
      check(isTold, 'event-untold', `${formatTaskId(id)} is ${name}, and was told to be ${phase}`);
    }
  }

  /** Each event of a task is one that may come after those before it. */
  #follows({ event, id, text }: Happening): void {
    const { type } = event;
    const known = this.#known.get(id);
    const isNew = id >= this.#firstId;
    if (known === undefined) check(isNew === (type === 'enqueued'), 'event-order', `${text} is the first of its task`);
    const attempt = 'attempt' in event ? event.attempt : (known?.attempt ?? 0);
    const { phase, attempt: before } = known ?? { phase: undefined, attempt };
    const after = `${text} after ${phase} in attempt ${before}`;
    const isRevived = this.#model.task(id)?.revived === true;
    const hasEnded = phase === 'completed' || phase === 'cancelled' || (phase === 'dead' && !isRevived);
    check(!hasEnded, 'event-after-end', after);
    const runs = phase === 'running' && attempt === before;
    switch (type) {
      case 'enqueued':
        check(known === undefined, 'event-order', after);
        this.#become(id, 'waiting', 0);
        return;
      case 'started': {
        const isKept = known?.isKept === true && attempt === before;
        const isNext = phase === undefined || attempt === before + (phase === 'failed' || before === 0 ? 1 : 0);
        const isFree = phase !== 'running' && (isNext || (phase === 'lost' && attempt === before + 1));
        check(isKept || isFree || (isRevived && phase !== 'running'), 'event-order', after);
        this.#become(id, 'running', attempt);
        return;
      }
      case 'progress':
        check(runs, 'event-order', after);
        return;
      case 'completed':
        check(runs, 'event-order', after);
        this.#become(id, 'completed', attempt);
        return;
      case 'failed':
        check(runs, 'event-order', after);
        this.#become(id, event.error.code === 'WORKER_LOST' ? 'lost' : 'failed', attempt);
        return;
      case 'dead':
        check((phase === 'failed' || phase === 'lost') && attempt === before, 'event-order', after);
        this.#become(id, 'dead', attempt);
        return;
      case 'released':
        check(runs, 'event-order', after);
        this.#become(id, 'waiting', attempt);
        return;
      case 'cancelled':
        this.#become(id, 'cancelled', attempt);
        return;
      default:
        event satisfies never;
    }
  }

  #become(id: number, phase: Known['phase'], attempt: number): void {
    this.#known.set(id, { phase, attempt, isKept: false });
  }

  /** Call after each event of the world, when all frames of it have been seen: nothing is told that nobody did. */
  afterEvent(): void {
    for (const { event, id, text } of this.#unchecked.splice(0)) {
      const task = this.#model.task(id);
      if (task !== undefined) {
        const { queue, name } = task.spec;
        check(event.queue === queue && event.name === name, 'event-invented', `${text} is of ${name} in ${queue}`);
      }
      check(
        this.#mayBe(event, task),
        'event-invented',
        `${text}, of ${JSON.stringify({ ...task, holder: undefined })}`,
      );
    }
  }

  /** By what clients and workers have sent. A task whose id nobody has heard yet waits. */
  #mayBe(event: Told, task: TaskFacts | undefined): boolean {
    switch (event.type) {
      case 'enqueued':
        return true;
      case 'cancelled':
        return task === undefined || this.#model.mayBeOver(task.key);
      case 'progress':
        return this.#progressed.has(`${event.id} ${event.attempt}`);
      case 'completed':
        return task?.mayHaveCompleted === true;
      case 'started':
        return task !== undefined && task.token > 0 && (task.revived || event.attempt <= task.attemptsMax + 1);
      case 'failed':
        return task !== undefined && (task.revived || event.attempt <= task.attemptsMax);
      case 'dead':
        return task?.mayHaveEnded === true;
      case 'released':
        return task !== undefined && task.token > 0;
      default:
        event satisfies never;
        return false;
    }
  }

  // ── What stays ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A server has sent it to a client: what it says is on disk. */
  told(event: TaskEvent & { readonly count?: number | null }): void {
    if (event.type === 'dropped') return;
    const { type, queue } = event;
    // A task may start while its enqueue is on its way to the disk; who has not heard of that one hears of the start all the same.
    if (type === 'started' || type === 'progress' || type === 'released') return;
    const firstId = parseTaskId(event.id);
    for (let id = firstId; id < firstId + (event.count ?? 1); id++) {
      const stays = this.#stays.get(id) ?? { queue, end: undefined, attempts: 0 };
      this.#stays.set(id, stays);
      if (type === 'completed' || type === 'dead' || type === 'cancelled') stays.end = type;
      // Losing a worker is taken back when it returns.
      if (type === 'failed' && event.error.code !== 'WORKER_LOST') stays.attempts = event.attempt;
    }
  }

  /** A server has read its disk. */
  recovered({ core }: Engine): void {
    for (const [id, { queue, end, attempts }] of this.#stays) {
      const task = this.#model.task(id);
      const slot = core.index.get(id);
      const what = `${formatTaskId(id)} (${task?.key})`;
      if (slot === NONE) {
        const isExcused = this.#forgets || this.#model.mayBePurged(id, queue);
        check(isExcused, 'told-lost', `${what} was told of in ${queue}, and is not there after a restart`);
        continue;
      }
      if (task?.revived === true) continue;
      const state = STATE_NAMES[core.table.state(slot)];
      check(end === undefined || state === end, 'told-lost', `${what} was told to be ${end}, and is ${state}`);
      const known = core.table.attempts(slot);
      check(
        known >= attempts,
        'told-lost',
        `${what} was told to have failed ${attempts} times, and has ${known} times`,
      );
    }
  }

  // ── Streams ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What happens from here on comes after it. */
  get now(): Place {
    const life = this.#lives.length - 1;
    return { life, at: this.#lives[life]?.length ?? 0 };
  }

  /** Somebody's stream is open, who has asked for it then. */
  open(filter: StreamFilter, askedAt: Place): EventStream {
    this.counts.streams++;
    const stream = new EventStream(this.#lives, filter, askedAt, this.now);
    this.#streams.add(stream);
    return stream;
  }

  /** It was taken from a stream. */
  heard(stream: EventStream, event: TaskEvent): void {
    if (event.type !== 'dropped') this.counts.told++;
    else if (event.count === null) this.counts.gaps++;
    else this.counts.dropped += event.count;
    stream.heard(event, this.now);
  }

  /** It has ended, or with its process. */
  close(stream: EventStream): void {
    this.#streams.delete(stream);
  }

  /** Of a stream that has not been told everything yet. */
  get behind(): string | undefined {
    for (const stream of this.#streams) {
      const left = stream.behind(this.now);
      if (left !== undefined) return left;
    }
    return undefined;
  }
}
