import { describe, expect, test } from 'vitest';
import { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { Dependency, RelatedTask, TaskSpec } from '../contract.ts';
import { checkSubmission } from './submission.ts';

const SPEC: TaskSpec = {
  queue: 'default',
  name: 'work',
  priority: 4,
  maxAttempts: 1,
  timeoutMs: 1000,
  backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
};

function task(dependsOn: readonly Dependency['on'][] = [], key?: string): RelatedTask {
  return {
    spec: SPEC,
    payload: 'null',
    when: { kind: 'now' },
    dependsOn: dependsOn.map((on) => ({ on, onFailure: 'cancel' })),
    unique: key === undefined ? undefined : { key, scope: 'unfinished' },
  };
}

function codeOf(tasks: readonly RelatedTask[]): string {
  try {
    checkSubmission(tasks);
    return 'taken';
  } catch (error) {
    if (error instanceof MillraceError) return error.code;
    throw error;
  }
}

describe('a submission', () => {
  test('of any graph without a circle is taken, whatever its order', () => {
    expect(codeOf([])).toBe('taken');
    expect(codeOf([task([1, 2]), task([2, 'earlier']), task()])).toBe('taken');
    expect(codeOf(Array.from({ length: 20_000 }, (_, index) => task(index === 0 ? [] : [index - 1])))).toBe('taken');
  });

  test('that goes round in a circle is refused, also by way of a key', () => {
    expect(codeOf([task([0])])).toBe('INVALID_ARGUMENT');
    expect(codeOf([task(), task([0, 3]), task([1]), task([2])])).toBe('INVALID_ARGUMENT');
    // The last is the first: nothing of it is enqueued.
    expect(codeOf([task([1], 'k'), task([2]), task([], 'k')])).toBe('INVALID_ARGUMENT');
    expect(codeOf([task([], 'k'), task([0]), task([1], 'k')])).toBe('taken');
  });

  test('that names a task twice, or one that is not there, is refused', () => {
    expect(codeOf([task(), task([0, 0])])).toBe('INVALID_ARGUMENT');
    expect(codeOf([task(['a', 'a'])])).toBe('INVALID_ARGUMENT');
    for (const on of [2, -1, 0.5, Number.NaN]) expect(codeOf([task(), task([on])])).toBe('INVALID_ARGUMENT');
  });

  test('of more than one may hold is refused', () => {
    expect(codeOf(Array.from({ length: LIMITS.batchTasksMax + 1 }, () => task()))).toBe('INVALID_ARGUMENT');
    const parents = Array.from({ length: LIMITS.dependenciesMax + 1 }, (_, index) => `p${index}`);
    expect(codeOf([task(parents)])).toBe('QUEUE_FULL');
    const five = Array.from({ length: 5 }, () => task(parents.slice(1)));
    expect(codeOf(five)).toBe('QUEUE_FULL');
    expect(codeOf(five.slice(0, 4))).toBe('taken');
    const large = { ...task(), payload: new Uint8Array(LIMITS.payloadBytesMax) };
    expect(codeOf(Array.from({ length: 17 }, () => large))).toBe('PAYLOAD_TOO_LARGE');
  });
});
