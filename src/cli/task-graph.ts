import type { TaskInfo } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { printable } from './printable.ts';
import { formatCount } from './units.ts';

/** The tasks that one can get to from a task over what it depends on and what depends on it. */
export interface TaskGraph {
  tasks: GraphTask[];
  /** There are more than are shown. */
  isCut: boolean;
}

export interface GraphTask {
  id: string;
  name: string;
  state: TaskInfo['state'] | 'unknown';
  /** How many tasks are before it, on the longest way. */
  level: number;
  isAskedFor: boolean;
  dependsOn: string[];
}

const TASKS_MAX = 200;

/** Rejects with NOT_FOUND for the first; others may be gone. */
export async function readGraph(get: (id: string) => Promise<TaskInfo>, first: string): Promise<TaskGraph> {
  const graph: TaskGraph = { tasks: [], isCut: false };
  const ids = new Set([first]);
  for (const id of ids) {
    if (graph.tasks.length >= TASKS_MAX) {
      graph.isCut = true;
      break;
    }
    const info = await getOne(get, id, id === first);
    const parents = info?.dependencies?.parents ?? [];
    graph.tasks.push({
      id,
      name: info?.name ?? '',
      state: info?.state ?? 'unknown',
      level: 0,
      isAskedFor: id === first,
      dependsOn: parents.map((parent) => parent.id),
    });
    if (info === undefined) continue;
    const { total: parentCount = 0 } = info.dependencies ?? {};
    const { ids: children = [], total: childCount = 0 } = info.children ?? {};
    graph.isCut ||= parents.length < parentCount || children.length < childCount;
    for (const parent of parents) ids.add(parent.id);
    for (const child of children) ids.add(child);
  }
  setLevels(graph.tasks);
  graph.tasks.sort((a, b) => a.level - b.level);
  return graph;
}

function setLevels(tasks: readonly GraphTask[]): void {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  // There are no circles: after as many rounds as there are tasks, and mostly after few, nothing changes.
  for (let changed = true; changed; ) {
    changed = false;
    for (const task of tasks) {
      const level = Math.max(0, ...task.dependsOn.map((id) => (byId.get(id)?.level ?? -1) + 1));
      changed ||= level !== task.level;
      task.level = level;
    }
  }
}

async function getOne(
  get: (id: string) => Promise<TaskInfo>,
  id: string,
  isNeeded: boolean,
): Promise<TaskInfo | undefined> {
  try {
    return await get(id);
  } catch (error) {
    if (isNeeded || !(error instanceof MillraceError) || error.code !== 'NOT_FOUND') throw error;
    return undefined;
  }
}

/** A line a task, those first that others wait for. */
export function graphLines({ tasks, isCut }: TaskGraph): string[] {
  const lines = tasks.map(({ id, name, state, level, isAskedFor, dependsOn }) => {
    const mark = isAskedFor ? '*' : ' ';
    const after = dependsOn.length === 0 ? '' : `  after ${shownIds(dependsOn)}`;
    return `${mark} ${'  '.repeat(level)}${id}  ${printable(name)}  ${state}${after}`;
  });
  if (isCut) lines.push(`Only the first ${formatCount(tasks.length)} tasks are shown.`);
  return lines;
}

const IDS_SHOWN = 5;

function shownIds(ids: readonly string[]): string {
  const rest = ids.length - IDS_SHOWN;
  return `${ids.slice(0, IDS_SHOWN).join(', ')}${rest > 0 ? ` and ${formatCount(rest)} more` : ''}`;
}
