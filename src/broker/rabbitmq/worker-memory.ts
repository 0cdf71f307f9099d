import { TaskLogs } from '../../engine/task-logs.ts';
import { MillraceError } from '../../errors.ts';
import type { Clock, Timer } from '../../io/clock.ts';
import { LatencyWindow } from '../../io/histogram.ts';
import { VERSION } from '../../version.ts';
import type { ConsumeOptions } from '../contract.ts';
import type { Arrival, End, EndReport, Store, Verdict, WorkerBeat } from '../store.ts';
import type { TaskEnd } from './ends.ts';
import type { HeldTask } from './held-task.ts';
import type { Shared } from './shared.ts';

/**
 * What a store remembers of one worker and its tasks: which have begun, how they ended, and that it lives. A store that
 * cannot be reached is asked again, with growing pauses, until the worker ends: nothing is begun and nothing acknowledged
 * meanwhile, so the broker gives it no more than its prefetch. What it will never take is told to whoever asked, apart from
 * what was asked together with it.
 */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5000;
const BEAT_MS = 2000;
/** A latency window has slices of ten seconds. */
const BEATS_PER_SLICE = 5;
/** Calls under way at the same time; what comes meanwhile goes into the next together. */
const CALLS_MAX = 2;

export interface WorkerFigures {
  readonly held: number;
  readonly running: number;
  readonly completed: number;
  readonly failed: number;
  readonly started: WorkerBeat['started'];
}

export class WorkerMemory {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #id: string;
  readonly #shared: Shared;
  readonly #options: ConsumeOptions;
  readonly #figures: () => WorkerFigures;
  readonly #beginning: Gathered<HeldTask, Verdict[]>;
  readonly #ending: Gathered<TaskEnd, EndReport>;
  readonly #connectedAtMs: number;
  readonly #start = new LatencyWindow();
  readonly #total = new LatencyWindow();
  /** Of tasks that ran here: a store only takes what one worker has logged whole. */
  readonly #logs = new TaskLogs();
  #busyMs = 0;
  #busySinceMs: number;
  #running = 0;
  #beatMs: number;
  #beats = 0;
  #timer: Timer | undefined;
  #closed = false;
  readonly #wakers = new Set<() => void>();

  constructor(store: Store, shared: Shared, options: ConsumeOptions, figures: () => WorkerFigures) {
    this.#store = store;
    this.#clock = shared.clock;
    this.#id = shared.newId();
    this.#shared = shared;
    this.#options = options;
    this.#figures = figures;
    this.#connectedAtMs = Math.floor(shared.clock.wallMs());
    this.#beatMs = shared.clock.steadyMs();
    this.#busySinceMs = this.#beatMs;
    this.#beginning = new Gathered((tasks) => this.#insist(() => store.begin(this.#id, tasks.map(arrivalOf))));
    this.#ending = new Gathered((ends) =>
      this.#insist(() =>
        store.end(
          this.#id,
          ends.map((end) => endOf(end, options.workerName)),
        ),
      ),
    );
  }

  /** Connected: shown from now on. */
  open(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#beat();
  }

  /** Calls back in the order of the calls; for a task alone with why it is refused for good. Not at all when the worker has ended. */
  begin(tasks: readonly HeldTask[], known: Known<HeldTask, readonly Verdict[]>): void {
    this.#beginning.add(tasks, known);
  }

  /** Calls back when `begin` has for all before; at once when it has. */
  afterBegun(callback: () => void): void {
    this.#beginning.after(callback);
  }

  /** As `begin`. Resolved before the messages are acknowledged. */
  end(ends: readonly TaskEnd[], known: Known<TaskEnd, EndReport>): void {
    const nowMs = this.#clock.wallMs();
    for (const { kind, task } of ends) {
      if (kind === 'completed') this.#total.record(Math.max(nowMs - task.message.enqueuedAtMs, 0));
    }
    this.#ending.add(ends, known);
  }

  /** Somebody is to be told what starts. */
  get watched(): boolean {
    return this.#store.watched;
  }

  started(id: string, attempt: number): void {
    this.#store.started(id, attempt);
  }

  progress(id: string, progress: string): void {
    this.#store.progress(id, progress);
  }

  log(id: string, attempt: number, text: string): void {
    this.#logs.add(id, [{ atMs: Math.floor(this.#clock.wallMs()), attempt, text }]);
    this.#store.log(this.#id, id, () => this.#logs.of(id));
  }

  /** `running` tasks are handed out from now on; `started` of them are new. */
  changed(running: number, started: readonly HeldTask[]): void {
    const nowMs = this.#clock.steadyMs();
    this.#busyMs += (nowMs - this.#busySinceMs) * this.#running;
    this.#busySinceMs = nowMs;
    this.#running = running;
    const wallMs = this.#clock.wallMs();
    for (const { message } of started) this.#start.record(Math.max(wallMs - message.enqueuedAtMs, 0));
  }

  /** Says now what it would say a little later. */
  beat(): void {
    if (this.#timer === undefined || this.#closed) return;
    this.#timer.cancel();
    this.#beat();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    for (const wake of this.#wakers) wake();
    this.#store.left(this.#id);
  }

  #beat(): void {
    this.changed(this.#running, []);
    const nowMs = this.#clock.steadyMs();
    const { workerName, queues, concurrency, prefetch } = this.#options;
    const spanMs = Math.max(nowMs - this.#beatMs, 1);
    const beat: WorkerBeat = {
      id: this.#id,
      name: workerName,
      ...this.#shared.process,
      version: VERSION,
      ...this.#figures(),
      queues,
      concurrency,
      prefetch,
      utilisation: Math.min(this.#busyMs / (spanMs * concurrency), 1),
      connectedAtMs: this.#connectedAtMs,
      latencyMs: { start: this.#start.percentiles(), total: this.#total.percentiles() },
    };
    this.#busyMs = 0;
    this.#beatMs = nowMs;
    this.#store.heartbeat(beat);
    if (++this.#beats % BEATS_PER_SLICE === 0) {
      this.#start.rotate();
      this.#total.rotate();
    }
    this.#timer = this.#clock.setTimer(BEAT_MS, () => this.#beat());
    this.#timer.unref();
  }

  /** The error when the store will never take it; undefined when the worker ended first. */
  async #insist<T>(call: () => Promise<T>): Promise<T | MillraceError | undefined> {
    for (let pauseMs = RETRY_MS_MIN; !this.#closed; pauseMs = Math.min(pauseMs * 2, RETRY_MS_MAX)) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof MillraceError)) throw error;
        if (error.code === 'CLOSED') return undefined;
        if (error.code === 'INVALID_ARGUMENT') return error;
        // Whatever else it is, the messages stay with the broker until it is over.
      }
      await this.#pause(pauseMs);
    }
    return undefined;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.#wakers.delete(wake);
        resolve();
      };
      const timer = this.#clock.setTimer(ms, wake);
      this.#wakers.add(wake);
    });
  }
}

