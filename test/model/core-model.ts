import type { RetentionPolicy } from '../../src/core/queue.ts';
import { LIMITS, type QueueLimits } from '../../src/limits.ts';
import { FlowModel } from './flow-model.ts';

/**
 * What the core should do, said plainly: objects, arrays and maps, searched from one end to the other. It knows nothing of
 * slots, lists through a table, heaps or rings.
 */
export type ModelState = 'scheduled' | 'ready' | 'active' | 'completed' | 'dead' | 'cancelled';

export interface ModelKind {
  key: string;
  queue: string;
  name: string;
  priority: number;
  maxAttempts: number;
  timeoutMs: number;
  /** '' is none. */
  concurrencyKey: string;
}

export interface ModelFailure {
  attempt: number;
  atMs: number;
  segment: number;
  offset: number;
}

export interface ModelTask {
  id: number;
  kind: ModelKind;
  state: ModelState;
  attempts: number;
  segment: number;
  offset: number;
  bytes: number;
  enqueuedAtMs: number;
  /** Scheduled: when it is due, by which clock, and the order among equals. */
  dueMs: number;
  wall: boolean;
  scheduledOrder: number;
  /** Finished: when. */
  atMs: number;
  result: { segment: number; offset: number } | undefined;
  failures: ModelFailure[];
  cancelRequested: boolean;
  watched: boolean;
  /** The newest failure was a lost worker. */
  lost: boolean;
  worker: ModelWorker | undefined;
  /** Active, and waits for its worker to come back. */
  aside: boolean;
  token: number;
  /** 0 until it has begun at its worker. */
  deadlineMs: number;
  deliveredBefore: boolean;
  /** Never waited for a time: it must be delivered in the order of ids. */
  immediate: boolean;
}

export interface ModelWorker {
  index: number;
  queues: string[];
  concurrency: number;
  prefetch: number;
  /** In the order of delivery. */
  held: ModelTask[];
  /** What it must be busy with, although it has not said so. */
  presumed: ModelTask | undefined;
  /** It was asked whether it is there. */
  probed: boolean;
  silent: boolean;
}

export interface ModelQueue {
  name: string;
  ready: Map<number, ModelTask[]>;
  finished: ModelTask[];
  dead: ModelTask[];
  paused: boolean;
  retention: RetentionPolicy;
  readonly flow: FlowModel;
  totals: { enqueued: number; completed: number; failed: number; dead: number; cancelled: number };
}

export class CoreModel {
  readonly tasks = new Map<number, ModelTask>();
  readonly queues = new Map<string, ModelQueue>();
  readonly workers: ModelWorker[] = [];
  readonly finishedEvents: string[] = [];
  readonly #retention: RetentionPolicy;
  readonly #graceMs: number;
  #scheduledCount = 0;

  constructor(retention: RetentionPolicy, graceMs: number) {
    this.#retention = retention;
    this.#graceMs = graceMs;
  }

  queue(name: string): ModelQueue {
    let queue = this.queues.get(name);
    if (queue === undefined) {
      queue = {
        name,
        ready: new Map(),
        finished: [],
        dead: [],
        paused: false,
        retention: this.#retention,
        flow: new FlowModel(),
        totals: { enqueued: 0, completed: 0, failed: 0, dead: 0, cancelled: 0 },
      };
      this.queues.set(name, queue);
    }
    return queue;
  }

  in(queue: string, state: ModelState): ModelTask[] {
    return [...this.tasks.values()].filter((task) => task.kind.queue === queue && task.state === state);
  }

  /** The queue's ready tasks in the order in which they would be delivered without keys. */
  readyOrder(name: string): ModelTask[] {
    const { ready } = this.queue(name);
    return [...ready.keys()].sort((a, b) => b - a).flatMap((priority) => ready.get(priority) as ModelTask[]);
  }

  /** Those of which any may be delivered next; without keys one at most. */
  next(name: string, nowMs: number): ModelTask[] {
    return this.queue(name).flow.next(this.readyOrder(name), this.in(name, 'active'), nowMs);
  }

