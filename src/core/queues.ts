import { invariant, MillraceError } from '../errors.ts';
import { LIMITS, type QueueLimits } from '../limits.ts';
import type { Assignments } from './assignments.ts';
import { Queue, type RetentionPolicy } from './queue.ts';
import type { TaskTable } from './task-table.ts';
import { CoreWorker } from './worker.ts';

/** All queues, who listens to them, and which of them have become able to deliver. */
export class Queues {
  readonly #table: TaskTable;
  readonly #retention: RetentionPolicy;
  readonly #assignments: Assignments;
  readonly #isLoading: () => boolean;
  readonly #byName = new Map<string, Queue>();
  /** Those that wait for a token of their rate. */
  readonly #paced = new Set<Queue>();
  #workerCount = 0;
  /** Queues that have become able to deliver since the owner last emptied this. */
  readonly marked: Queue[] = [];

  constructor(
    table: TaskTable,
    assignments: Assignments,
    { retention, isLoading }: { retention: RetentionPolicy; isLoading: () => boolean },
  ) {
    this.#table = table;
    this.#assignments = assignments;
    this.#retention = retention;
    this.#isLoading = isLoading;
  }

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): Queue | undefined {
    return this.#byName.get(name);
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  names(): Iterable<string> {
    return this.#byName.keys();
  }

  values(): Iterable<Queue> {
    return this.#byName.values();
  }

  /**
   * The queue, made if it is new. Throws QUEUE_FULL when there are too many; not while loading, when what had expired is
   * there again for a while.
   */
  open(name: string): Queue {
    return this.#byName.get(name) ?? this.#add(name);
  }

  #add(name: string): Queue {
    if (this.#byName.size >= LIMITS.queuesMax) {
      for (const each of this.#byName.values()) if (each.unused) this.#byName.delete(each.name);
    }
    if (this.#byName.size >= LIMITS.queuesMax && !this.#isLoading()) {
      throw new MillraceError(
        'QUEUE_FULL',
        `queue ${JSON.stringify(name)} would be one more than the ${LIMITS.queuesMax} allowed; use fewer queues`,
        { details: { queue: name, bound: LIMITS.queuesMax } },
      );
    }
    const queue = new Queue(name, this.#table, this.#retention);
    this.#byName.set(name, queue);
    return queue;
  }

  // ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Throws QUEUE_FULL. */
  addWorker(names: readonly string[], concurrency: number, prefetch: number, nowMs: number): CoreWorker {
    const worker = new CoreWorker(this.#workerCount++, [], concurrency, prefetch, nowMs);
    try {
      for (const name of names) {
        const queue = this.open(name);
        // At once: a queue without workers may be dropped to make room for the next name.
        queue.workers.push(worker);
        worker.queues.push(queue);
      }
    } catch (error) {
      leaveQueues(worker);
      throw error;
    }
    this.#assignments.workers.set(worker.index, worker);
    this.markQueuesOf(worker);
    return worker;
  }

  /** Only once it holds nothing. */
  removeWorker(worker: CoreWorker): void {
    invariant(worker.held === 0, 'a worker that leaves holds nothing');
    leaveQueues(worker);
    this.#assignments.workers.delete(worker.index);
  }

  // ── Able to deliver ───────────────────────────────────────────────────────────────────────────────────────────────

  mark(queue: Queue): void {
    if (queue.marked || queue.paused || queue.ready === 0 || queue.workers.length === 0) return;
    queue.marked = true;
    this.marked.push(queue);
  }

  /** The worker may take more. */
  markQueuesOf(worker: CoreWorker): void {
    for (const queue of worker.queues) this.mark(queue);
  }

  // ── Limits ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Undefined: none any more. */
  setLimits(queue: Queue, limits: QueueLimits | undefined, nowMs: number): void {
    queue.setLimits(limits, nowMs);
    this.mark(queue);
  }

  /** So many of its tasks were just handed out. */
  spend(queue: Queue, count: number): void {
    const { bucket } = queue;
    if (bucket === undefined) return;
    bucket.spend(count);
    if (bucket.isEmpty) this.#paced.add(queue);
  }

  /** When a queue that waits for its rate may deliver again, as steady time; Infinity for never. */
  nextPacedMs(): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { bucket } of this.#paced) nextMs = Math.min(nextMs, bucket?.nextMs ?? 0);
    return nextMs;
  }

  markPaced(steadyMs: number): void {
    for (const queue of this.#paced) {
      if ((queue.bucket?.nextMs ?? 0) > steadyMs) continue;
      this.#paced.delete(queue);
      this.mark(queue);
    }
  }
}

function leaveQueues(worker: CoreWorker): void {
  for (const queue of worker.queues) queue.workers.splice(queue.workers.indexOf(worker), 1);
}
