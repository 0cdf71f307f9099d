import type { ScheduleInfo } from '../broker/contract.ts';
import { type Column, cut, formatTable, printable } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatTime } from './units.ts';

const PAYLOAD_SHOWN_MAX = 2000;

const COLUMNS: readonly Column<ScheduleInfo>[] = [
  { title: 'NAME', elastic: true, text: ({ name }) => name },
  { title: 'WHEN', elastic: true, text: (schedule) => timingOf(schedule) },
  { title: 'TASK', elastic: true, text: ({ task }) => task },
  { title: 'QUEUE', elastic: true, text: ({ queue }) => queue },
  { title: 'NEXT', text: (schedule) => nextOf(schedule) },
  { title: 'LAST', text: ({ lastAtMs }) => (lastAtMs === undefined ? '-' : formatTime(lastAtMs)) },
  { title: 'FIRED', align: 'right', text: ({ firedCount }) => formatCount(firedCount) },
];

export function scheduleTable(schedules: readonly ScheduleInfo[], columns: number | undefined): string[] {
  return formatTable(COLUMNS, schedules, columns);
}

function timingOf({ cron, timeZone, everyMs }: ScheduleInfo): string {
  return cron === undefined ? `every ${formatDuration(everyMs ?? 0)}` : `${cron} (${timeZone})`;
}

function nextOf({ paused, nextAtMs }: ScheduleInfo): string {
  if (paused) return 'paused';
  return nextAtMs === undefined ? 'never' : formatTime(nextAtMs);
}

/** Everything, a line each. */
export function scheduleDetails(schedule: ScheduleInfo): string[] {
  const { name, task, queue, misfire, priority, maxAttempts, timeoutMs, lastAtMs, lastTaskId, firedCount } = schedule;
  const { backoff, concurrencyKey } = schedule;
  const rows: [string, string][] = [
    ['Schedule', name],
    ['When', timingOf(schedule)],
    ['Missed', { skip: 'let go', once: 'one task for all', all: 'a task for each' }[misfire]],
    ['Next', nextOf(schedule)],
    ['Last', lastAtMs === undefined ? 'never fired' : `${formatTime(lastAtMs)}, task ${lastTaskId}`],
    ['Fired', formatCount(firedCount)],
    ['Task', task],
    ['Queue', queue],
    ['Priority', String(priority)],
    ['Attempts', `${maxAttempts}, each at most ${formatDuration(timeoutMs)}`],
    ['Pauses', describeBackoff(backoff)],
    ...(concurrencyKey === undefined ? [] : [['Turns', `by the key ${concurrencyKey}`] as [string, string]]),
    ['Payload', describePayload(schedule)],
  ];
  return rows.map(([title, value]) => `${title.padEnd(9)} ${printable(value)}`);
}

function describeBackoff({ type, delayMs, maxDelayMs, jitter }: ScheduleInfo['backoff']): string {
  const first = formatDuration(delayMs);
  const pauses = type === 'fixed' ? first : `${first}, twice as long each time, up to ${formatDuration(maxDelayMs)}`;
  return jitter ? `${pauses}, with jitter` : pauses;
}

function describePayload({ payload, payloadBytes }: ScheduleInfo): string {
  if (payload === undefined) return formatBytes(payloadBytes);
  const { encoding, data } = payload;
  const rest = data.length - PAYLOAD_SHOWN_MAX;
  const more = rest > 0 ? ` (${formatCount(rest)} more characters: see --json)` : '';
  return `${cut(data, PAYLOAD_SHOWN_MAX)}${more}${encoding === 'base64' ? ' (base64: it is no text)' : ''}`;
}
