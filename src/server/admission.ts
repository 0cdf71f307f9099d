import type { Grant, Role } from '../access/grant.ts';
import { NONE } from '../core/task-table.ts';
import type { Engine } from '../engine/engine.ts';
import type { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import { EnqueueReader } from '../protocol/batch.ts';
import { queueOfSpec } from '../protocol/spec.ts';
import { parseRelations, splitSubmission } from '../protocol/submission.ts';
import { Room } from './room.ts';

const ENQUEUE = 'enqueueing';
const PRODUCE: readonly Role[] = ['produce'];
const READ: readonly Role[] = ['read'];
const WORK: readonly Role[] = ['work'];
const WAIT: readonly Role[] = ['produce', 'read'];

/**
 * What the frames of one connection need, beside calls (call-access.ts). A grant for all queues is one look a frame; one for
 * some queues costs a look at each section of a batch, never at each task.
 */
export class Admission {
  readonly #engine: Engine;
  readonly #room: Room;
  readonly #reader = new EnqueueReader();

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#room = new Room(engine.core);
  }

  /** Throws FORBIDDEN, QUEUE_FULL, and what the reader throws for a body that is none. */
  checkEnqueue(grant: Grant, producer: string, buffer: Buffer, start: number, end: number): void {
    grant.checkRole(PRODUCE, ENQUEUE);
    if (grant.ofAllQueues) return;
    const { core } = this.#engine;
    const reader = this.#reader;
    const queues = new Set<string>();
    const kinds = new Set<string>();
    reader.open(buffer, start, end);
    while (reader.next()) {
      const queue = queueOfSpec(buffer, reader.specStart, reader.specEnd);
      grant.check(PRODUCE, queue, ENQUEUE);
      const key = buffer.toString('latin1', reader.specStart, reader.specEnd);
      if (core.knownKind(key) !== undefined) continue;
      queues.add(queue);
      kinds.add(key);
    }
    // One that is sent again is answered with what it was given, however full it is by now.
    if (core.producers.find(producer, reader.batch) !== -1) return;
    this.#room.checkQueues(grant, queues);
    this.#room.check(grant, 'kinds', kinds.size);
    this.#room.check(grant, 'tasks', reader.taskCount);
  }

  /** What is enqueued, and what it depends on. Throws FORBIDDEN, NOT_FOUND, QUEUE_FULL, and what the readers throw for a body that is none. */
  checkSubmit(grant: Grant, producer: string, buffer: Buffer, start: number, end: number): void {
    grant.checkRole(PRODUCE, ENQUEUE);
    if (grant.ofAllQueues) return;
    const { enqueueEnd, relations } = splitSubmission(buffer, start, end);
    this.checkEnqueue(grant, producer, buffer, start, enqueueEnd);
    const { taskCount, batch } = this.#reader;
    const isKnown = this.#engine.core.producers.find(producer, batch) !== -1;
    let dependencies = 0;
    let uniqueKeys = 0;
    for (const { dependsOn, unique } of parseRelations(relations, taskCount)) {
      dependencies += dependsOn.length;
      if (unique !== undefined) uniqueKeys++;
      // Those that were there when it came first may have gone.
      if (isKnown) continue;
      for (const { index, id } of dependsOn) if (index < 0) checkTask(grant, this.#engine, PRODUCE, id, ENQUEUE);
    }
    if (isKnown) return;
    this.#room.check(grant, 'dependencies', dependencies);
    this.#room.check(grant, 'uniqueKeys', uniqueKeys);
  }

  /** Throws FORBIDDEN and QUEUE_FULL. */
  checkSubscribe(grant: Grant, queues: readonly string[]): void {
    for (const queue of queues) grant.check(WORK, queue, 'taking tasks');
    this.#room.checkQueues(grant, queues);
  }

  /** Whether the task is there, for whoever has the grant: that somebody names it is not enough, ids and tokens can be guessed. */
  covers(grant: Grant, id: number): boolean {
    if (grant.ofAllQueues) return true;
    const queue = queueOfTask(this.#engine, id);
    return queue !== undefined && grant.covers(queue);
  }

  /** Throws FORBIDDEN, and NOT_FOUND for a task of which nobody can say whose it is. */
  checkWatch(grant: Grant, { queue, id }: { queue?: string; id?: number }): void {
    const act = 'watching events';
    if (id !== undefined) checkTask(grant, this.#engine, READ, id, act);
    else if (queue !== undefined) grant.check(READ, queue, act);
    else grant.checkWhole(READ, act);
  }

  /**
   * Why one may wait for no result. Who enqueued a task is not remembered: who may enqueue into a queue may wait for what becomes of
   * its tasks.
   */
  refuseWaits(grant: Grant): MillraceError | undefined {
    return grant.has(WAIT) ? undefined : grant.refusal(WAIT, 'waiting for a result');
  }
}

/** Undefined when there is no such task, or it is no longer retained. */
export function queueOfTask({ core }: Engine, id: number): string | undefined {
  const slot = core.index.get(id);
  return slot === NONE ? undefined : core.kindOf(slot).spec.queue;
}

/** Throws FORBIDDEN without the role, and NOT_FOUND for a task that is not there, or not in a queue of the grant. */
export function checkTask(grant: Grant, engine: Engine, roles: readonly Role[], id: number, act: string): void {
  grant.checkRole(roles, act);
  if (grant.ofAllQueues) return;
  const queue = queueOfTask(engine, id);
  if (queue === undefined || !grant.covers(queue)) throw grant.unseen(`task ${formatTaskId(id)}`);
}
