import { expect, test } from 'vitest';
import { describeEvent } from './events.ts';

const ABOUT = { id: '1-2rk', queue: 'mail', name: 'send', atMs: Date.UTC(2026, 10, 28, 12) } as const;

test('an event is a line with what is particular to it', () => {
  expect(describeEvent({ type: 'enqueued', ...ABOUT })).toBe('2026-11-28T12:00:00.000Z  enqueued   1-2rk  mail  send');
  const error = { name: 'Error', message: 'no\nroute', code: 'HANDLER_FAILED' };
  const failed = describeEvent({ type: 'failed', ...ABOUT, attempt: 2, error });
  expect(failed).toContain('attempt 2  Error: no');
  expect(failed).not.toContain('\n');
  expect(describeEvent({ type: 'dropped', count: 1200 })).toMatch(/1.?200 events are missing here/);
  expect(describeEvent({ type: 'dropped', count: null })).toContain('may be missing');
});
