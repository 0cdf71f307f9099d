import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { History } from './history.ts';
import { NONE, TaskTable } from './task-table.ts';

function setUp(count: number): { history: History; slots: number[] } {
  const table = new TaskTable();
  const slots = Array.from({ length: count }, () => table.allocate());
  return { history: new History(table), slots };
}

function listed(history: History): number[] {
  const slots: number[] = [];
  history.forEach((slot) => {
    slots.push(slot);
  });
  return slots;
}

describe('the history of a queue', () => {
  it('keeps what it knows of each task while it grows', () => {
    const { history, slots } = setUp(100);
    slots.forEach((slot, i) => {
      history.push(slot, 1000 + i, i % 2 === 0 ? NONE : i, i * 10);
    });
    expect(history.count).toBe(100);
    expect(listed(history)).toEqual(slots);
    const known = slots.map((slot) => [
      history.finishedAtMs(slot),
      history.resultSegment(slot),
      history.resultOffset(slot),
    ]);
    expect(known).toEqual(slots.map((_, i) => [1000 + i, i % 2 === 0 ? NONE : i, i * 10]));
  });

  it('closes holes instead of growing, when most of it is holes', () => {
    const { history, slots } = setUp(40);
    for (const slot of slots.slice(0, 16)) history.push(slot, slot, NONE, 0);
    // The oldest stays, so that the head cannot move past the holes.
    for (const slot of slots.slice(1, 12)) history.remove(slot);
    for (const slot of slots.slice(16, 24)) history.push(slot, slot, NONE, 0);
    const left = [slots[0], ...slots.slice(12, 24)];
    expect(listed(history)).toEqual(left);
    expect(history.oldest()).toBe(slots[0]);
    for (const slot of left) expect(history.finishedAtMs(slot)).toBe(slot);
  });

  it('moves a result to its copy', () => {
    const { history, slots } = setUp(1);
    history.push(slots[0], 5, 3, 100);
    history.setResult(slots[0], 9, 200);
    expect([history.resultSegment(slots[0]), history.resultOffset(slots[0])]).toEqual([9, 200]);
    expect(history.finishedAtMs(slots[0])).toBe(5);
  });

  it('is sorted by the end of its tasks, those of one moment as they came', () => {
    const { history, slots } = setUp(30);
    slots.forEach((slot, i) => {
      history.push(slot, (i * 7) % 10, i, i + 1);
    });
    history.remove(slots[4]);
    history.sort();
    const left = slots.filter((slot) => slot !== slots[4]);
    expect(listed(history)).toEqual(left.sort((a, b) => ((a * 7) % 10) - ((b * 7) % 10) || a - b));
    expect(left.map((slot) => history.resultOffset(slot))).toEqual(left.map((slot) => slot + 1));
    expect(history.oldest()).toBe(slots[0]);
    expect(history.count).toBe(29);
  });

  it('equals a plain list while tasks come, expire and are taken out of the middle', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.constant(-1) },
      { weight: 1, arbitrary: fc.constant(-2) },
      { weight: 1, arbitrary: fc.nat(1000) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
        const table = new TaskTable();
        const history = new History(table);
        let list: number[] = [];
        for (const what of steps) {
          if (what === -1) {
            const slot = table.allocate();
            history.push(slot, slot * 2, slot * 3, slot * 4);
            list.push(slot);
          } else if (list.length > 0) {
            const slot = what === -2 ? history.oldest() : list[what % list.length];
            if (what === -2) expect(slot).toBe(list[0]);
            history.remove(slot);
            list = list.filter((other) => other !== slot);
          }
          expect(history.count).toBe(list.length);
          expect(listed(history)).toEqual(list);
          expect(history.newest(3)).toEqual(list.slice(-3).reverse());
          expect(list.every((slot) => history.resultOffset(slot) === slot * 4)).toBe(true);
        }
        expect(history.oldest()).toBe(list[0] ?? NONE);
      }),
    );
  });
});
