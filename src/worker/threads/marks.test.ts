import { expect, test } from 'vitest';
import { Marks } from './marks.ts';

test('what was taken back cannot be claimed until the thread knows', () => {
  const worker = new Marks();
  const thread = new Marks(worker.buffer);
  expect(thread.claim(3, 3, 1000)).toBe(true);
  worker.recall();
  expect(worker.begun(0)).toBe(3);
  expect(thread.claim(4, 1, 1001)).toBe(false);
  expect(worker.begun(0)).toBe(3);
  thread.acceptRecall();
  expect(thread.claim(9, 2, 1002)).toBe(true);
  expect([worker.begun(3), worker.length]).toEqual([9, 2]);
});

test('numbers and times beyond 32 bits are read as they were', () => {
  const nowMs = Date.UTC(2026, 0, 1) + 0.25;
  const marks = new Marks();
  let begun = 0;
  for (const last of [2 ** 30 - 1, 2 ** 31 - 2, 2 ** 31 + 5, 3e9, 4e9, 2 ** 32 + 7]) {
    expect(marks.claim(last, 1, nowMs)).toBe(true);
    begun = marks.begun(begun);
    expect(begun).toBe(last);
  }
  const ageMs = nowMs + 5000 - marks.startedMs(nowMs + 5000);
  expect(ageMs).toBeGreaterThan(4998);
  expect(ageMs).toBeLessThanOrEqual(5000);
});
