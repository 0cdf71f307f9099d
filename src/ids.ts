import { MillraceError, shown, shownValue } from './errors.ts';

/**
 * A task id is (epoch, sequence): the server's start count and a counter that begins at 0 in each epoch. Inside it is the
 * safe integer `epoch * 2^32 + sequence`, so that the ids of a batch are consecutive numbers; outside it is the text
 * `epoch-sequence` in base 36, for example `1-2rk`. Lease tokens are numbers of the same form.
 */
export type TaskNumber = number;

export const SEQUENCE_COUNT = 2 ** 32;
/** Beyond it an id would no longer be a safe integer. */
export const EPOCH_MAX = 2 ** 21 - 1;

export function formatTaskId(id: TaskNumber): string {
  const epoch = Math.floor(id / SEQUENCE_COUNT);
  return `${epoch.toString(36)}-${(id - epoch * SEQUENCE_COUNT).toString(36)}`;
}

/** Throws INVALID_ARGUMENT when the text is no task id of this backend. */
export function parseTaskId(text: unknown): TaskNumber {
  const match = typeof text === 'string' ? /^([0-9a-z]{1,5})-([0-9a-z]{1,7})$/.exec(text) : null;
  if (match !== null) {
    const epoch = Number.parseInt(match[1] as string, 36);
    const sequence = Number.parseInt(match[2] as string, 36);
    if (epoch <= EPOCH_MAX && sequence < SEQUENCE_COUNT) return epoch * SEQUENCE_COUNT + sequence;
  }
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `task id ${shown(text)} is not of the form "1-2rk" (epoch-sequence, base 36)`,
    {
      details: { value: shownValue(text) },
    },
  );
}
