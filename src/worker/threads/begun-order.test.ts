import { beforeEach, expect, test } from 'vitest';
import type { Consumption, DeliveryRun } from '../../broker/contract.ts';
import { Backlog } from '../backlog.ts';
import { BegunOrder } from './begun-order.ts';
import { HeldTasks, type Parcel } from './held-tasks.ts';
import type { WorkerThread } from './worker-thread.ts';

const RUN_TASKS = 10;

let told: [DeliveryRun, number][];
let backlog: Backlog;
let order: BegunOrder;

beforeEach(() => {
  told = [];
  backlog = new Backlog();
  const begun = (run: DeliveryRun, index: number): void => void told.push([run, index]);
  order = new BegunOrder({ begun } as Partial<Consumption> as Consumption, backlog);
});

function deliver(): DeliveryRun {
  const run = { length: RUN_TASKS } as DeliveryRun;
  backlog.push(run);
  return run;
}

function newThread(): WorkerThread {
  return { held: new HeldTasks(), begun: 0 } as WorkerThread;
}

function hand(thread: WorkerThread, count = RUN_TASKS): Parcel {
  const parcel = thread.held.add(backlog.run as DeliveryRun, backlog.index, count, backlog.order);
  order.add(parcel, thread);
  backlog.take(count);
  return parcel;
}

/** As a worker takes back what waits behind a handler that keeps the thread. */
function recall(thread: WorkerThread, parcel: Parcel): void {
  for (let number = thread.begun + 1; number <= parcel.last; number++) parcel.end(number);
  backlog.putBack(parcel.run, thread.begun, RUN_TASKS, parcel.order);
  thread.held.keepTo(thread.begun);
}

test('what was taken back from a thread holds nothing back that it has begun, nor what others have', () => {
  const [one, other] = [newThread(), newThread()];
  const [first, second] = [deliver(), deliver()];
  const parcel = hand(one);
  hand(other);
  one.begun = 3;
  other.begun = RUN_TASKS;
  recall(one, parcel);
  order.tell();
  expect(told).toEqual([[first, 2]]);
  hand(other, RUN_TASKS - 3);
  other.begun = 2 * RUN_TASKS - 3;
  order.tell();
  expect(order.allBegun).toBe(true);
  expect(told.at(-1)).toEqual([second, RUN_TASKS - 1]);
});

test('what was taken back has not begun when the others of its parcel are over', () => {
  const [one, other] = [newThread(), newThread()];
  const run = deliver();
  const parcel = hand(one);
  one.begun = 3;
  recall(one, parcel);
  for (let number = 1; number <= 3; number++) parcel.end(number);
  hand(other, RUN_TASKS - 3);
  order.tell();
  expect(order.allBegun).toBe(false);
  expect(told).toEqual([[run, 2]]);
  other.begun = 1;
  order.tell();
  expect(told).toEqual([
    [run, 2],
    [run, 3],
  ]);
});
