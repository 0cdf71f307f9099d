import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ledger } from './ledger.ts';

test('counts what is missing, what came twice and what nobody sent', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.array(fc.integer({ min: -5, max: 110 })), (expected, marks) => {
      const ledger = new Ledger(expected);
      for (const mark of marks) ledger.mark(mark);
      const known = marks.filter((mark) => mark >= 0 && mark < expected);
      const distinct = new Set(known).size;
      expect(ledger.lost).toBe(expected - distinct);
      expect(ledger.seen).toBe(distinct);
      expect(ledger.duplicated).toBe(known.length - distinct);
      expect(ledger.foreign).toBe(marks.length - known.length);
      expect(ledger.marks).toBe(marks.length);
    }),
  );
});

test.each([Number.NaN, 0.5, Number.POSITIVE_INFINITY, undefined as unknown as number])('%s is no task', (mark) => {
  const ledger = new Ledger(2);
  ledger.mark(mark);
  expect(ledger.foreign).toBe(1);
});
