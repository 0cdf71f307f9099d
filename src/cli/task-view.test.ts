import { expect, it } from 'vitest';
import type { TaskInfo } from '../broker/contract.ts';
import { taskDetails } from './task-view.ts';

const TASK: TaskInfo = {
  id: '1-1',
  queue: 'q',
  name: 'resize',
  state: 'active',
  priority: 4,
  attempt: 2,
  maxAttempts: 3,
  timeoutMs: 1000,
  enqueuedAtMs: Date.UTC(2026, 0, 1),
  payloadBytes: 2,
  failures: [],
};

it('shows how far a task is, and its last lines, of which each is one', () => {
  const progress = { value: 0.4, message: 'resizing' };
  const lines = [{ atMs: Date.UTC(2026, 0, 1, 12), attempt: 2, text: 'read\nall \u001b[31m' }];
  const shown = taskDetails({ ...TASK, progress, log: { lines, dropped: 3 } });
  expect(shown).toContain('Progress  0.4 resizing');
  expect(shown).toContain('Log       3 earlier lines that are no longer kept');
  const log = shown.find((line) => line.includes('attempt 2: read'));
  expect(log).toMatch(/^Log {7}.*12:00:00.*, attempt 2: read/);
  expect(log).not.toMatch(/\p{Cc}/u);
});

it('shows each header, and lets none of them steer the terminal', () => {
  const shown = taskDetails({ ...TASK, headers: { tenant: 'a', locale: 'de\u001b[31m' } });
  expect(shown).toContain('Header    tenant: a');
  expect(shown.find((line) => line.startsWith('Header    locale: de'))).not.toMatch(/\p{Cc}/u);
});

it('shows who ran an attempt, and for how long', () => {
  const error = { name: 'Error', message: 'no', code: 'HANDLER_FAILED' };
  const atMs = Date.UTC(2026, 0, 1, 12);
  const failures = [
    { attempt: 1, atMs, error, worker: 'w', startedAtMs: atMs - 2500 },
    { attempt: 2, atMs, error },
  ];
  const shown = taskDetails({ ...TASK, worker: 'w', startedAtMs: atMs, failures }).filter((line) =>
    /^(Began|Failure)/.test(line),
  );
  expect(shown[0]).toMatch(/^Began {5}2026-01-01 /);
  expect(shown[1]).toMatch(/^Failure {3}attempt 1 by w, .* after 2.5 s, HANDLER_FAILED: Error: no$/);
  expect(shown[2]).toMatch(/^Failure {3}attempt 2, \S+ \S+, HANDLER_FAILED: Error: no$/);
});

it('shows nothing of what a task has not told', () => {
  expect(taskDetails(TASK).filter((line) => /^(Log|Progress)/.test(line))).toEqual([]);
});
