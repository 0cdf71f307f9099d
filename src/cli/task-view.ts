import type { DeadGroup, TaskInfo } from '../broker/contract.ts';
import { describeBytes } from './payload.ts';
import { printable } from './printable.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatTime, plural } from './units.ts';

const COLUMNS: readonly Column<TaskInfo>[] = [
  { title: 'ID', text: ({ id }) => id },
  { title: 'NAME', elastic: true, text: ({ name }) => name },
  { title: 'QUEUE', elastic: true, text: ({ queue }) => queue },
  { title: 'STATE', text: ({ state, cancelRequested }) => (cancelRequested === true ? `${state}, cancelling` : state) },
  { title: 'ATTEMPT', align: 'right', text: ({ attempt, maxAttempts }) => `${attempt}/${maxAttempts}` },
  { title: 'ENQUEUED', text: ({ enqueuedAtMs }) => formatTime(enqueuedAtMs) },
  { title: 'LAST ERROR', elastic: true, text: (task) => lastError(task) },
];

export function taskTable(tasks: readonly TaskInfo[], columns: number | undefined): string[] {
  return formatTable(COLUMNS, tasks, columns);
}

function lastError({ failures }: TaskInfo): string {
  const error = failures.at(-1)?.error;
  return error === undefined ? '-' : shownError(error);
}

function shownError({ code, name, message }: { code: string; name: string; message: string }): string {
  return `${code === 'HANDLER_FAILED' ? name : code}: ${message}`;
}

const DEAD_COLUMNS: readonly Column<DeadGroup>[] = [
  { title: 'COUNT', align: 'right', text: ({ count }) => formatCount(count) },
  { title: 'QUEUE', elastic: true, text: ({ queue }) => queue },
  { title: 'NAME', elastic: true, text: ({ name }) => name },
  { title: 'ERROR', elastic: true, text: ({ code, error, message }) => shownError({ code, name: error, message }) },
  { title: 'LAST', text: ({ newestAtMs }) => formatTime(newestAtMs) },
  { title: 'SAMPLE', text: ({ sampleId }) => sampleId },
  { title: 'GROUP', text: ({ group }) => group },
];

export function deadTable(groups: readonly DeadGroup[], columns: number | undefined): string[] {
  return formatTable(DEAD_COLUMNS, groups, columns);
}

/** Everything, a line each. */
export function taskDetails(task: TaskInfo): string[] {
  const { id, name, queue, priority, attempt, maxAttempts, timeoutMs, runAtMs, finishedAtMs, worker, progress } = task;
  const { payload, result } = task;
  const rows: [string, string | undefined][] = [
    ['Task', id],
    ['Name', name],
    ['Queue', queue],
    ['State', task.cancelRequested === true ? `${task.state}, its worker was told to stop` : task.state],
    ['Worker', worker],
    ['Began', task.startedAtMs === undefined ? undefined : formatTime(task.startedAtMs)],
    ['Progress', progress === undefined ? undefined : describeProgress(progress)],
    ['Waits for', waitsFor(task.dependencies)],
    ['Needed by', task.children === undefined ? undefined : plural(task.children.total, 'task')],
    ['Key', task.uniqueKey],
    ['Priority', String(priority)],
    ['Attempt', `${attempt} of ${maxAttempts}, each at most ${formatDuration(timeoutMs)}`],
    ['Enqueued', formatTime(task.enqueuedAtMs)],
    ['Starts', runAtMs === undefined ? undefined : `${formatTime(runAtMs)} or later`],
    ['Ended', finishedAtMs === undefined ? undefined : ended(task.enqueuedAtMs, finishedAtMs)],
    ['Payload', payload === undefined ? formatBytes(task.payloadBytes) : describeBytes(payload)],
    ...Object.entries(task.headers ?? {}).map(([name, value]): [string, string] => ['Header', `${name}: ${value}`]),
    ['Result', result === undefined ? undefined : describeBytes(result)],
    ...logRows(task),
    ...task.failures.map((failure): [string, string] => ['Failure', describeFailed(failure)]),
  ];
  return rows.flatMap(([title, value]) => (value === undefined ? [] : [`${title.padEnd(9)} ${printable(value)}`]));
}

function describeFailed({ attempt, atMs, error, worker, startedAtMs }: TaskInfo['failures'][number]): string {
  const who = worker === undefined ? '' : ` by ${worker}`;
  const long = startedAtMs === undefined ? '' : ` after ${formatDuration(Math.max(0, atMs - startedAtMs))}`;
  return `attempt ${attempt}${who}, ${formatTime(atMs)}${long}, ${error.code}: ${error.name}: ${error.message}`;
}

function describeProgress({ value, message }: NonNullable<TaskInfo['progress']>): string {
  const shown = JSON.stringify(value);
  return message === undefined ? shown : `${shown} ${message}`;
}

function logRows({ log }: TaskInfo): [string, string][] {
  if (log === undefined) return [];
  const { lines, dropped } = log;
  const gone = `${plural(dropped, 'earlier line')} that ${dropped === 1 ? 'is' : 'are'} no longer kept`;
  return [
    ...(dropped === 0 ? [] : [['Log', gone] as [string, string]]),
    ...lines.map(({ atMs, attempt, text }): [string, string] => [
      'Log',
      `${formatTime(atMs)}, attempt ${attempt}: ${text}`,
    ]),
  ];
}

function waitsFor(dependencies: TaskInfo['dependencies']): string | undefined {
  if (dependencies === undefined) return undefined;
  const { total, open, completed, dead, cancelled } = dependencies;
  const ends = Object.entries({ completed, dead, cancelled }).filter(([, count]) => count > 0);
  const ended = ends.map(([state, count]) => `${formatCount(count)} ${state}`).join(', ');
  return `${formatCount(open)} of ${plural(total, 'task')}${ended === '' ? '' : ` (${ended})`}`;
}

function ended(enqueuedAtMs: number, finishedAtMs: number): string {
  return `${formatTime(finishedAtMs)}, ${formatDuration(Math.max(0, finishedAtMs - enqueuedAtMs))} after it was enqueued`;
}