type Known<Item, Answer> = (items: readonly Item[], answer: Answer | MillraceError) => void;

interface Portion<Item, Answer> {
  readonly items: readonly Item[];
  readonly known: Known<Item, Answer>;
}

interface Told<Item, Answer> {
  readonly items: readonly Item[];
  readonly answer: Answer | MillraceError | undefined;
}

interface Afterwards {
  /** How many items had been added. */
  readonly added: number;
  readonly callback: () => void;
}

/** Few calls under way at a time, answered in their order. */
class Gathered<Item, Answer> {
  readonly #call: (items: readonly Item[]) => Promise<Answer | MillraceError | undefined>;
  #waiting: Portion<Item, Answer>[] = [];
  #underWay = 0;
  #last: Promise<void> = Promise.resolve();
  /** Items. */
  #added = 0;
  #known = 0;
  readonly #afterwards: Afterwards[] = [];

  constructor(call: (items: readonly Item[]) => Promise<Answer | MillraceError | undefined>) {
    this.#call = call;
  }

  add(items: readonly Item[], known: Known<Item, Answer>): void {
    this.#added += items.length;
    this.#waiting.push({ items, known });
    this.#next();
  }

  after(callback: () => void): void {
    if (this.#known === this.#added) callback();
    else this.#afterwards.push({ added: this.#added, callback });
  }

  #next(): void {
    if (this.#underWay >= CALLS_MAX || this.#waiting.length === 0) return;
    const { known } = this.#waiting[0] as Portion<Item, Answer>;
    const items = this.#waiting.flatMap((portion) => portion.items);
    this.#waiting = [];
    this.#underWay++;
    const answered = this.#ask(items);
    const before = this.#last;
    this.#last = (async () => {
      const told = await answered;
      await before;
      this.#underWay--;
      for (const part of told) if (part.answer !== undefined) known(part.items, part.answer);
      this.#known += items.length;
      while (this.#afterwards.length > 0 && (this.#afterwards[0] as Afterwards).added <= this.#known) {
        (this.#afterwards.shift() as Afterwards).callback();
      }
      this.#next();
    })();
  }

  /** What is refused for good is asked in halves, until what is to blame is alone. */
  async #ask(items: readonly Item[]): Promise<Told<Item, Answer>[]> {
    const answer = await this.#call(items);
    if (!(answer instanceof MillraceError) || items.length === 1) return [{ items, answer }];
    const middle = items.length >> 1;
    return [...(await this.#ask(items.slice(0, middle))), ...(await this.#ask(items.slice(middle)))];
  }
}

function arrivalOf({ message, attempt, redelivered }: HeldTask): Arrival {
  const { id, spec, payload, taskHeaders, enqueuedAtMs } = message;
  return { id, attempt, redelivered, spec, payload, headers: taskHeaders, enqueuedAtMs };
}

function endOf(end: TaskEnd, worker: string): End {
  const { task } = end;
  const { attempt } = task;
  const { id } = task.message;
  switch (end.kind) {
    case 'completed':
      return { id, attempt, kind: 'completed', result: end.result };
    case 'failed': {
      const { error, atMs, delayMs, startedAtMs } = end;
      const retryAtMs = delayMs > 0 ? Math.ceil(atMs + delayMs) : 0;
      return { id, attempt, kind: 'failed', error, atMs, retryAtMs, run: { worker, startedAtMs } };
    }
    case 'dead': {
      const { error, atMs, startedAtMs } = end;
      const dead = { id, attempt, kind: 'dead', error, atMs } as const;
      return startedAtMs === undefined ? dead : { ...dead, run: { worker, startedAtMs } };
    }
    case 'released':
      return { id, attempt, kind: 'released' };
    default:
      return end satisfies never;
  }
}
