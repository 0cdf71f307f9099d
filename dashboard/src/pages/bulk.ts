import { post } from '../api/client.ts';
import type { BulkReport } from '../api/types.ts';
import { count } from '../format.ts';

export type BulkFilter = Readonly<Record<string, string | number | undefined>>;

/**
 * Goes through everything that the filter names, in the server's bounded steps, until the end, or the end of the step in
 * which the signal came: what a step has changed is counted.
 */
export async function bulk(
  verb: 'retry' | 'cancel',
  filter: BulkFilter,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<number> {
  let done = 0;
  let after: string | undefined;
  do {
    const body = after === undefined ? filter : { ...filter, after };
    const step: BulkReport = await post(`v1/tasks/${verb}`, body);
    done += step.count;
    after = step.next;
    tell(`${count(done)} so far …`);
  } while (after !== undefined && !signal.aborted);
  return done;
}
