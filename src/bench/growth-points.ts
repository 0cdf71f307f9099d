import { PAYLOAD_BYTES } from './payload.ts';

/**
 * What grows, and how far. Everything else stays as it is at the first point of its series, so that what differs is what the
 * growth costs.
 */
export type GrowthSeries = 'queued' | 'queues' | 'idle-queues' | 'producers' | 'workers' | 'payload';

export interface GrowthShape {
  readonly series: GrowthSeries;
  /** How many of what grows there are. */
  readonly size: number;
  /** In all; of `queued`, in each round. */
  readonly tasks: number;
  /** `queued`: tasks queue up while nobody takes them, then they are worked off. Small numbers are done several times. */
  readonly rounds: number;
  readonly queues: number;
  /** Queues that get tasks; the worker takes from all. */
  readonly busyQueues: number;
  readonly producers: number;
  readonly workers: number;
  readonly payloadBytes: number;
  /** Of one `enqueueMany`. */
  readonly batchTasks: number;
  /** Calls that are sent and not confirmed, of all producers together. */
  readonly callsInFlight: number;
  /** Of each worker. */
  readonly concurrency: number;
}

/** Before what is measured: V8 has compiled what matters, and what memory is taken once and for all is taken. */
export function warmUpTasks({ payloadBytes }: GrowthShape, quick: boolean): number {
  if (quick) return 500;
  return Math.min(200_000, Math.ceil(WARM_UP_BYTES / payloadBytes));
}

const WARM_UP_BYTES = 100e6;
/** A call, and what a worker holds, is not to be larger than that. */
const CALL_BYTES = 1e6;
const HELD_BYTES = 16e6;
const PAYLOAD_SERIES_BYTES = 400e6;
const TASKS_IN_FLIGHT = 16_000;
const CALLS_IN_FLIGHT = 16;
/** Tasks of a call where calls are small, so that what each queue or connection costs is not lost among many tasks. */
const SMALL_CALL_TASKS = 20;

const SIZES: Record<GrowthSeries, readonly number[]> = {
  queued: [10_000, 100_000, 1_000_000, 10_000_000],
  queues: [1, 10, 100, 1000],
  'idle-queues': [1, 10, 100, 1000],
  producers: [1, 10, 100, 500],
  workers: [1, 10, 100, 500],
  payload: [100, 1000, 10_000, 100_000],
};
const QUICK_SIZES: Record<GrowthSeries, readonly number[]> = {
  queued: [500, 2000],
  queues: [1, 10],
  'idle-queues': [1, 10],
  producers: [1, 4],
  workers: [1, 4],
  payload: [100, 10_000],
};
export const GROWTH_SERIES = Object.keys(SIZES) as GrowthSeries[];

/** In the order in which they are run. */
export function growthShapes(series: readonly GrowthSeries[], quick: boolean): GrowthShape[] {
  const sizes = quick ? QUICK_SIZES : SIZES;
  return series.flatMap((each) => sizes[each].map((size) => shapeOf(each, size, quick)));
}

function shapeOf(series: GrowthSeries, size: number, quick: boolean): GrowthShape {
  const base: GrowthShape = {
    ...{ series, size, rounds: 1, queues: 1, busyQueues: 1, producers: 1, workers: 1 },
    ...{ tasks: quick ? 2000 : 1_000_000, payloadBytes: PAYLOAD_BYTES, concurrency: 4000 },
    ...{ batchTasks: 1000, callsInFlight: CALLS_IN_FLIGHT },
  };
  const inSmallCalls: GrowthShape = {
    ...base,
    tasks: quick ? 2000 : 400_000,
    batchTasks: SMALL_CALL_TASKS,
    callsInFlight: TASKS_IN_FLIGHT / SMALL_CALL_TASKS,
  };
  switch (series) {
    case 'queued':
      return { ...base, tasks: size, rounds: quick ? 1 : Math.min(20, Math.max(1, Math.floor(1_000_000 / size))) };
    case 'queues':
      return { ...inSmallCalls, queues: size, busyQueues: size };
    case 'idle-queues':
      return { ...inSmallCalls, queues: size };
    case 'producers':
      return { ...inSmallCalls, producers: size };
    case 'workers':
      return { ...base, workers: size, concurrency: 1000 };
    case 'payload':
      return {
        ...base,
        payloadBytes: size,
        tasks: quick ? 200 : Math.min(base.tasks, PAYLOAD_SERIES_BYTES / size),
        batchTasks: Math.min(base.batchTasks, Math.ceil(CALL_BYTES / size)),
        concurrency: Math.min(base.concurrency, Math.ceil(HELD_BYTES / size)),
      };
    default:
      return series satisfies never;
  }
}

/** What was read of the server and the clocks, of one round. */
export interface GrowthReading {
  tasks: number;
  /** From the first enqueue call to the last handler; of `queued`, from the resuming of the queue. */
  tookNs: number;
  serverCpuUs: number;
  /** `queued`: of the enqueueing before. */
  enqueue: { tookNs: number; serverCpuUs: number } | undefined;
  /** Resident set of the server: before, and the largest that was seen. */
  emptyBytes: number;
  fullBytes: number;
}

export interface GrowthPoint {
  series: GrowthSeries;
  size: number;
  tasks: number;
  payloadBytes: number;
  tasksPerS: number;
  /** Processor time of the server, all its threads, for a task from its enqueue to its completion. */
  serverCpuUs: number;
  enqueueTasksPerS: number | null;
  /** What the server has in memory, resident. */
  serverBytes: number;
  /** By how much that grew with each queued task; null where it grew by too little to say. */
  bytesPerTask: number | null;
  lost: number;
  duplicated: number;
}

/** What comes and goes in the heap of any process; a growth that is not well beyond it says nothing of tasks. */
const NOISE_BYTES = 16 * 1024 * 1024;

export function growthPoint(
  { series, size, payloadBytes }: GrowthShape,
  readings: readonly GrowthReading[],
  ledger: { lost: number; duplicated: number },
): GrowthPoint {
  const sum = (of: (reading: GrowthReading) => number): number => readings.reduce((total, each) => total + of(each), 0);
  const tasks = sum((reading) => reading.tasks);
  const enqueueNs = sum(({ enqueue }) => enqueue?.tookNs ?? 0);
  const serverBytes = Math.max(...readings.map(({ fullBytes }) => fullBytes));
  const grownBytes = Math.max(...readings.map(({ fullBytes, emptyBytes }) => fullBytes - emptyBytes));
  return {
    ...{ series, size, tasks, payloadBytes },
    tasksPerS: tasks / (sum(({ tookNs }) => tookNs) / 1e9),
    serverCpuUs: sum(({ serverCpuUs, enqueue }) => serverCpuUs + (enqueue?.serverCpuUs ?? 0)) / tasks,
    enqueueTasksPerS: enqueueNs === 0 ? null : tasks / (enqueueNs / 1e9),
    serverBytes,
    bytesPerTask: series !== 'queued' || grownBytes < NOISE_BYTES ? null : grownBytes / size,
    ...ledger,
  };
}
