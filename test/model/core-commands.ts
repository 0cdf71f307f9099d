import fc from 'fast-check';
import type { RetentionPolicy } from '../../src/core/queue.ts';
import { NO_LIMITS, type QueueLimits } from '../../src/limits.ts';

/** What a workload consists of: plain data, so that a failing one shrinks. `pick` chooses among what there is by then. */
export type CoreCommand =
  | {
      do: 'enqueue';
      queue: number;
      name: string;
      priority: number;
      maxAttempts: number;
      timeoutMs: number;
      /** '' is none. */
      concurrencyKey: string;
      count: number;
      payloadBytes: number;
      when: 'now' | 'delay' | 'at';
      delayMs: number;
    }
  | { do: 'skipIds'; count: number }
  | { do: 'beginEpoch' | 'rollSegment' | 'loadSegments' | 'endOverdue' | 'expire' }
  | { do: 'evictSegment'; back: number }
  | { do: 'addWorker'; queues: number[]; concurrency: number; extra: number }
  /** `begun`: it says before that it has begun so many. */
  | { do: 'removeWorker'; pick: number; lost: boolean; begun: number }
  | { do: 'dispatch'; bytesMax: number }
  | { do: 'take'; pick: number; queue: number; countMax: number; bytesMax: number }
  | { do: 'begin'; pick: number; count: number }
  | { do: 'heard' | 'setAside'; pick: number }
  | { do: 'complete'; pick: number; result: boolean }
  | { do: 'fail'; pick: number; final: boolean; delayMs: number }
  | { do: 'release' | 'cancel' | 'retry' | 'purge' | 'watch' | 'relocate'; pick: number }
  | { do: 'purgeQueue'; queue: number }
  /** With the attempt after those that were counted, the last of these, or one that it does not name. */
  | { do: 'resume'; worker: number; pick: number; attempt: 'next' | 'last' | 'unknown' }
  | { do: 'pause'; queue: number; paused: boolean }
  | { do: 'retention'; queue: number; retention: RetentionPolicy }
  | { do: 'limit'; queue: number; limits: QueueLimits }
  | { do: 'advance'; steadyMs: number; wallMs: number; countMax: number };

const pick = fc.nat(1000);
const queue = fc.nat(2);
const ages = fc.constantFrom(0, 50, 5000);

export const retention: fc.Arbitrary<RetentionPolicy> = fc.record({
  completedCountMax: fc.nat(8),
  completedAgeMs: ages,
  deadCountMax: fc.nat(5),
  deadAgeMs: ages,
});

/** Some whose tokens come at no whole millisecond. */
const rate = fc.constantFrom(
  { count: 1, periodMs: 20, burst: 1 },
  { count: 3, periodMs: 7, burst: 2 },
  { count: 7, periodMs: 1000, burst: 3 },
  { count: 1000, periodMs: 1, burst: 4 },
);

/** Often two at once, sometimes none any more. */
export const limits: fc.Arbitrary<QueueLimits> = fc.oneof(
  { weight: 1, arbitrary: fc.constant(NO_LIMITS) },
  {
    weight: 4,
    arbitrary: fc.record({
      concurrency: fc.constantFrom(null, 1, 2, 4),
      concurrencyPerKey: fc.constantFrom(null, 1, 2),
      length: fc.constantFrom(null, null, 4, 15),
      rate: fc.oneof(fc.constant(null), rate),
    }),
  },
);

const enqueue = fc.record({
  do: fc.constant('enqueue' as const),
  queue,
  name: fc.constantFrom('x', 'y'),
  priority: fc.constantFrom(0, 4, 4, 9),
  maxAttempts: fc.constantFrom(1, 2, 3, 14),
  timeoutMs: fc.constantFrom(10, 60),
  concurrencyKey: fc.constantFrom('', '', 'k', 'l', 'm'),
  count: fc.integer({ min: 1, max: 6 }),
  payloadBytes: fc.nat(39),
  when: fc.constantFrom('now' as const, 'now' as const, 'delay' as const, 'at' as const),
  delayMs: fc.constantFrom(1, 20, 21, 100),
});

const bytesMax = fc.constantFrom(1, 60, 1_000_000);

function picking<Do extends 'release' | 'cancel' | 'retry' | 'purge' | 'watch' | 'relocate'>(
  what: Do,
): fc.Arbitrary<{ do: Do; pick: number }> {
  return fc.record({ do: fc.constant(what), pick });
}

const single = fc.constantFrom(
  { do: 'rollSegment' as const },
  { do: 'loadSegments' as const },
  { do: 'endOverdue' as const },
  { do: 'endOverdue' as const },
  { do: 'expire' as const },
);

export const command: fc.Arbitrary<CoreCommand> = fc.oneof(
  { weight: 8, arbitrary: enqueue },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('skipIds' as const), count: fc.constantFrom(1, 1000, 5000) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'beginEpoch' as const }) },
  { weight: 5, arbitrary: single },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('evictSegment' as const), back: fc.nat(3) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('addWorker' as const),
      queues: fc.subarray([0, 1, 2], { minLength: 1 }),
      concurrency: fc.integer({ min: 1, max: 3 }),
      extra: fc.nat(4),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('removeWorker' as const),
      pick,
      lost: fc.constantFrom(true, true, false),
      begun: fc.nat(4),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('dispatch' as const), bytesMax }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('take' as const),
      pick,
      queue,
      countMax: fc.integer({ min: 1, max: 5 }),
      bytesMax,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('begin' as const), pick, count: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('heard' as const, 'setAside' as const), pick }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('complete' as const), pick, result: fc.boolean() }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      pick,
      final: fc.constantFrom(true, false, false, false),
      delayMs: fc.constantFrom(-1, 0, 0, 30),
    }),
  },
  { weight: 3, arbitrary: picking('release') },
  { weight: 3, arbitrary: picking('cancel') },
  { weight: 3, arbitrary: picking('retry') },
  { weight: 2, arbitrary: picking('purge') },
  { weight: 2, arbitrary: picking('watch') },
  { weight: 4, arbitrary: picking('relocate') },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('purgeQueue' as const), queue }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('resume' as const),
      worker: pick,
      pick,
      attempt: fc.constantFrom('next' as const, 'last' as const, 'unknown' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('pause' as const), queue, paused: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('retention' as const), queue, retention }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('limit' as const), queue, limits }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      steadyMs: fc.constantFrom(0, 1, 9, 20, 100),
      wallMs: fc.constantFrom(-50, 0, 1, 9, 20, 100),
      countMax: fc.constantFrom(1, 2, 1000, 1000),
    }),
  },
);
