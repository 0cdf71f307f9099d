import type { KindSpec } from '../core/kind.ts';
import type { Scheduler, ScheduleSettings } from '../engine/scheduler.ts';
import { MillraceError, shown } from '../errors.ts';
import { checkName, checkObject, LIMITS, parseHeaders } from '../limits.ts';
import type { EncodedBytes } from '../protocol/encoded-bytes.ts';
import { validateSpec } from '../protocol/spec.ts';
import type { Method } from './calls.ts';

/** The methods of CALL about schedules; docs/protocol.md lists them. */
export function scheduleMethods(scheduler: Scheduler): [string, Method][] {
  return [
    ['schedule.set', ({ name, ...settings }) => scheduler.set(parseScheduleName(name), parseSettings(settings))],
    ['schedule.get', ({ name }) => scheduler.get(parseScheduleName(name))],
    ['schedule.list', () => ({ schedules: scheduler.list() })],
    ['schedule.pause', ({ name }) => scheduler.pause(parseScheduleName(name))],
    ['schedule.resume', ({ name }) => scheduler.resume(parseScheduleName(name))],
    ['schedule.remove', ({ name }) => ({ removed: scheduler.remove(parseScheduleName(name)) })],
    ['schedule.run', ({ name, key }) => ({ id: scheduler.runNow(parseScheduleName(name), parseKey(key)) })],
  ];
}

export function parseScheduleName(value: unknown): string {
  checkName('schedule name', value, LIMITS.scheduleNameBytesMax);
  return value;
}

function parseKey(value: unknown): string {
  if (typeof value === 'string' && /^[0-9a-f]{16}$/.test(value)) return value;
  const message = `key is ${shown(value)}; it must be 16 hex digits, drawn anew for each run that is asked for`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

const SETTINGS: readonly string[] = [
  ...['cron', 'timeZone', 'everyMs', 'misfire', 'payload', 'headers'],
  ...['task', 'queue', 'priority', 'maxAttempts', 'timeoutMs', 'backoff', 'concurrencyKey'],
];

/** The engine judges the values of `cron`, `timeZone`, `everyMs` and `misfire`, and the size of the payload. */
function parseSettings(params: Record<string, unknown>): ScheduleSettings {
  const other = Object.keys(params).find((key) => !SETTINGS.includes(key));
  if (other !== undefined) {
    const message = `a schedule has no setting ${shown(other)}; there are ${SETTINGS.join(', ')}`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const { cron, timeZone, everyMs, misfire } = params;
  const timing = { cron, timeZone, everyMs } as ScheduleSettings['timing'];
  return {
    timing,
    misfire,
    spec: parseSpec(params),
    payload: parsePayload(params.payload),
    headers: parseHeaders(params.headers),
  };
}

function parseSpec(params: Record<string, unknown>): KindSpec {
  const { task, queue, priority, maxAttempts, timeoutMs, backoff, concurrencyKey } = params;
  checkObject('backoff', backoff);
  const { type, delayMs, maxDelayMs, jitter } = backoff as Record<string, unknown>;
  if ((type !== 'fixed' && type !== 'exponential') || typeof jitter !== 'boolean') {
    const message = 'backoff must have a type, "fixed" or "exponential", and say whether there is jitter';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const spec = {
    ...{ queue, name: task, priority, maxAttempts, timeoutMs },
    backoff: { type, delayMs, maxDelayMs, jitter },
    ...(concurrencyKey === undefined ? {} : { concurrencyKey }),
  } as KindSpec;
  validateSpec(spec);
  return spec;
}

function parsePayload(value: unknown): EncodedBytes {
  checkObject('payload', value);
  const { encoding, data } = value as Record<string, unknown>;
  if ((encoding !== 'utf8' && encoding !== 'base64') || typeof data !== 'string') {
    const message = 'payload must be { encoding: "utf8" or "base64", data: text }';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  return { encoding, data };
}
