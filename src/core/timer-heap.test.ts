import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TaskTable } from './task-table.ts';
import { TimerHeap } from './timer-heap.ts';

function drained(heap: TimerHeap): number[] {
  const slots: number[] = [];
  while (heap.size > 0) slots.push(heap.pop());
  return slots;
}

describe('timers', () => {
  it('come in the order of due times, and of adding among equals', () => {
    const table = new TaskTable();
    const heap = new TimerHeap(table);
    const dueMs = Array.from({ length: 500 }, (_, i) => (i * 7919) % 50);
    const slots = dueMs.map(() => table.allocate());
    slots.forEach((slot, i) => {
      heap.push(slot, dueMs[i]);
    });
    const expected = [...slots].sort((a, b) => dueMs[a] - dueMs[b] || a - b);
    expect(drained(heap)).toEqual(expected);
    expect(heap.nextDueMs).toBe(Number.POSITIVE_INFINITY);
  });

  it('equal a sorted list under any pushes, pops and removals', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('push' as const), value: fc.nat(20) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('pop' as const), value: fc.constant(0) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('remove' as const), value: fc.nat(1000) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const table = new TaskTable();
        const heap = new TimerHeap(table);
        let sorted: { slot: number; dueMs: number }[] = [];
        for (const { kind, value } of steps) {
          if (kind === 'push') {
            const slot = table.allocate();
            heap.push(slot, value);
            const behind = sorted.findIndex((other) => other.dueMs > value);
            sorted.splice(behind < 0 ? sorted.length : behind, 0, { slot, dueMs: value });
          } else if (sorted.length > 0 && kind === 'pop') {
            expect(heap.pop()).toBe(sorted.shift()?.slot);
          } else if (sorted.length > 0) {
            const { slot } = sorted[value % sorted.length];
            heap.remove(slot);
            sorted = sorted.filter((other) => other.slot !== slot);
          }
          expect(heap.size).toBe(sorted.length);
          expect(heap.nextDueMs).toBe(sorted[0]?.dueMs ?? Number.POSITIVE_INFINITY);
          expect(sorted.every(({ slot, dueMs }) => heap.dueMsOf(slot) === dueMs)).toBe(true);
        }
        expect(drained(heap)).toEqual(sorted.map(({ slot }) => slot));
      }),
    );
  });
});
