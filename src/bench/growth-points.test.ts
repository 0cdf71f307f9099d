import { describe, expect, it } from 'vitest';
import { GROWTH_SERIES, type GrowthReading, growthPoint, growthShapes } from './growth-points.ts';

const MIB = 1024 * 1024;
const READING: GrowthReading = {
  tasks: 1000,
  tookNs: 2e6,
  serverCpuUs: 1500,
  enqueue: { tookNs: 1e6, serverCpuUs: 500 },
  emptyBytes: 100 * MIB,
  fullBytes: 100 * MIB + 64_000_000,
};
const LEDGER = { lost: 0, duplicated: 0 };

describe('a point of growth', () => {
  const [queued, ...others] = growthShapes(GROWTH_SERIES, false);

  it('adds up its rounds, and counts the processor time of both phases', () => {
    const point = growthPoint(queued as NonNullable<typeof queued>, [READING, { ...READING, tookNs: 6e6 }], LEDGER);
    expect(point).toMatchObject({ tasks: 2000, tasksPerS: 250_000, enqueueTasksPerS: 1_000_000, serverCpuUs: 2 });
    expect(point.bytesPerTask).toBe(6400);
    expect(point.serverBytes).toBe(READING.fullBytes);
  });

  it('says nothing of the memory of a task where the heap’s own changes are larger', () => {
    const small = { ...READING, fullBytes: READING.emptyBytes + MIB };
    expect(growthPoint(queued as NonNullable<typeof queued>, [small], LEDGER).bytesPerTask).toBeNull();
    const other = others.find(({ series }) => series === 'payload') as NonNullable<typeof queued>;
    expect(growthPoint(other, [{ ...READING, enqueue: undefined }], LEDGER)).toMatchObject({
      bytesPerTask: null,
      enqueueTasksPerS: null,
    });
  });

  it.each([true, false])('differs from the first of its series in what grows alone (quick: %s)', (quick) => {
    for (const series of ['queues', 'idle-queues', 'producers', 'workers'] as const) {
      const [first, ...rest] = growthShapes([series], quick);
      const { queues, busyQueues, producers, workers } = first as NonNullable<typeof first>;
      expect([queues, busyQueues, producers, workers]).toEqual([1, 1, 1, 1]);
      for (const shape of rest) {
        expect({ ...shape, size: 1, queues: 1, busyQueues: 1, producers: 1, workers: 1 }).toEqual(first);
      }
    }
  });
});
