import type { Core } from '../core/core.ts';
import {
  type Edge,
  type NewRelations,
  ON_FAILURE,
  type ParentEnd,
  type UniqueClaim,
  uniqueName,
} from '../core/relations.ts';
import { NONE } from '../core/task-table.ts';
import { MillraceError } from '../errors.ts';
import { formatTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import type { EnqueueReader } from '../protocol/batch.ts';
import { malformed } from '../protocol/bytes.ts';
import { checkCircles, type SubmittedRelations } from '../protocol/submission.ts';
import { applyEnqueue, kindOfSpec } from './state.ts';

/**
 * Tasks that have to do with others: what is asked for is checked against what exists, and becomes a plan without any
 * question left, which is journaled with the tasks and applied to the core, now and by each replay.
 */
export interface SubmissionPlan {
  /** Pairs of index and id: tasks that are not enqueued, because the one with that id has their key. */
  readonly existing: readonly (readonly [number, number])[];
  readonly tasks: readonly {
    readonly index: number;
    /** Triples of id, `ON_FAILURE` and `PARENT_END` as it is now. */
    readonly parents?: readonly (readonly [number, number, number])[];
    readonly unique?: Claimed;
  }[];
}

interface Claimed {
  readonly key: string;
  readonly scope: UniqueClaim['scope'];
  /** With the scope `time`. */
  readonly forMs?: number;
}

/** The queue of each task, and whether it is alone in its section. */
export interface Shape {
  readonly queues: readonly string[];
  readonly alone: readonly boolean[];
}

/**
 * Throws INVALID_ARGUMENT for a circle, NOT_FOUND for a parent that is not there, QUEUE_FULL, and PROTOCOL for a unique task
 * that is not alone in its section. `shape` is asked for keys only; `firstId` is the id that the first task will have.
 */
export function planSubmission(
  core: Core,
  relations: readonly SubmittedRelations[],
  shape: () => Shape,
  firstId: number,
  nowMs: number,
): SubmissionPlan {
  const unique = relations.filter((each) => each.unique !== undefined);
  const existing = unique.length === 0 ? NONE_EXISTS : findExisting(core, unique, shape(), firstId, nowMs);
  const added = relations.filter(({ index }) => !existing.has(index));
  checkRoom(core, added);
  checkCircles(added.map(({ index, dependsOn }) => [index, innerOf(dependsOn, existing)]));
  const tasks = added.map(({ index, dependsOn, unique }) => ({
    index,
    ...(dependsOn.length === 0 ? {} : { parents: parentsOf(core, index, dependsOn, existing, firstId) }),
    ...(unique === undefined ? {} : { unique: claimed(unique) }),
  }));
  return { existing: [...existing], tasks };
}

/** Without what need not be said: with LIMITS.recordBytesMax a plan fits into a record whose request fits into a frame. */
function claimed({ key, scope, forMs }: NonNullable<SubmittedRelations['unique']>): Claimed {
  return scope === 'time' ? { key, scope, forMs } : { key, scope };
}

const NONE_EXISTS: ReadonlyMap<number, number> = new Map();

/** By index: the ids of tasks that have the keys which these ask for. */
function findExisting(
  core: Core,
  relations: readonly SubmittedRelations[],
  { queues, alone }: Shape,
  firstId: number,
  nowMs: number,
): Map<number, number> {
  const existing = new Map<number, number>();
  const taken = new Map<string, number>();
  for (const { index, unique } of relations) {
    if (unique === undefined) continue;
    if (!alone[index]) throw malformed(`task ${index} has a unique key and shares its section`);
    const queue = queues[index] as string;
    const name = uniqueName(queue, unique.key);
    const known = taken.get(name) ?? core.relations.holder(queue, unique.key, nowMs);
    if (known >= 0) existing.set(index, known);
    else taken.set(name, firstId + index);
  }
  return existing;
}

/** Those that come with it, and are new. */
function innerOf(dependsOn: SubmittedRelations['dependsOn'], existing: ReadonlyMap<number, number>): number[] {
  return dependsOn.flatMap(({ index }) => (index >= 0 && !existing.has(index) ? [index] : []));
}

function parentsOf(
  core: Core,
  index: number,
  dependsOn: SubmittedRelations['dependsOn'],
  existing: ReadonlyMap<number, number>,
  firstId: number,
): [number, number, number][] {
  const parents = new Map<number, [number, number, number]>();
  for (const parent of dependsOn) {
    const id = parent.index < 0 ? parent.id : (existing.get(parent.index) ?? firstId + parent.index);
    if (parent.index < 0) checkParent(core, index, id);
    // Two of them may turn out to be the same unique task.
    if (parents.has(id)) continue;
    parents.set(id, [id, ON_FAILURE[parent.onFailure], core.relations.endOf(id)]);
  }
  return [...parents.values()];
}

function checkParent(core: Core, index: number, id: number): void {
  if (core.index.get(id) === NONE) {
    const message = `task ${formatTaskId(id)} is to be depended on, and does not exist, or has ended and is no longer retained: enqueue what depends on a task while that is there, or raise the retention of its queue`;
    throw new MillraceError('NOT_FOUND', message, { details: { index, id: formatTaskId(id) } });
  }
  const bound = LIMITS.dependenciesMax;
  if (core.relations.childCount(id) < bound) return;
  const message = `${bound} tasks depend on task ${formatTaskId(id)} already, which is the limit: put tasks between that some of them depend on each`;
  throw new MillraceError('QUEUE_FULL', message, { details: { id: formatTaskId(id), bound } });
}

function checkRoom(core: Core, added: readonly SubmittedRelations[]): void {
  let edges = core.relations.edgeCount;
  let keys = core.relations.uniqueCount;
  for (const { dependsOn, unique } of added) {
    edges += dependsOn.length;
    if (unique !== undefined) keys++;
  }
  if (edges > LIMITS.relationsMax) throw full(edges, LIMITS.relationsMax, 'dependencies');
  if (keys > LIMITS.uniqueKeysMax) throw full(keys, LIMITS.uniqueKeysMax, 'unique keys');
}

function full(count: number, bound: number, what: string): MillraceError {
  const message = `the server would hold ${count} ${what}; at most ${bound} are allowed: let tasks end, or lower the retention of their queues`;
  return new MillraceError('QUEUE_FULL', message, { details: { count, bound } });
}

/** The queues of the tasks of an ENQUEUE body, and which are alone. The body was checked before. */
export function shapeOf(core: Core, reader: EnqueueReader, buffer: Buffer, start: number, end: number): Shape {
  const queues: string[] = [];
  const alone: boolean[] = [];
  reader.open(buffer, start, end);
  while (reader.next()) {
    const { queue } = kindOfSpec(core, buffer, reader.specStart, reader.specEnd).spec;
    for (let i = 0; i < reader.count; i++) {
      queues.push(queue);
      alone.push(reader.count === 1);
    }
  }
  return { queues, alone };
}

/** Applies an ENQUEUE body with its plan, live or replayed. */
export function applySubmission(
  core: Core,
  reader: EnqueueReader,
  buffer: Buffer,
  start: number,
  end: number,
  place: { segment: number; shift: number; steadyMs: number; firstId: number },
  plan: SubmissionPlan,
): void {
  const { firstId, steadyMs } = place;
  const left = new Set(plan.existing.map(([index]) => firstId + index));
  applyEnqueue(core, reader, buffer, start, end, { ...place, left });
  const related = plan.tasks.map(({ index, parents = [], unique }): NewRelations => {
    const id = firstId + index;
    return {
      id,
      edges: parents.map(([parent, onFailure]): Edge => ({ id: parent, onFailure: onFailure as Edge['onFailure'] })),
      ends: parents.map(([, , end]) => end as ParentEnd),
      unique: unique === undefined ? undefined : claimOf(core, id, unique, steadyMs),
    };
  });
  core.relate(related, steadyMs);
}

function claimOf(core: Core, id: number, { key, scope, forMs = 0 }: Claimed, steadyMs: number): UniqueClaim {
  const { queue } = core.kindOf(core.index.get(id)).spec;
  return { queue, key, scope, untilMs: scope === 'time' ? steadyMs + forMs : 0 };
}
