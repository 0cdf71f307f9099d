import { ON_FAILURE } from '../core/relations.ts';
import { NONE, STATE_NAMES, State } from '../core/task-table.ts';
import { resultOf, timeOf } from '../core/views.ts';
import { formatTaskId } from '../ids.ts';
import { LIMITS } from '../limits.ts';
import { type EncodedBytes, encodeBytes } from '../protocol/encoded-bytes.ts';
import { parseTaskError } from '../protocol/task-error.ts';
import type { TaskFilter } from '../protocol/task-filter.ts';
import type { Engine } from './engine.ts';
import { type InspectedFailure, loadFailures } from './failure-reader.ts';
import { searchTasks, statesOf } from './search.ts';
import type { TaskLog } from './task-logs.ts';

const LIST_LIMIT = 100;

/** The shapes of the contract's TaskInfo and TaskPage. */
export interface InspectedTask {
  id: string;
  queue: string;
  name: string;
  state: Exclude<(typeof STATE_NAMES)[number], 'free'>;
  priority: number;
  attempt: number;
  maxAttempts: number;
  timeoutMs: number;
  enqueuedAtMs: number;
  runAtMs?: number;
  finishedAtMs?: number;
  startedAtMs?: number;
  worker?: string;
  workerId?: string;
  progress?: { value: unknown; message?: string };
  log?: TaskLog;
  cancelRequested?: boolean;
  payloadBytes: number;
  payload?: EncodedBytes;
  headers?: Readonly<Record<string, string>>;
  result?: EncodedBytes;
  failures: InspectedFailure[];
  dependencies?: {
    total: number;
    open: number;
    completed: number;
    dead: number;
    cancelled: number;
    parents?: { id: string; state: StateName | 'unknown'; onFailure: string }[];
  };
  children?: { total: number; ids: string[] };
  uniqueKey?: string;
}

type StateName = Exclude<(typeof STATE_NAMES)[number], 'free'>;

export interface InspectedParent {
  id: string;
  name: string;
  state: StateName | 'unknown';
  result?: EncodedBytes;
  error?: StoredError;
}

type StoredError = ReturnType<typeof parseTaskError>;

/** What the engine does not know of an active task: who runs it, as others know that worker, and how far it is. */
export interface ActiveDetails {
  worker(workerIndex: number): { id: string; name: string } | undefined;
  /** The index of the worker with this id. */
  workerIndex(workerId: string): number | undefined;
  progress(id: number): InspectedTask['progress'];
}

/** Throws NOT_FOUND, and JOURNAL_DAMAGED or STORAGE_FAILED when its payload or result cannot be read. */
export async function inspectTask(engine: Engine, id: number, details: ActiveDetails): Promise<InspectedTask> {
  const { core } = engine;
  const place = (): { segment: number; offset: number } => {
    const slot = engine.commands.find(id);
    return { segment: core.table.segment(slot), offset: core.table.offset(slot) };
  };
  const { payload, headers } = await engine.reader.loadTask(place);
  const failures = await loadFailures(engine, id, LIMITS.attemptsKeptMax);
  const log = engine.logs.of(id);
  const result = await engine.reader.loadBlob(() => resultOf(core, engine.commands.find(id)));
  return {
    ...describe(engine, engine.commands.find(id), details),
    payloadBytes: payload.length,
    payload: encodeBytes(payload),
    ...(headers === undefined ? {} : { headers }),
    ...(result === undefined ? {} : { result: encodeBytes(result) }),
    ...(log === undefined ? {} : { log }),
    failures,
    ...describeRelatives(engine, id),
  };
}

/** Throws NOT_FOUND. */
export function stateOf({ core, commands }: Engine, id: number): Pick<InspectedTask, 'queue' | 'state'> {
  const slot = commands.find(id);
  const { queue } = core.kindOf(slot).spec;
  return { queue, state: STATE_NAMES[core.table.state(slot)] as InspectedTask['state'] };
}

/** Tasks in the order of their ids. A page may be short of `limit`, or even empty, when there is a `next`. */
export async function listTasks(
  engine: Engine,
  filter: TaskFilter,
  details: ActiveDetails,
): Promise<{ tasks: InspectedTask[]; next?: string }> {
  const { core } = engine;
  const { workerIndex } = details;
  const { ids, last } = await searchTasks(engine, {
    ...{ filter, states: statesOf(filter), workerIndex },
    countMax: filter.limit ?? LIST_LIMIT,
  });
  const tasks: InspectedTask[] = [];
  for (const id of ids) {
    const failures = await loadFailures(engine, id, 1);
    const slot = core.index.get(id);
    // Forgotten meanwhile.
    if (slot === NONE) continue;
    tasks.push({
      ...describe(engine, slot, details),
      payloadBytes: engine.reader.payloadBytesAt(core.table.segment(slot), core.table.offset(slot)),
      failures,
    });
  }
  return last === undefined ? { tasks } : { tasks, next: formatTaskId(last) };
}

