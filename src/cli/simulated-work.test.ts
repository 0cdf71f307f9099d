import { expect, test } from 'vitest';
import type { TaskContext } from '../index.ts';
import { simulatedWork } from './simulated-work.ts';

function fails(run: ReturnType<typeof simulatedWork>, id: string, attempt: number, input: unknown = null): boolean {
  try {
    run(input, { id, attempt } as TaskContext);
    return false;
  } catch {
    return true;
  }
}

test('about the asked shares fail, and a task stays what it is over its attempts', () => {
  const run = simulatedWork({ taskTimeMs: 0, failRate: 0.05, deadRate: 0.01 });
  const ids = Array.from({ length: 20_000 }, (_, index) => `1-${index.toString(36)}`);
  const first = ids.filter((id) => fails(run, id, 1));
  const second = first.filter((id) => fails(run, id, 2));
  const third = first.filter((id) => fails(run, id, 3));
  expect(first.length / ids.length).toBeGreaterThan(0.05);
  expect(first.length / ids.length).toBeLessThan(0.07);
  expect(second.length / ids.length).toBeGreaterThan(0.005);
  expect(second.length / ids.length).toBeLessThan(0.015);
  expect(third).toEqual(second);
});

test('a payload may ask for it', () => {
  const run = simulatedWork({ taskTimeMs: 0, failRate: 0, deadRate: 0 });
  expect([1, 2].map((attempt) => fails(run, '1-0', attempt, { fail: 'once' }))).toEqual([true, false]);
  expect([1, 2].map((attempt) => fails(run, '1-0', attempt, { fail: 'always' }))).toEqual([true, true]);
  expect(fails(run, '1-0', 1, { x: 1 })).toBe(false);
});
