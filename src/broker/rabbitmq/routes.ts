import type { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { TaskError, TaskSpec } from '../contract.ts';
import { routeOf } from './delay.ts';
import type { TaskMessage } from './message.ts';
import { bandOf, type Names } from './names.ts';
import { type Parcel, parcel } from './publisher.ts';
import type { Shared } from './shared.ts';
import type { Need } from './topology.ts';

/** Where a task goes: to the queue of its priority, over the delay ladder when it has to wait. */
export function routeTask(
  names: Names,
  spec: TaskSpec,
  delayMs: number,
): { readonly exchange: string; readonly routingKey: string; readonly needs: readonly Need[] } {
  const name = names.band(spec.queue, bandOf(spec.priority));
  const queue: Need = { kind: 'queue', name };
  const route = routeOf(delayMs, name);
  if (route === undefined) return { exchange: '', routingKey: name, needs: [queue] };
  const { level, routingKey } = route;
  return {
    exchange: names.delay(level),
    routingKey,
    needs: [queue, { kind: 'delay', level: declaredLevel(level), queue: name }],
  };
}

/** The ladder is made in few parts: to 16 seconds, to 4.6 hours, and all of it. */
function declaredLevel(level: number): number {
  return PARTS.find((top) => level <= top) ?? level;
}

const PARTS = [9, 19, LIMITS.amqpDelayLevels - 1];

/** A copy of a task that came from the broker, back to it. */
export function sendTask(
  { outbound, names }: Pick<Shared, 'outbound' | 'names'>,
  message: TaskMessage,
  body: Buffer,
  delayMs: number,
  settled: (error: MillraceError | undefined) => void,
  care: Parcel['care'] = 'insist',
): void {
  const { replyTo, correlationId, headers, spec } = message;
  const route = routeTask(names, spec, delayMs);
  outbound.send(parcel({ ...route, care, replyTo, correlationId, headers }, [body], [message.id], settled));
}

/** Headers hold at most so many characters of an error; a header frame has 128 KiB. */
const ERROR_CHARACTERS_MAX = 16_000;

export function deadLetterHeaders(reason: string, error: TaskError, atMs: number): Record<string, unknown> {
  return {
    'millrace-reason': reason,
    'millrace-error': JSON.stringify(error).slice(0, ERROR_CHARACTERS_MAX),
    'millrace-failed-at-ms': Math.floor(atMs),
  };
}
