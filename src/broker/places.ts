import type { RelatedTask } from './contract.ts';

/**
 * Which tasks of a submission are asked for: for each the first that has its key in its queue, or itself. Of those with the
 * same key in the same queue only the first is enqueued, and stands for the others.
 */
export function placesOf(tasks: readonly Pick<RelatedTask, 'spec' | 'unique'>[]): number[] {
  const claimed = new Map<string, number>();
  return tasks.map(({ unique, spec }, index) => {
    if (unique === undefined) return index;
    const name = `${spec.queue}\n${unique.key}`;
    const first = claimed.get(name);
    if (first === undefined) claimed.set(name, index);
    return first ?? index;
  });
}
