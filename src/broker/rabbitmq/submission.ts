import { MillraceError, shown } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { manyBytesBound } from '../../protocol/batch-writer.ts';
import { checkCircles, checkSubmittedCount } from '../../protocol/submission.ts';
import type { RelatedTask } from '../contract.ts';
import { placesOf } from '../places.ts';

/**
 * What can be said of a submission without the tasks that exist. Throws INVALID_ARGUMENT (too many tasks, a circle, a task
 * that depends twice on the same or on one that is not there), QUEUE_FULL (too many dependencies) and PAYLOAD_TOO_LARGE.
 * Returns at most how many bytes the payloads take.
 */
export function checkSubmission(tasks: readonly RelatedTask[]): number {
  checkSubmittedCount(tasks.length);
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
  checkCircles(innerOf(tasks));
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

/** Inside the submission. One whose key another of them has is that other one. */
function innerOf(tasks: readonly RelatedTask[]): [number, number[]][] {
  const places = placesOf(tasks);
  return tasks.flatMap(({ dependsOn }, index): [number, number[]][] => {
    if (places[index] !== index) return [];
    return [[index, dependsOn.flatMap(({ on }) => (typeof on === 'number' ? [places[on] as number] : []))]];
  });
}

function refused(index: number, what: string): MillraceError {
  return new MillraceError('INVALID_ARGUMENT', `task ${index} ${what}`, { details: { index } });
}

function tooMany(count: number, bound: number, where: string): MillraceError {
  const message = `there would be ${count} dependencies; at most ${bound} are allowed in ${where}`;
  return new MillraceError('QUEUE_FULL', message, { details: { count, bound } });
}
