import { describe, expect, it } from 'vitest';
import { LIMITS } from '../limits.ts';
import { Failures } from './failures.ts';

const failure = (attempt: number): { attempt: number; atMs: number; segment: number; offset: number } => ({
  attempt,
  atMs: attempt * 10,
  segment: attempt * 100,
  offset: attempt * 1000,
});

describe('the failures kept of a task', () => {
  it('are the newest ones, and the one that goes says where it lay', () => {
    const failures = new Failures();
    const dropped = Array.from({ length: LIMITS.attemptsKeptMax + 2 }, (_, i) => failures.add(7, failure(i + 1)));
    expect(dropped.slice(-3)).toEqual([-1, 100, 200]);
    expect(failures.get(7).map(({ attempt }) => attempt)).toEqual(
      Array.from({ length: LIMITS.attemptsKeptMax }, (_, i) => i + 3),
    );
  });

  it('lose the newest one when its charge is taken back', () => {
    const failures = new Failures();
    failures.add(7, failure(1));
    failures.add(7, failure(2));
    expect(failures.pop(7)).toBe(200);
    expect(failures.get(7)).toEqual([failure(1)]);
    expect(failures.pop(7)).toBe(100);
    expect(failures.pop(7)).toBe(-1);
    expect(failures.pop(8)).toBe(-1);
  });

  it('point at their copies after a move', () => {
    const failures = new Failures();
    failures.add(7, failure(1));
    failures.add(7, failure(2));
    failures.relocate(7, [
      { segment: 5, offset: 6 },
      { segment: 7, offset: 8 },
    ]);
    expect(failures.get(7)).toEqual([
      { attempt: 1, atMs: 10, segment: 5, offset: 6 },
      { attempt: 2, atMs: 20, segment: 7, offset: 8 },
    ]);
  });

  it('are gone with the task', () => {
    const failures = new Failures();
    failures.add(7, failure(1));
    failures.delete(7);
    expect(failures.get(7)).toEqual([]);
  });
});
