import fc from 'fast-check';
import type { When } from '../../src/broker/contract.ts';
import type { QueueLimits } from '../../src/limits.ts';
import { limits } from './core-commands.ts';

/** What an engine's history consists of: plain data, so that a failing one shrinks. */
export type EngineCommand =
  /** `order` skip: under the next number but one; late: under the one skipped last, when there is one. */
  | { do: 'enqueue'; producer: number; order: 'next' | 'skip' | 'late'; sections: EnqueuedSection[] }
  | { do: 'repeatBatch'; producer: number }
  | { do: 'addWorker'; queues: string[]; concurrency: number; extra: number }
  | { do: 'removeWorker'; pick: number; lost: boolean }
  | { do: 'complete'; pick: number; count: number; results: boolean[]; bytes: number }
  | { do: 'fail'; pick: number; count: number; final: boolean; retryDelayMs: number | undefined; bytes: number }
  | { do: 'release'; pick: number; count: number }
  | { do: 'cancel' | 'retry'; pick: number }
  | { do: 'resume'; worker: number; pick: number }
  | { do: 'pause' | 'unpause' | 'purge' | 'redrive'; queue: number }
  /** One step. */
  | { do: 'retryMany' | 'cancelMany'; queue: number; newest: boolean; limit: number }
  | { do: 'retention'; queue: number; countMax: number }
  | { do: 'limit'; queue: number; limits: QueueLimits }
  | { do: 'advance'; ms: number }
  | { do: 'flush' }
  | { do: 'restart' }
  | { do: 'crash'; flushed: boolean };

interface EnqueuedSection {
  spec: number;
  when: When;
  bytes: number[];
}

export const PRODUCERS = ['00112233445566778899aabbccddeeff', 'ffeeddccbbaa99887766554433221100'];
export const QUEUES = ['a', 'b'];

const pick = fc.nat(1000);
const queue = fc.nat(1);
const when: fc.Arbitrary<When> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ kind: 'now' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delay' as const), ms: fc.constantFrom(0, 500, 3000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('at' as const), ms: fc.constantFrom(0, 1_800_000_002_000) }),
  },
);
const SMALL = fc.oneof(
  { weight: 3, arbitrary: fc.nat(60) },
  { weight: 1, arbitrary: fc.integer({ min: 200, max: 3000 }) },
);
const LARGE = fc.integer({ min: 200, max: 6000 });

function one<Do extends string>(what: Do): fc.Arbitrary<Do> {
  return fc.constant(what);
}

/** `large` payloads fill segments within few commands. */
export function engineCommand(size: 'small' | 'large'): fc.Arbitrary<EngineCommand> {
  const bytes = size === 'large' ? LARGE : SMALL;
  const section = fc.record({ spec: fc.nat(5), when, bytes: fc.array(bytes, { minLength: 1, maxLength: 5 }) });
  return fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        do: one('enqueue'),
        producer: fc.nat(1),
        order: fc.constantFrom('next' as const, 'next' as const, 'skip' as const, 'late' as const),
        sections: fc.array(section, { minLength: 1, maxLength: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: one('repeatBatch'), producer: fc.nat(1) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: one('addWorker'),
        queues: fc.subarray(QUEUES, { minLength: 1 }),
        concurrency: fc.integer({ min: 1, max: 8 }),
        extra: fc.nat(8),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: one('removeWorker'), pick, lost: fc.boolean() }) },
    {
      weight: 12,
      arbitrary: fc.record({
        do: one('complete'),
        pick,
        count: fc.integer({ min: 1, max: 6 }),
        results: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
        bytes,
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: one('fail'),
        pick,
        count: fc.integer({ min: 1, max: 4 }),
        final: fc.constantFrom(true, false, false),
        retryDelayMs: fc.constantFrom(undefined, 0, 700),
        bytes,
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: one('release'), pick, count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 3, arbitrary: fc.record({ do: one('cancel'), pick }) },
    { weight: 3, arbitrary: fc.record({ do: one('retry'), pick }) },
    { weight: 2, arbitrary: fc.record({ do: one('resume'), worker: pick, pick }) },
    { weight: 1, arbitrary: fc.record({ do: one('pause'), queue }) },
    { weight: 2, arbitrary: fc.record({ do: one('unpause'), queue }) },
    { weight: 1, arbitrary: fc.record({ do: one('purge'), queue }) },
    { weight: 2, arbitrary: fc.record({ do: one('redrive'), queue }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom('retryMany' as const, 'cancelMany' as const),
        queue,
        newest: fc.boolean(),
        limit: fc.integer({ min: 1, max: 6 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: one('retention'), queue, countMax: fc.nat(6) }) },
    { weight: 1, arbitrary: fc.record({ do: one('limit'), queue, limits }) },
    { weight: 6, arbitrary: fc.record({ do: one('advance'), ms: fc.constantFrom(1, 400, 1000, 1000, 5000) }) },
    { weight: 2, arbitrary: fc.record({ do: one('flush') }) },
    { weight: 1, arbitrary: fc.record({ do: one('restart') }) },
    { weight: 2, arbitrary: fc.record({ do: one('crash'), flushed: fc.boolean() }) },
  );
}
