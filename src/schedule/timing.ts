import { Cron } from 'croner';
import type { Timing } from '../core/schedules.ts';
import { MillraceError, shown, shownValue } from '../errors.ts';
import { checkInteger, DEFAULTS, LIMITS } from '../limits.ts';

export type { Misfire, Timing } from '../core/schedules.ts';

/**
 * What a user says of when a schedule is due. Intervals count wall-clock time from `anchorMs`; a cron expression means the local time of its
 * zone. Where that time zone changes its clock, an expression whose seconds, minutes and hours name times (numbers, lists,
 * ranges) keeps to them: one that is left out comes at the first moment after the gap, one that comes twice is due the first
 * time. An expression with `*` or a step in these fields counts: what is left out is left out, what comes twice is due twice.
 */
export interface TimingOptions {
  cron?: string | undefined;
  timeZone?: string | undefined;
  everyMs?: number | undefined;
}

/** Throws INVALID_ARGUMENT, also for an expression that is never due. */
export function parseTiming({ cron, timeZone, everyMs }: TimingOptions, nowMs: number): Timing {
  if ((cron === undefined) === (everyMs === undefined)) {
    const given = cron === undefined ? 'neither cron nor everyMs was given' : 'cron and everyMs were both given';
    throw new MillraceError('INVALID_ARGUMENT', `${given}: a schedule has one of them`);
  }
  if (everyMs !== undefined) {
    checkInteger('everyMs', everyMs, LIMITS.scheduleEveryMsMin, LIMITS.delayMsMax);
    if (timeZone === undefined) return { everyMs, anchorMs: Math.floor(nowMs) };
    const message =
      'timeZone was given with everyMs: an interval is the same in all time zones; give cron, or no timeZone';
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  const timing = { cron: cleanCron(cron), timeZone: checkTimeZone(timeZone ?? DEFAULTS.timeZone) };
  if (nextDueMs(timing, nowMs) !== null) return timing;
  throw new MillraceError('INVALID_ARGUMENT', `cron is ${shown(cron)}, which names a day that never comes`);
}

/** Whether both are due at the same times, but for where an interval began. */
export function sameTiming(a: Timing, b: Timing): boolean {
  if ('cron' in a) return 'cron' in b && a.cron === b.cron && a.timeZone === b.timeZone;
  return 'everyMs' in b && a.everyMs === b.everyMs;
}

/** The first due time after `afterMs`; null when there is none. */
export function nextDueMs(timing: Timing, afterMs: number): number | null {
  if ('cron' in timing)
    return (
      cronOf(timing)
        .nextRun(new Date(Math.floor(afterMs)))
        ?.getTime() ?? null
    );
  const { everyMs, anchorMs } = timing;
  return anchorMs + Math.max(1, Math.floor((afterMs - anchorMs) / everyMs) + 1) * everyMs;
}

/** The last due time up to and with `untilMs`; null when there is none. */
export function lastDueMs(timing: Timing, untilMs: number): number | null {
  // What croner gives is before its reference.
  if ('cron' in timing)
    return (
      cronOf(timing)
        .previousRuns(1, new Date(Math.floor(untilMs) + 1))[0]
        ?.getTime() ?? null
    );
  const { everyMs, anchorMs } = timing;
  const count = Math.floor((untilMs - anchorMs) / everyMs);
  return count < 1 ? null : anchorMs + count * everyMs;
}

/** Parsed expressions take 80 KB each, and most schedules wait. */
const PARSED_MAX = 64;
const parsed = new Map<string, Cron>();

function cronOf({ cron, timeZone }: { cron: string; timeZone: string }): Cron {
  const key = `${cron} ${timeZone}`;
  let found = parsed.get(key);
  if (found === undefined) {
    found = parseCron(cron, canonicalZone(timeZone) ?? timeZone);
    if (parsed.size >= PARSED_MAX) parsed.clear();
    parsed.set(key, found);
  }
  return found;
}

function parseCron(cron: string, timezone: string): Cron {
  try {
    return new Cron(cron, { timezone, mode: '5-or-6-parts', fixedTimeRule: 'no-wildcard' });
  } catch (cause) {
    const reason = (cause as Error).message.replace(/^CronPattern: /, '');
    const message = `cron is ${shown(cron)}, which is no expression (${reason.slice(0, REASON_CHARACTERS_MAX)}); ${FIELDS}`;
    throw new MillraceError('INVALID_ARGUMENT', message, { cause, details: { value: shownValue(cron) } });
  }
}

const REASON_CHARACTERS_MAX = 200;
const FIELDS = 'there are five fields, minute hour day month weekday, or six with seconds before them';

/** One space between fields, so that equal expressions are equal texts. Throws INVALID_ARGUMENT. */
function cleanCron(cron: unknown): string {
  if (typeof cron !== 'string') {
    throw new MillraceError('INVALID_ARGUMENT', `cron must be text such as "30 2 * * *", not ${shown(cron)}`);
  }
  if (cron.length > LIMITS.cronCharactersMax) {
    const message = `cron has ${cron.length} characters; at most ${LIMITS.cronCharactersMax} are allowed`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { bound: LIMITS.cronCharactersMax } });
  }
  // Croner takes a time for one that is due once.
  if (cron.includes(':')) {
    const message = `cron is ${shown(cron)}, which is a time, not an expression: enqueue a task with runAt`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: shownValue(cron) } });
  }
  const fields = cron.trim().split(/\s+/);
  if (fields.length === 5 || fields.length === 6 || (fields.length === 1 && cron.includes('@')))
    return fields.join(' ');
  const message = `cron is ${shown(cron)}, which has ${cron.trim() === '' ? 0 : fields.length} fields; ${FIELDS}`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: shownValue(cron) } });
}

function checkTimeZone(timeZone: unknown): string {
  if (typeof timeZone === 'string' && canonicalZone(timeZone) !== undefined) return timeZone;
  const message = `timeZone is ${shown(timeZone)}; allowed are the names of the IANA time zones, such as "Europe/Berlin", and "UTC"`;
  throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: shownValue(timeZone) } });
}

/** One spelling for each zone: croner keeps a formatter for every spelling that it was given. */
function canonicalZone(timeZone: string): string | undefined {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