function describe(
  engine: Engine,
  slot: number,
  details: ActiveDetails,
): Omit<InspectedTask, 'payloadBytes' | 'failures'> {
  const { core } = engine;
  const { spec } = core.kindOf(slot);
  const state = core.table.state(slot);
  const id = core.table.id(slot);
  const active = state === State.ACTIVE;
  const worker = active ? details.worker(core.assignments.of(slot).worker.index) : undefined;
  const begunMs = active ? core.assignments.begunMs(slot) : undefined;
  const progress = active ? details.progress(id) : undefined;
  return {
    id: formatTaskId(id),
    queue: spec.queue,
    name: spec.name,
    state: STATE_NAMES[state] as InspectedTask['state'],
    priority: spec.priority,
    attempt: core.table.attempts(slot) + (active || state === State.COMPLETED ? 1 : 0),
    maxAttempts: spec.maxAttempts,
    timeoutMs: spec.timeoutMs,
    enqueuedAtMs: Math.round(core.table.enqueuedAtMs(slot)),
    ...(state === State.SCHEDULED ? { runAtMs: Math.round(timeOf(core, slot)) } : {}),
    ...(state >= State.COMPLETED ? { finishedAtMs: Math.round(timeOf(core, slot)) } : {}),
    ...(begunMs === undefined ? {} : { startedAtMs: Math.round(begunMs) }),
    ...(worker === undefined ? {} : { worker: worker.name, workerId: worker.id }),
    ...(progress === undefined ? {} : { progress }),
    ...(core.cancelRequested(slot) ? { cancelRequested: true } : {}),
    ...describeRelations(engine, id),
  };
}

const ON_FAILURE_NAMES = Object.keys(ON_FAILURE);

/** Counts only. */
function describeRelations(engine: Engine, id: number): Pick<InspectedTask, 'dependencies' | 'uniqueKey'> {
  const { relations } = engine.core;
  const total = relations.parentCount(id);
  const uniqueKey = relations.uniqueKey(id);
  return {
    ...(total === 0 ? {} : { dependencies: { total, ...relations.endCounts(id) } }),
    ...(uniqueKey === undefined ? {} : { uniqueKey }),
  };
}

/** The first of a task's parents and children. */
function describeRelatives(engine: Engine, id: number): Pick<InspectedTask, 'dependencies' | 'children'> {
  const { relations } = engine.core;
  const { dependencies } = describeRelations(engine, id);
  const parents = relations.edges(id, 0, LIMITS.relationsShownMax).map((edge) => ({
    id: formatTaskId(edge.id),
    state: stateName(engine, edge.id),
    onFailure: ON_FAILURE_NAMES[edge.onFailure],
  }));
  const total = relations.childCount(id);
  const ids = relations.children(id, LIMITS.relationsShownMax).map(formatTaskId);
  return {
    ...(dependencies === undefined ? {} : { dependencies: { ...dependencies, parents } }),
    ...(total === 0 ? {} : { children: { total, ids } }),
  };
}

function stateName(engine: Engine, id: number): StateName | 'unknown' {
  const slot = engine.core.index.get(id);
  return slot === NONE ? 'unknown' : (STATE_NAMES[engine.core.table.state(slot)] as StateName);
}

/** A page of what a task depends on, with results and errors. Throws as `inspectTask`. */
export async function readParents(
  engine: Engine,
  id: number,
  from: number,
): Promise<{ parents: InspectedParent[]; next?: number }> {
  engine.commands.find(id);
  const { relations } = engine.core;
  const total = relations.parentCount(id);
  const parents: InspectedParent[] = [];
  let bytes = 0;
  for (const edge of relations.edges(id, from, LIMITS.parentPageTasksMax)) {
    const parent = await readParent(engine, edge.id);
    bytes += bytesOf(parent);
    if (bytes > LIMITS.parentPageBytesMax && parents.length > 0) break;
    parents.push(parent);
  }
  const next = from + parents.length;
  return next < total ? { parents, next } : { parents };
}

function bytesOf({ result, error }: InspectedParent): number {
  return (result?.data.length ?? 0) + (error === undefined ? 0 : JSON.stringify(error).length);
}

async function readParent(engine: Engine, id: number): Promise<InspectedParent> {
  const { core } = engine;
  const outcome = engine.hasEnded(id) ? await engine.outcome(id) : undefined;
  const slot = core.index.get(id);
  if (slot === NONE) return { id: formatTaskId(id), name: '', state: 'unknown' };
  const parent: InspectedParent = {
    id: formatTaskId(id),
    name: core.kindOf(slot).spec.name,
    state: stateName(engine, id),
  };
  if (outcome?.state === 'unreadable') throw outcome.error;
  if (outcome?.state === 'completed' && outcome.result !== undefined) parent.result = encodeBytes(outcome.result);
  if (outcome?.state === 'dead') parent.error = parseTaskError(outcome.error);
  return parent;
}
