import type { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { TaskError, TaskSpec } from '../contract.ts';
import { routeOf } from './delay.ts';
import type { TaskMessage } from './message.ts';
import { bandOf, type Names } from './names.ts';
import { type Parcel, parcel } from './parcel.ts';
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
  const { replyTo, correlationId, spec } = message;
  const headers = carriedHeaders(message.headers);
  const route = routeTask(names, spec, delayMs);
  outbound.send(parcel({ ...route, care, replyTo, correlationId, headers }, [body], [message.id], settled));
}

/** What goes with a copy of the headers that another program has set: one after the other, those that fit. */
export function carriedHeaders(headers: TaskMessage['headers']): TaskMessage['headers'] {
  if (headers === undefined) return undefined;
  const carried: Record<string, unknown> = {};
  let left = LIMITS.amqpCarriedHeaderBytesMax;
  for (const [name, value] of Object.entries(headers)) {
    const bytes = fieldBytes(name, value, NESTING_MAX);
    if (bytes > left) continue;
    left -= bytes;
    carried[name] = value;
  }
  return carried;
}

const NESTING_MAX = 100;

/** At least what AMQP takes for it; Infinity for what is nested deeper than `depth`. */
function fieldBytes(name: string, value: unknown, depth: number): number {
  let bytes = 16 + Buffer.byteLength(name);
  if (typeof value === 'string') bytes += Buffer.byteLength(value);
  else if (value instanceof Uint8Array) bytes += value.length;
  else if (typeof value === 'object' && value !== null) {
    if (depth === 0) return Number.POSITIVE_INFINITY;
    for (const [key, each] of Object.entries(value)) bytes += fieldBytes(key, each, depth - 1);
  }
  return bytes;
}

export function deadLetterHeaders(reason: string, error: TaskError, atMs: number): Record<string, unknown> {
  return {
    'millrace-reason': reason,
    'millrace-error': errorText(error),
    'millrace-failed-at-ms': Math.floor(atMs),
  };
}

/** The error as JSON that can be read, its texts shortened as far as its bytes want it. */
function errorText(error: TaskError): string {
  const bytesMax = LIMITS.amqpErrorHeaderBytesMax;
  let text = JSON.stringify(error);
  for (let characters = bytesMax / 2; Buffer.byteLength(text) > bytesMax; characters /= 2) {
    text = JSON.stringify(error, (_, value: unknown) =>
      typeof value === 'string' ? value.slice(0, characters) : value,
    );
  }
  return text;
}
