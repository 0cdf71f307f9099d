import type { ScheduleInfo } from '../broker/contract.ts';
import { describeBytes } from './payload.ts';
import { printable } from './printable.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatTime } from './units.ts';

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
  const { backoff, concurrencyKey, payload, payloadBytes, headers } = schedule;
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
    ['Payload', payload === undefined ? formatBytes(payloadBytes) : describeBytes(payload)],
    ...Object.entries(headers ?? {}).map(([header, value]): [string, string] => ['Header', `${header}: ${value}`]),
  ];
  return rows.map(([title, value]) => `${title.padEnd(9)} ${printable(value)}`);
}

function describeBackoff({ type, delayMs, maxDelayMs, jitter }: ScheduleInfo['backoff']): string {
  const first = formatDuration(delayMs);
  const pauses = type === 'fixed' ? first : `${first}, twice as long each time, up to ${formatDuration(maxDelayMs)}`;
  return jitter ? `${pauses}, with jitter` : pauses;
}
