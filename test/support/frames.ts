import fc from 'fast-check';
import { expect } from 'vitest';
import type { Payload, TaskSpec, When } from '../../src/broker/contract.ts';
import { MillraceError } from '../../src/errors.ts';
import { LIMITS } from '../../src/limits.ts';
import { FrameReader } from '../../src/protocol/frames.ts';

const name = fc
  .string({ minLength: 1, maxLength: 40, unit: 'grapheme' })
  .filter((text) => !/[\p{Cc}\p{Cs}]/u.test(text));
const milliseconds = fc.integer({ min: 0, max: LIMITS.backoffMsMax });
export const spec: fc.Arbitrary<TaskSpec> = fc.record({
  queue: name.filter((text) => Buffer.byteLength(text) <= LIMITS.queueNameBytesMax),
  name: name.filter((text) => Buffer.byteLength(text) <= LIMITS.taskNameBytesMax),
  priority: fc.integer({ min: 0, max: 9 }),
  maxAttempts: fc.integer({ min: 1, max: LIMITS.maxAttemptsMax }),
  timeoutMs: fc.integer({ min: LIMITS.timeoutMsMin, max: LIMITS.timeoutMsMax }),
  backoff: fc.record({
    type: fc.constantFrom('fixed' as const, 'exponential' as const),
    delayMs: milliseconds,
    maxDelayMs: milliseconds,
    jitter: fc.boolean(),
  }),
});
/** One of these, where it does not matter which. */
export const SPEC: TaskSpec = {
  queue: 'q',
  name: 'n',
  priority: 4,
  maxAttempts: 3,
  timeoutMs: 1000,
  backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
};
export const when: fc.Arbitrary<When> = fc.oneof(
  fc.constant({ kind: 'now' } as const),
  fc.record({ kind: fc.constant('delay' as const), ms: fc.integer({ min: 0, max: LIMITS.delayMsMax }) }),
  fc.record({ kind: fc.constant('at' as const), ms: fc.integer({ min: 0, max: 4e12 }) }),
);
export const payload: fc.Arbitrary<Payload> = fc.oneof(
  fc.string({ maxLength: 300 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.uint8Array({ maxLength: 300 }),
  fc.integer({ min: 4000, max: 5000 }).map((length) => 'x'.repeat(length)),
);
export const id = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 100_000 });

export interface Frame {
  type: number;
  requestId: number;
  body: Buffer;
}

/** What a reader makes of the bytes, cut into chunks of the given lengths (the last one repeats). */
export function readFrames(bytes: Buffer, chunkLengths: readonly number[] = [bytes.length || 1]): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader((type, requestId, buffer, start, end) => {
    frames.push({ type, requestId, body: Buffer.from(buffer.subarray(start, end)) });
  });
  for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
    const length = chunkLengths[Math.min(turn, chunkLengths.length - 1)];
    reader.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  return frames;
}

/** Every prefix must be read, or refused with one of our errors. */
export function expectTypedErrorsOnTruncation(whole: Buffer, read: (bytes: Buffer) => void): void {
  for (let length = 0; length < whole.length; length++) {
    // A copy, so that reading beyond the end cannot find the rest.
    const cut = Buffer.from(whole.subarray(0, length));
    try {
      read(cut);
    } catch (error) {
      expect(error).toBeInstanceOf(MillraceError);
    }
  }
}

export const bytesOf = (value: Payload): string => Buffer.from(value as string).toString('hex');
