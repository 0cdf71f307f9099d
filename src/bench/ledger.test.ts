import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ledger } from './ledger.ts';
import { SharedLedger } from './shared-ledger.ts';

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

test.each([
  ['one thread', (expected: number) => new Ledger(expected)],
  ['several threads', (expected: number) => new SharedLedger(expected, 0)],
])('a ledger of %s tells when so many different tasks have come', async (_, open) => {
  const ledger = open(10);
  let isThere = false;
  const there = ledger.reach(3, { quietMs: 60_000 }).then(() => {
    isThere = true;
  });
  for (const index of [0, 1, 1, 77]) ledger.mark(index);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isThere).toBe(false);
  ledger.mark(9);
  await there;
  await ledger.reach(2, { quietMs: 60_000 });
  expect(ledger.seen).toBe(3);
});

test.each([
  ['nothing comes for so long', { quietMs: 1 }],
  ['somebody else says so', { quietMs: 60_000, isOver: () => true }],
])('the wait for tasks that do not come is over when %s', async (_, patience) => {
  const ledger = new Ledger(10);
  ledger.mark(4);
  await ledger.reach(10, patience);
  expect(ledger.lost).toBe(9);
});
