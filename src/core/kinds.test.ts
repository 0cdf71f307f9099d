import { describe, expect, it } from 'vitest';
import type { KindSpec } from './kind.ts';
import { Kinds } from './kinds.ts';
import { Queue } from './queue.ts';
import { TaskTable } from './task-table.ts';

const retention = { completedCountMax: 1, completedAgeMs: 1, deadCountMax: 1, deadAgeMs: 1 };
const queue = (): Queue => new Queue('q', new TaskTable(), retention);

function spec(timeoutMs: number): KindSpec {
  const backoff = { type: 'fixed', delayMs: 1, maxDelayMs: 1, jitter: false } as const;
  return { queue: 'q', name: 'n', priority: 4, maxAttempts: 1, timeoutMs, backoff };
}

describe('kinds', () => {
  it('are dropped only when no task has them, and their number is used again', () => {
    const kinds = new Kinds();
    const of = queue();
    const first = kinds.add('first', Buffer.from('1'), spec(10), of);
    first.taskCount = 1;
    kinds.dropIfUnused(first);
    expect(kinds.known('first')).toBe(first);
    first.taskCount = 0;
    kinds.dropIfUnused(first);
    // A second time it is no longer its own.
    const second = kinds.add('second', Buffer.from('2'), spec(10), of);
    kinds.dropIfUnused(first);
    expect(kinds.known('first')).toBeUndefined();
    expect(second.index).toBe(first.index);
    expect(kinds.at(second.index)).toBe(second);
    expect(of.kindCount).toBe(1);
  });

  it('keep a copy of their bytes', () => {
    const bytes = Buffer.from('packed');
    const kind = new Kinds().add('k', bytes, spec(10), queue());
    bytes.fill(0);
    expect(Buffer.from(kind.packed).toString()).toBe('packed');
  });

  it('share the timeout class of equal timeouts, and leave few idle ones behind', () => {
    const kinds = new Kinds();
    const of = queue();
    const [a, b] = [kinds.add('a', Buffer.from('a'), spec(10), of), kinds.add('b', Buffer.from('b'), spec(10), of)];
    expect(a.timeoutClass).toBe(b.timeoutClass);
    for (let i = 0; i < 1000; i++) kinds.dropIfUnused(kinds.add(`${i}`, Buffer.from('x'), spec(100 + i), of));
    expect(kinds.timeoutClasses.size).toBeLessThan(100);
    expect(kinds.timeoutClasses.get(10)).toBe(a.timeoutClass);
  });
});
