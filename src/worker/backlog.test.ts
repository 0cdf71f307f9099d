import { expect, test } from 'vitest';
import type { DeliveryRun } from '../broker/contract.ts';
import { Backlog } from './backlog.ts';

const run = (length: number): DeliveryRun => ({ length }) as DeliveryRun;

function takeAll(backlog: Backlog): [DeliveryRun, number][] {
  const taken: [DeliveryRun, number][] = [];
  backlog.drain((of, index) => taken.push([of, index]));
  return taken;
}

test('what is put back is next again, and what was revoked is not', () => {
  const [first, second] = [run(5), run(3)];
  const backlog = new Backlog();
  backlog.push(first);
  backlog.push(second);
  const { order } = backlog;
  backlog.take(4);
  backlog.putBack(first, 1, 3, order);
  expect({ size: backlog.size, order: backlog.order, next: backlog.available(10) }).toEqual({
    size: 6,
    order,
    next: 2,
  });
  expect([backlog.revoke(first, 2), backlog.revoke(first, 0), backlog.revoke(second, 0)]).toEqual([true, false, true]);
  expect(takeAll(backlog)).toEqual([
    [first, 1],
    [first, 4],
    [second, 1],
    [second, 2],
  ]);
  expect({ size: backlog.size, run: backlog.run }).toEqual({ size: 0, run: undefined });
});