  /** References by segment. */
  references(): Map<number, number> {
    const counts = new Map<number, number>();
    const count = (segment: number): void => {
      counts.set(segment, (counts.get(segment) ?? 0) + 1);
    };
    for (const task of this.tasks.values()) {
      count(task.segment);
      if (task.result !== undefined) count(task.result.segment);
      for (const failure of task.failures) count(failure.segment);
    }
    return counts;
  }

  enqueue(
    kind: ModelKind,
    task: { id: number; segment: number; offset: number; bytes: number; atMs: number; dueMs: number; wall: boolean },
  ): void {
    const queue = this.queue(kind.queue);
    queue.totals.enqueued++;
    const added: ModelTask = {
      id: task.id,
      kind,
      state: 'ready',
      attempts: 0,
      segment: task.segment,
      offset: task.offset,
      bytes: task.bytes,
      enqueuedAtMs: task.atMs,
      dueMs: 0,
      wall: task.wall,
      scheduledOrder: 0,
      atMs: 0,
      result: undefined,
      failures: [],
      cancelRequested: false,
      watched: false,
      lost: false,
      worker: undefined,
      aside: false,
      token: 0,
      deadlineMs: 0,
      deliveredBefore: false,
      immediate: task.dueMs === 0,
    };
    this.tasks.set(task.id, added);
    if (task.dueMs === 0) this.#makeReady(added, 'back');
    else this.#schedule(added, task.dueMs, task.wall);
  }

  addWorker(index: number, queues: string[], concurrency: number, prefetch: number): ModelWorker {
    for (const name of queues) this.queue(name);
    const worker: ModelWorker = {
      index,
      queues,
      concurrency,
      prefetch,
      held: [],
      presumed: undefined,
      probed: false,
      silent: false,
    };
    this.workers.push(worker);
    return worker;
  }

  removeWorker(worker: ModelWorker): void {
    this.workers.splice(this.workers.indexOf(worker), 1);
  }

  /** One of those that `next` names. */
  handOut(worker: ModelWorker, task: ModelTask, token: number, nowMs: number): void {
    const { queue: name } = task.kind;
    this.queue(name).flow.goes(task, this.readyOrder(name), this.in(name, 'active'), nowMs);
    this.#give(worker, task, token);
  }

