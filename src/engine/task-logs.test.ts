import { describe, expect, it } from 'vitest';
import { LIMITS } from '../limits.ts';
import { type LogLine, TaskLogs } from './task-logs.ts';

const line = (text: string): LogLine => ({ atMs: 1, attempt: 1, text });

describe('the logs of all tasks', () => {
  it('keep the last lines of each, and count the others', () => {
    const logs = new TaskLogs();
    for (let index = 0; index < LIMITS.taskLogLinesMax + 2; index++) logs.add(1, [line(`${index}`)]);
    logs.add(1, [line('last')], 5);
    const log = logs.of(1);
    expect(log?.lines).toHaveLength(LIMITS.taskLogLinesMax);
    expect(log?.lines[0]).toEqual(line('3'));
    expect(log?.lines.at(-1)).toEqual(line('last'));
    expect(log?.dropped).toBe(8);
  });

  it('forget the tasks that have been silent for longest when there are too many', () => {
    const logs = new TaskLogs(2);
    for (const id of [1, 2, 1, 3]) logs.add(id, [line('x')]);
    expect([1, 2, 3].map((id) => logs.of(id)?.lines.length)).toEqual([2, undefined, 1]);
  });

  it('take no more memory than they may', () => {
    const logs = new TaskLogs(1000, 10_000);
    for (let id = 0; id < 20; id++) logs.add(id, [line('x'.repeat(968))]);
    expect(Array.from({ length: 20 }, (_, id) => logs.of(id)).filter((log) => log !== undefined)).toHaveLength(5);
    expect(logs.of(19)).toBeDefined();
    logs.forget(19);
    logs.add(20, [line('x')]);
    expect(logs.of(15)).toBeDefined();
  });
});
