import { expect, test } from 'vitest';
import { ledgerProblem } from './bench-report.ts';

test('a ledger with lost or repeated tasks is a problem that names what was run', () => {
  const whole = { name: 'a', lost: 0, duplicated: 0 };
  expect(ledgerProblem([whole])).toBeUndefined();
  expect(ledgerProblem([whole, { name: 'b', lost: 2, duplicated: 0 }, { name: 'c', lost: 0, duplicated: 1 }])).toBe(
    'not every task was processed exactly once: b (2 lost, 0 duplicated), c (0 lost, 1 duplicated)',
  );
});