  #give(worker: ModelWorker, task: ModelTask, token: number): void {
    this.#leave(task);
    task.state = 'active';
    task.worker = worker;
    task.token = token;
    task.deliveredBefore = true;
    worker.held.push(task);
  }

  /** The worker has begun the first `count` tasks that it holds. */
  begin(worker: ModelWorker, count: number, nowMs: number): void {
    for (const task of worker.held.slice(0, count)) {
      if (task.deadlineMs === 0 || task === worker.presumed) this.#begin(task, nowMs);
      if (task === worker.presumed) {
        worker.presumed = undefined;
        worker.probed = false;
      }
    }
  }

  probe(worker: ModelWorker, nowMs: number): void {
    worker.probed = true;
    (worker.presumed as ModelTask).deadlineMs = nowMs + this.#graceMs;
  }

  heard(worker: ModelWorker, nowMs: number): void {
    if (worker.probed) this.#begin(worker.presumed as ModelTask, nowMs);
    worker.probed = false;
    worker.silent = false;
  }

  /** What it has not begun, in the order of delivery. */
  unbegun(worker: ModelWorker): ModelTask[] {
    return worker.held.filter((task) => task.deadlineMs === 0 || task === worker.presumed);
  }

  setAside(task: ModelTask, nowMs: number, graceMs: number): void {
    this.#leave(task);
    task.worker = undefined;
    task.aside = true;
    task.deadlineMs = nowMs + graceMs;
  }

  presume(nowMs: number): void {
    for (const worker of this.workers) {
      const next = worker.held.find((task) => task.deadlineMs === 0);
      const begun = worker.held.filter((task) => task.deadlineMs > 0).length;
      if (worker.presumed !== undefined || next === undefined || begun >= worker.concurrency) continue;
      worker.presumed = next;
      this.#begin(next, nowMs);
    }
  }

  complete(task: ModelTask, atMs: number, result: { segment: number; offset: number } | undefined): void {
    this.#leave(task);
    this.queue(task.kind.queue).totals.completed++;
    task.result = result;
    this.#finish(task, 'completed', atMs);
  }

  /** What becomes of a failed attempt. `delayMs` undefined: the backoff decides. */
  fail(
    task: ModelTask,
    place: { segment: number; offset: number },
    options: { final: boolean; delayMs: number; lost: boolean; atMs: number },
  ): 'retry' | 'dead' | 'cancelled' {
    const queue = this.queue(task.kind.queue);
    this.#leave(task);
    task.attempts++;
    queue.totals.failed++;
    task.failures.push({ attempt: task.attempts, atMs: options.atMs, ...place });
    if (task.failures.length > LIMITS.attemptsKeptMax) task.failures.shift();
    task.lost = false;
    if (task.cancelRequested) {
      queue.totals.cancelled++;
      this.#finish(task, 'cancelled', options.atMs);
      return 'cancelled';
    }
    if (options.final || task.attempts >= task.kind.maxAttempts) {
      queue.totals.dead++;
      this.#finish(task, 'dead', options.atMs);
      return 'dead';
    }
    task.lost = options.lost;
    if (options.delayMs > 0) this.#schedule(task, options.atMs + options.delayMs, false);
    else this.#makeReady(task, options.lost ? 'front' : 'back');
    return 'retry';
  }

  release(task: ModelTask): void {
    this.#leave(task);
    this.#makeReady(task, 'front');
  }

  cancel(task: ModelTask, atMs: number): void {
    if (task.state === 'active' && !task.aside && !task.cancelRequested) {
      task.cancelRequested = true;
      return;
    }
    this.#leave(task);
    this.queue(task.kind.queue).totals.cancelled++;
    this.#finish(task, 'cancelled', atMs);
  }

  retry(task: ModelTask): void {
    if (task.state === 'dead') task.attempts = 0;
    task.lost = false;
    task.immediate = false;
    this.#leave(task);
    this.#makeReady(task, 'back');
  }

  purge(task: ModelTask): void {
    this.#leave(task);
    this.queue(task.kind.queue).totals.cancelled++;
    if (task.watched) this.finishedEvents.push(`${task.id} cancelled`);
    this.tasks.delete(task.id);
  }

  /**
   * Whether a worker that came back keeps the task with its next attempt, or with the last that was counted; undefined: no.
   * True: losing that worker was counted. What is set aside was not counted, though losing another before may have been.
   */
  resumes(worker: ModelWorker, task: ModelTask, which: 'next' | 'last' | 'unknown'): boolean | undefined {
    if (!worker.queues.includes(task.kind.queue)) return undefined;
    if (task.aside) return which === 'last' ? undefined : false;
    if (task.state !== 'ready') return undefined;
    if (which === 'next') return false;
    return task.lost || which === 'unknown' ? task.lost : undefined;
  }

  /** It keeps it, whatever the limits. */
  resume(worker: ModelWorker, task: ModelTask, token: number, charged: boolean): void {
    this.#give(worker, task, token);
    if (!charged) return;
    task.lost = false;
    task.attempts--;
    task.failures.pop();
    this.queue(task.kind.queue).totals.failed--;
  }

  setRetention(name: string, retention: RetentionPolicy): void {
    const queue = this.queue(name);
    queue.retention = retention;
    this.#enforceCounts(queue);
  }

  setLimits(name: string, limits: QueueLimits): void {
    this.queue(name).flow.setLimits(limits);
  }

  /** At most `countMax` tasks, those of the steady clock first. */
  tick(steadyMs: number, wallMs: number, countMax: number): void {
    const due = [...this.tasks.values()]
      .filter((task) => task.state === 'scheduled' && task.dueMs <= (task.wall ? wallMs : steadyMs))
      .sort((a, b) => Number(a.wall) - Number(b.wall) || a.dueMs - b.dueMs || a.scheduledOrder - b.scheduledOrder);
    for (const task of due.slice(0, countMax)) {
      this.#leave(task);
      this.#makeReady(task, 'back');
    }
  }

  nextMs(wall: boolean): number {
    const scheduled = [...this.tasks.values()].filter((task) => task.state === 'scheduled' && task.wall === wall);
    const deadlines = [...this.tasks.values()].filter((task) => task.deadlineMs > 0 && !wall);
    return Math.min(...scheduled.map((task) => task.dueMs), ...deadlines.map((task) => task.deadlineMs));
  }

  overdue(steadyMs: number): ModelTask[] {
    return [...this.tasks.values()].filter((task) => task.deadlineMs > 0 && task.deadlineMs <= steadyMs);
  }

  expire(steadyMs: number): void {
    for (const queue of this.queues.values()) {
      const { completedAgeMs, deadAgeMs } = queue.retention;
      while (queue.finished.length > 0 && queue.finished[0].atMs + completedAgeMs <= steadyMs)
        this.#evict(queue.finished);
      while (queue.dead.length > 0 && queue.dead[0].atMs + deadAgeMs <= steadyMs) this.#evict(queue.dead);
    }
  }

  #leave(task: ModelTask): void {
    const queue = this.queue(task.kind.queue);
    switch (task.state) {
      case 'ready':
        without(queue.ready.get(task.kind.priority) as ModelTask[], task);
        break;
      case 'active': {
        if (task.aside) {
          task.aside = false;
          task.deadlineMs = 0;
          break;
        }
        const worker = task.worker as ModelWorker;
        without(worker.held, task);
        task.worker = undefined;
        task.deadlineMs = 0;
        if (worker.presumed === task) {
          worker.presumed = undefined;
          worker.probed = false;
        }
        break;
      }
      case 'completed':
      case 'cancelled':
        without(queue.finished, task);
        task.result = undefined;
        break;
      case 'dead':
        without(queue.dead, task);
        break;
      case 'scheduled':
        break;
      default:
        task.state satisfies never;
    }
  }

  #begin(task: ModelTask, nowMs: number): void {
    task.deadlineMs = nowMs + task.kind.timeoutMs + this.#graceMs;
  }

  #makeReady(task: ModelTask, end: 'front' | 'back'): void {
    task.state = 'ready';
    const { ready } = this.queue(task.kind.queue);
    const list = ready.get(task.kind.priority) ?? [];
    ready.set(task.kind.priority, list);
    if (end === 'front') list.unshift(task);
    else list.push(task);
  }

  #schedule(task: ModelTask, dueMs: number, wall: boolean): void {
    task.state = 'scheduled';
    task.dueMs = dueMs;
    task.wall = wall;
    task.immediate = false;
    task.scheduledOrder = this.#scheduledCount++;
  }

  #finish(task: ModelTask, state: 'completed' | 'dead' | 'cancelled', atMs: number): void {
    const queue = this.queue(task.kind.queue);
    task.state = state;
    task.atMs = atMs;
    (state === 'dead' ? queue.dead : queue.finished).push(task);
    if (task.watched) this.finishedEvents.push(`${task.id} ${state}`);
    task.watched = false;
    this.#enforceCounts(queue);
  }

  #enforceCounts(queue: ModelQueue): void {
    while (queue.finished.length > queue.retention.completedCountMax) this.#evict(queue.finished);
    while (queue.dead.length > queue.retention.deadCountMax) this.#evict(queue.dead);
  }

  #evict(history: ModelTask[]): void {
    const task = history.shift() as ModelTask;
    this.tasks.delete(task.id);
  }
}

function without(list: ModelTask[], task: ModelTask): void {
  list.splice(list.indexOf(task), 1);
}
