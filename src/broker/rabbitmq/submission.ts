import { MillraceError, shown } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { manyBytesBound } from '../../protocol/batch-writer.ts';
import type { RelatedTask } from '../contract.ts';

/**
 * What can be said of a submission without the tasks that exist. Throws INVALID_ARGUMENT (too many tasks, a circle, a task
 * that depends twice on the same or on one that is not there), QUEUE_FULL (too many dependencies) and PAYLOAD_TOO_LARGE.
 * Returns at most how many bytes the payloads take.
 */
export function checkSubmission(tasks: readonly RelatedTask[]): number {
  if (tasks.length > LIMITS.batchTasksMax) {
    const message = `${tasks.length} tasks are submitted together; at most ${LIMITS.batchTasksMax} may be: split them over several flows`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { bound: LIMITS.batchTasksMax } });
  }
  const children = new Uint32Array(tasks.length);
  let count = 0;
  for (const [index, task] of tasks.entries()) {
    count += task.dependsOn.length;
    checkDependencies(tasks.length, index, task, children);
  }
  if (count > LIMITS.submissionDependenciesMax)
    throw tooMany(count, LIMITS.submissionDependenciesMax, 'one submission');
  const most = children.reduce((max, each) => Math.max(max, each), 0);
  if (most > LIMITS.dependenciesMax) throw tooMany(most, LIMITS.dependenciesMax, 'one task that others depend on');
  checkCircles(tasks);
  return manyBytesBound(tasks.map((task) => task.payload));
}

function checkDependencies(total: number, index: number, { dependsOn }: RelatedTask, children: Uint32Array): void {
  if (dependsOn.length > LIMITS.dependenciesMax) {
    throw tooMany(
      dependsOn.length,
      LIMITS.dependenciesMax,
      `task ${index}: put tasks between that gather some of them each`,
    );
  }
  const known = new Set<number | string>();
  for (const { on } of dependsOn) {
    if (known.has(on)) throw refused(index, `depends on task ${shown(on)} twice`);
    known.add(on);
    if (typeof on === 'string') continue;
    if (!Number.isInteger(on) || on < 0 || on >= total) {
      throw refused(index, `depends on task ${shown(on)}, and there are ${total}, counted from 0`);
    }
    if (on === index) throw refused(index, 'depends on itself');
    children[on] = (children[on] as number) + 1;
  }
}

/** Takes away whatever nothing waits for, again and again: what is left goes round in a circle. */
function checkCircles(tasks: readonly RelatedTask[]): void {
  const places = placesOf(tasks);
  const inner = tasks.map(({ dependsOn }, index) =>
    // One whose key another of them has is that other one.
    places[index] === index
      ? dependsOn.flatMap(({ on }) => (typeof on === 'number' ? [places[on] as number] : []))
      : [],
  );
  const open = new Uint32Array(tasks.length);
  for (const parents of inner) for (const parent of parents) open[parent] = (open[parent] as number) + 1;
  const free: number[] = [];
  for (const [index, count] of open.entries()) if (count === 0) free.push(index);
  let left = tasks.length;
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    left--;
    for (const parent of inner[next] as number[]) {
      open[parent] = (open[parent] as number) - 1;
      if (open[parent] === 0) free.push(parent);
    }
  }
  if (left === 0) return;
  const round = [...open.entries()].filter(([, count]) => count > 0).map(([index]) => index);
  const message = `tasks depend on each other in a circle: ${round.slice(0, 10).join(', ')}${round.length > 10 ? ' …' : ''} (counted from 0 in the order in which they were added)`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { indexes: round.slice(0, 10) } });
}

/** For each task the first that has its key in its queue, or itself. */
function placesOf(tasks: readonly RelatedTask[]): number[] {
  const claimed = new Map<string, number>();
  return tasks.map(({ unique, spec }, index) => {
    if (unique === undefined) return index;
    const name = `${spec.queue}\n${unique.key}`;
    const first = claimed.get(name);
    if (first === undefined) claimed.set(name, index);
    return first ?? index;
  });
}

function refused(index: number, what: string): MillraceError {
  return new MillraceError('INVALID_ARGUMENT', `task ${index} ${what}`, { details: { index } });
}

function tooMany(count: number, bound: number, where: string): MillraceError {
  const message = `there would be ${count} dependencies; at most ${bound} are allowed in ${where}`;
  return new MillraceError('QUEUE_FULL', message, { details: { count, bound } });
}
