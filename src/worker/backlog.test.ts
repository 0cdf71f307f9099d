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

test('what several threads give back stands in the order of delivery', () => {
  const [first, second, third] = [run(2), run(2), run(2)];
  const backlog = new Backlog();
  const orders = [first, second, third].map((each) => {
    backlog.push(each);
    const { order } = backlog;
    if (each !== third) backlog.take(2);
    return order;
  }) as [number, number, number];
  backlog.putBack(first, 1, 2, orders[0]);
  backlog.putBack(second, 0, 2, orders[1]);
  backlog.putBack(first, 0, 1, orders[0]);
  expect(takeAll(backlog)).toEqual([first, first, second, second, third, third].map((each, at) => [each, at % 2]));
});
