import { MillraceError, shown } from '../errors.ts';
import { parseTaskId } from '../ids.ts';
import { checkInteger, checkName, LIMITS } from '../limits.ts';
import { malformed, readU32, writeU32 } from './bytes.ts';
import { readJson } from './frames.ts';

/**
 * SUBMIT = the body of an ENQUEUE, relations (JSON), u32 length of the relations. The relations are
 *
 *   {"tasks": [{"index": 3, "dependsOn": [[0, "cancel"], ["1-2rk", "wait"]], "unique": {"key": "k", "scope": "waiting"}}]}
 *
 * An `index` counts the tasks of the batch from 0; in `dependsOn` a number is such an index, text is the id of an earlier
 * task. A scope that is a number is so many milliseconds. A task with a unique key is alone in its section.
 */
export interface SubmittedRelations {
  readonly index: number;
  /** Index or id (as a number, apart), and what happens when that one fails. */
  readonly dependsOn: readonly { readonly index: number; readonly id: number; readonly onFailure: OnFailureName }[];
  readonly unique:
    | { readonly key: string; readonly scope: 'waiting' | 'unfinished' | 'time'; readonly forMs: number }
    | undefined;
}

export type OnFailureName = 'cancel' | 'run' | 'wait';

const LENGTH_BYTES = 4;
/** Tasks of a circle that its error names. */
const CIRCLE_SHOWN_MAX = 10;
const ON_FAILURE_NAMES: readonly unknown[] = ['cancel', 'run', 'wait'];

/** What stands behind the ENQUEUE body. */
export function packTrailer(relations: object): Buffer {
  const json = Buffer.from(JSON.stringify(relations));
  const trailer = Buffer.allocUnsafe(json.length + LENGTH_BYTES);
  trailer.set(json);
  writeU32(trailer, json.length, json.length);
  return trailer;
}

/** Where the ENQUEUE body ends, and the relations. Throws PROTOCOL. */
export function splitSubmission(
  buffer: Buffer,
  start: number,
  end: number,
): { enqueueEnd: number; relations: Record<string, unknown> } {
  const length = end - start < LENGTH_BYTES ? end : readU32(buffer, end - LENGTH_BYTES);
  const enqueueEnd = end - LENGTH_BYTES - length;
  if (enqueueEnd < start) throw malformed('SUBMIT is shorter than its relations');
  return { enqueueEnd, relations: readJson(buffer, enqueueEnd, end - LENGTH_BYTES) };
}

/** Checked as far as it can be without the tasks that exist. Throws PROTOCOL, INVALID_ARGUMENT. */
export function parseRelations(relations: Record<string, unknown>, taskCount: number): SubmittedRelations[] {
  const { tasks } = relations;
  if (!Array.isArray(tasks) || tasks.length === 0) throw malformed('relations must list their tasks');
  let last = -1;
  let edges = 0;
  return tasks.map((task: unknown) => {
    const { index, dependsOn = [], unique } = (task ?? {}) as Record<string, unknown>;
    if (typeof index !== 'number' || !Number.isInteger(index) || index <= last || index >= taskCount) {
      throw malformed(`relations of task ${shown(index)}; indexes ascend from 0 to ${taskCount - 1}`);
    }
    last = index;
    if (!Array.isArray(dependsOn)) throw malformed('dependsOn must be a list');
    edges += dependsOn.length;
    const who = taskCount === 1 ? 'it' : `task ${index}`;
    checkInteger(`the number of tasks that ${who} depends on`, dependsOn.length, 0, LIMITS.dependenciesMax);
    if (edges > LIMITS.submissionDependenciesMax) throw tooManyEdges(edges);
    const parsed = dependsOn.map((each: unknown) => parseDependency(each, taskCount));
    checkDistinct(who, parsed);
    return { index, dependsOn: parsed, unique: unique === undefined ? undefined : parseUnique(unique) };
  });
}

function parseDependency(value: unknown, taskCount: number): SubmittedRelations['dependsOn'][number] {
  const [on, onFailure]: unknown[] = Array.isArray(value) ? value : [];
  if (!ON_FAILURE_NAMES.includes(onFailure)) {
    const message = `what happens when a parent fails is ${shown(onFailure)}; allowed are "cancel", "run" and "wait"`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  if (typeof on !== 'number') return { index: -1, id: parseTaskId(on), onFailure: onFailure as OnFailureName };
  checkInteger('the index of a parent', on, 0, taskCount - 1);
  return { index: on, id: -1, onFailure: onFailure as OnFailureName };
}

function checkDistinct(who: string, dependsOn: SubmittedRelations['dependsOn']): void {
  const known = new Set<number>();
  for (const parent of dependsOn) {
    const key = parent.index >= 0 ? -1 - parent.index : parent.id;
    if (known.has(key)) throw new MillraceError('INVALID_ARGUMENT', `${who} depends on the same task twice`);
    known.add(key);
  }
}

function parseUnique(value: unknown): NonNullable<SubmittedRelations['unique']> {
  const { key, scope } = (value ?? {}) as Record<string, unknown>;
  checkName('a unique key', key, LIMITS.uniqueKeyBytesMax);
  if (scope === 'waiting' || scope === 'unfinished') return { key, scope, forMs: 0 };
  checkInteger('the milliseconds that a unique key holds', scope, 1, LIMITS.uniqueForMsMax);
  return { key, scope: 'time', forMs: scope };
}

export function tooManyEdges(edges: number): MillraceError {
  const bound = LIMITS.submissionDependenciesMax;
  const message = `the tasks submitted depend ${edges} times on others; at most ${bound} are allowed at once: put tasks between that gather some of them each`;
  return new MillraceError('INVALID_ARGUMENT', message, { details: { edges, bound } });
}

/** Throws INVALID_ARGUMENT. */
export function checkSubmittedCount(count: number): void {
  const bound = LIMITS.batchTasksMax;
  if (count <= bound) return;
  const message = `${count} tasks are submitted together; at most ${bound} may be: split them over several flows`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { bound } });
}

/**
 * `waits`: pairs of an index and those for which it waits. Takes away whatever waits for nothing, again and again: what is
 * left goes round in a circle, or waits for what does. Throws INVALID_ARGUMENT.
 */
export function checkCircles(waits: Iterable<readonly [number, readonly number[]]>): void {
  const open = new Map<number, number>();
  const children = new Map<number, number[]>();
  for (const [index, parents] of waits) {
    open.set(index, parents.length);
    for (const parent of parents) {
      const known = children.get(parent);
      if (known === undefined) children.set(parent, [index]);
      else known.push(index);
    }
  }
  const free: number[] = [...children.keys()].filter((index) => (open.get(index) ?? 0) === 0);
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    for (const child of children.get(next) ?? []) {
      const left = (open.get(child) as number) - 1;
      open.set(child, left);
      if (left === 0) free.push(child);
    }
  }
  const round = [...open].filter(([, count]) => count > 0).map(([index]) => index);
  if (round.length === 0) return;
  const some = round.slice(0, CIRCLE_SHOWN_MAX);
  const message = `tasks depend on each other in a circle: ${some.join(', ')}${round.length > CIRCLE_SHOWN_MAX ? ' …' : ''} (counted from 0 in the order in which they were added)`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { indexes: some } });
}
