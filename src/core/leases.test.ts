import { describe, expect, it } from 'vitest';
import { Leases, type TimeoutClass } from './leases.ts';
import { NONE } from './task-table.ts';
import { CoreWorker } from './worker.ts';

function timeoutClass(): TimeoutClass {
  return { timeoutMs: 10, head: NONE, tail: NONE, kindCount: 1 };
}

function held(leases: Leases, worker: CoreWorker): number[] {
  const slots: number[] = [];
  for (let lease = worker.leaseHead; lease !== NONE; lease = leases.next(lease)) slots.push(leases.slot(lease));
  return slots;
}

describe('leases', () => {
  it('are held by one worker under one token', () => {
    const leases = new Leases();
    const [one, other] = [new CoreWorker(1, [], 1, 4, 0), new CoreWorker(2, [], 1, 4, 0)];
    const lease = leases.create(one, 77, 3, 0xffff_fffe);
    const token = 3 * 2 ** 32 + 0xffff_fffe;
    expect(leases.token(lease)).toBe(token);
    expect(leases.holds(lease, one.index, token)).toBe(true);
    expect(leases.holds(lease, one.index, token + 1)).toBe(false);
    expect(leases.holds(lease, one.index, token + 2 ** 32)).toBe(false);
    expect(leases.holds(lease, other.index, token)).toBe(false);
  });

  it('stay in the order of delivery when any of them ends', () => {
    const leases = new Leases();
    const worker = new CoreWorker(0, [], 1, 10, 0);
    const made = [10, 11, 12, 13].map((slot, i) => leases.create(worker, slot, 0, i));
    leases.drop(worker, made[1]);
    expect(held(leases, worker)).toEqual([10, 12, 13]);
    leases.drop(worker, made[0]);
    leases.drop(worker, made[3]);
    expect(held(leases, worker)).toEqual([12]);
    leases.create(worker, 14, 0, 9);
    expect(held(leases, worker)).toEqual([12, 14]);
    expect(worker.held).toBe(2);
    expect(leases.count).toBe(2);
  });

  it('show the first deadline of a class, whichever of its leases ends', () => {
    const leases = new Leases();
    const worker = new CoreWorker(0, [], 4, 10, 0);
    const times = timeoutClass();
    const made = [0, 1, 2].map((slot) => leases.create(worker, slot, 0, slot));
    made.forEach((lease, i) => {
      leases.start(lease, times, 100 + i);
    });
    leases.stop(made[1], times);
    expect(leases.running(made[1])).toBe(false);
    expect(leases.deadlineMs(times.head)).toBe(100);
    leases.stop(made[0], times);
    expect(leases.deadlineMs(times.head)).toBe(102);
    leases.stop(made[2], times);
    expect([times.head, times.tail]).toEqual([NONE, NONE]);
  });

  it('keep what they know while their table grows', () => {
    const leases = new Leases();
    const worker = new CoreWorker(0, [], 4, 10_000, 0);
    const made = Array.from({ length: 1000 }, (_, slot) => leases.create(worker, slot, 1, slot));
    expect(held(leases, worker)).toEqual(made.map((_, slot) => slot));
    expect(made.every((lease, slot) => leases.token(lease) === 2 ** 32 + slot)).toBe(true);
  });
});

describe('a worker’s busy time', () => {
  it('is the sum over the handlers that it has tasks for', () => {
    const worker = new CoreWorker(0, [], 4, 4, 1000);
    worker.held = 2;
    worker.account(1010);
    worker.held = 9;
    worker.account(1020);
    worker.held = 1;
    expect(worker.busyMs(1030)).toBe(2 * 10 + 4 * 10 + 1 * 10);
  });
});
