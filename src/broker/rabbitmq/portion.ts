import { type ErrorCode, MillraceError } from '../../errors.ts';
import type { Store, Unpublished } from '../store.ts';

/**
 * With a store the task is durable: for now the broker does not take it, and a sweep of the outbox publishes it when it
 * does. Whoever asked for it is told that it will run.
 */
const LATER: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['QUEUE_FULL', 'NOT_FOUND', 'TIMEOUT']);
/** It never will: whoever asked for the task is told so, and it is cancelled, so that no sweep tries for ever. */
const NEVER: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'CONFLICT',
  'UNSUPPORTED',
  'INVALID_ARGUMENT',
  'PAYLOAD_TOO_LARGE',
]);

export function isNeverTaken(error: MillraceError): boolean {
  return NEVER.has(error.code);
}

/** Tasks of some entries of the outbox that are published at the same time: what the broker's answers mean for them. */
export class Portion {
  readonly #store: Store;
  readonly #what: Unpublished;
  readonly #over: (first: MillraceError | undefined) => void;
  #open: number;
  #first: MillraceError | undefined;
  /** What a sweep is to publish. */
  readonly #left: string[] = [];

  /**
   * `parcels`: how many answers there will be. `over` comes when the outbox knows of all of them, with the first error that
   * somebody was told.
   */
  constructor(store: Store, what: Unpublished, parcels: number, over: (first: MillraceError | undefined) => void) {
    this.#store = store;
    this.#what = what;
    this.#open = parcels;
    this.#over = over;
    if (parcels === 0) this.#end();
  }

  /** The broker's answer to a parcel of these tasks. `told`: what whoever asked for them learns. */
  answered(
    ids: readonly string[],
    error: MillraceError | undefined,
    told: (error: MillraceError | undefined) => void,
  ): void {
    if (error === undefined) this.#tell(undefined, told);
    else if (isNeverTaken(error)) void this.#takeBack(ids, error).then((refusal) => this.#tell(refusal, told));
    else {
      for (const id of ids) this.#left.push(id);
      this.#tell(LATER.has(error.code) ? undefined : error, told);
    }
  }

  #tell(error: MillraceError | undefined, told: (error: MillraceError | undefined) => void): void {
    this.#first ??= error;
    told(error);
    if (--this.#open === 0) this.#end();
  }

  #end(): void {
    this.#store.published(this.#what, this.#left);
    this.#over(this.#first);
  }

  async #takeBack(ids: readonly string[], error: MillraceError): Promise<MillraceError> {
    const results = await Promise.allSettled(ids.map((id) => this.#store.cancelTask(id)));
    let reason: unknown;
    for (const [index, result] of results.entries()) {
      if (result.status === 'fulfilled' || isOver(result.reason)) continue;
      this.#left.push(ids[index] as string);
      reason = result.reason;
    }
    if (reason === undefined) return error;
    const why = reason instanceof Error ? reason.message : String(reason);
    const message = `${error.message}; and not all of it could be taken back from the store: ${why}`;
    return new MillraceError(error.code, message, { cause: error, details: error.details });
  }
}

/** A copy of its message was taken earlier, and it has ended: there is nothing to take back. */
function isOver(reason: unknown): boolean {
  return reason instanceof MillraceError && (reason.code === 'CONFLICT' || reason.code === 'NOT_FOUND');
}
