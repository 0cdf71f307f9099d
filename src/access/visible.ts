import type { Grant } from './grant.ts';

interface Whole {
  readonly queues: readonly { readonly name: string }[];
  readonly workers: readonly { readonly queues: readonly string[] }[];
  readonly supervisors?: readonly { readonly queues: readonly string[] }[] | undefined;
}

/**
 * Of a status the queues of the grant, the workers that take from one of them, and supervisors, whose decisions tell of all their
 * queues, when these are all. Figures of the whole server stay.
 */
export function visibleStatus<T extends Whole>(status: T, grant: Grant): T {
  if (grant.ofAllQueues) return status;
  return {
    ...status,
    queues: status.queues.filter(({ name }) => grant.covers(name)),
    workers: status.workers.flatMap((worker) => {
      const queues = worker.queues.filter((queue) => grant.covers(queue));
      return queues.length === 0 ? [] : [{ ...worker, queues }];
    }),
    ...(status.supervisors === undefined
      ? {}
      : { supervisors: status.supervisors.filter(({ queues }) => queues.every((queue) => grant.covers(queue))) }),
  };
}
