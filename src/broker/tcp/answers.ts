import { MillraceError, shown } from '../../errors.ts';
import { parseTaskId, type TaskNumber } from '../../ids.ts';

/**
 * What a client makes of answers: whoever is there may be no server of ours, and must not be able to end this process.
 * A list is one of objects.
 */
type Kind = 'list' | 'number' | 'text';

const IS_OF_KIND: Readonly<Record<Kind, (value: unknown) => boolean>> = {
  list: (value) => Array.isArray(value) && value.every((each) => typeof each === 'object' && each !== null),
  number: (value) => typeof value === 'number',
  text: (value) => typeof value === 'string',
};

/** The answer to a call, of which these members are needed. Throws PROTOCOL. */
export function answerOf<T>(
  method: string,
  reply: Record<string, unknown>,
  members: Readonly<Partial<Record<keyof T & string, Kind>>>,
): T {
  for (const [name, kind] of Object.entries(members) as [string, Kind][]) {
    if (IS_OF_KIND[kind](reply[name])) continue;
    const message = `the server answered ${method} with ${shown(reply[name])} as ${name}, which must be a ${kind}: is it a server of this release?`;
    throw new MillraceError('PROTOCOL', message);
  }
  return reply as T;
}

/** An id that a server named. Throws PROTOCOL. */
export function idIn(what: string, value: unknown): TaskNumber {
  try {
    return parseTaskId(value);
  } catch (cause) {
    throw new MillraceError('PROTOCOL', `${what} names a task as ${shown(value)}`, { cause });
  }
}

/** A list of pairs. Throws PROTOCOL. */
export function pairsIn(what: string, value: unknown): [unknown, unknown][] {
  const pairs: unknown[] = Array.isArray(value) ? value : [undefined];
  return pairs.map((pair) => {
    if (Array.isArray(pair)) return [pair[0], pair[1]];
    throw new MillraceError('PROTOCOL', `${what} must be a list of pairs, not ${shown(pair ?? value)}`);
  });
}
