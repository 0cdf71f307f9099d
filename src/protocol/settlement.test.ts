import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { body } from '../../test/support/frame-body.ts';
import { bytesOf, expectTypedErrorsOnTruncation, id, payload } from '../../test/support/frames.ts';
import { LIMITS } from '../limits.ts';
import { readU32 } from './bytes.ts';
import { FRAME } from './frames.ts';
import {
  CompletionReader,
  FailureReader,
  NO_RESULT,
  ReleaseReader,
  readIds,
  readResults,
  readRevocations,
  writeResult,
} from './settlement.ts';
import { CompletionWriter, encodeTaskError, ReleaseWriter, writeFailure } from './settlement-writer.ts';

describe('settlements', () => {
  const result = fc.option(payload, { nil: undefined });

  function readCompletions(bytes: Buffer): { id: number; token: number; result: string | undefined }[] {
    const reader = new CompletionReader();
    const all: ReturnType<typeof readCompletions> = [];
    reader.open(bytes, 0, bytes.length);
    while (reader.next()) {
      let offset = reader.resultsStart;
      for (let index = 0; index < reader.count; index++) {
        let value: string | undefined;
        if (reader.resultsEnd > reader.resultsStart) {
          const length = readU32(bytes, offset);
          offset += 4;
          if (length !== NO_RESULT) {
            value = bytes.subarray(offset, offset + length).toString('hex');
            offset += length;
          }
        }
        all.push({ id: reader.firstId + index, token: reader.firstToken + index, result: value });
      }
    }
    return all;
  }

  const completion = fc.record({ follows: fc.boolean(), id, token: id, result, plain: fc.boolean() });

  function complete(values: readonly (typeof completion extends fc.Arbitrary<infer T> ? T : never)[]) {
    const expected: ReturnType<typeof readCompletions> = [];
    const bytes = body(FRAME.COMPLETE, (writer) => {
      const completions = new CompletionWriter(writer);
      for (const value of values) {
        const last = expected.at(-1);
        const next = value.follows && last ? { id: last.id + 1, token: last.token + 1 } : value;
        if (value.plain) completions.add(next.id, next.token, 1);
        else completions.addWithResults(next.id, next.token, 1, [value.result], 0);
        const hex = value.plain || value.result === undefined ? undefined : bytesOf(value.result);
        expected.push({ id: next.id, token: next.token, result: hex });
      }
      completions.finish();
    });
    return { bytes, expected };
  }

  test('COMPLETE: ids, tokens and results come out as they went in', () => {
    fc.assert(
      fc.property(fc.array(completion, { minLength: 1, maxLength: 20 }), (values) => {
        const { bytes, expected } = complete(values);
        expect(readCompletions(bytes)).toEqual(expected);
        expectTypedErrorsOnTruncation(bytes.subarray(0, 200), (cut) => void readCompletions(cut));
      }),
      { numRuns: 50 },
    );
  });

  test('COMPLETE: consecutive tasks become one run', () => {
    const bytes = body(FRAME.COMPLETE, (writer) => {
      const completions = new CompletionWriter(writer);
      completions.add(10, 20, 3);
      completions.add(13, 23, 1);
      completions.finish();
    });
    const reader = new CompletionReader();
    reader.open(bytes, 0, bytes.length);
    expect(reader.next()).toBe(true);
    expect({ ...reader }).toMatchObject({ firstId: 10, firstToken: 20, count: 4 });
    expect(reader.next()).toBe(false);
  });

  test('RELEASE: consecutive tasks become one run', () => {
    const bytes = body(FRAME.RELEASE, (writer) => {
      const releases = new ReleaseWriter(writer);
      for (const [each, token] of [
        [1, 5],
        [2, 6],
        [9, 7],
      ] as const)
        releases.add(each, token);
      releases.finish();
    });
    const reader = new ReleaseReader();
    reader.open(bytes, 0, bytes.length);
    const runs: number[][] = [];
    while (reader.next()) runs.push([reader.firstId, reader.firstToken, reader.count]);
    expect(runs).toEqual([
      [1, 5, 2],
      [9, 7, 1],
    ]);
    expectTypedErrorsOnTruncation(bytes, (cut) => reader.open(cut, 0, cut.length));
  });

  test('FAIL: failures come out as they went in', () => {
    const failure = fc.record({
      id,
      token: id,
      final: fc.boolean(),
      retryDelayMs: fc.option(fc.integer({ min: 0, max: LIMITS.delayMsMax }), { nil: undefined }),
      message: fc.string({ unit: 'grapheme' }),
    });
    fc.assert(
      fc.property(fc.array(failure, { minLength: 1, maxLength: 5 }), (failures) => {
        const bytes = body(FRAME.FAIL, (writer) => {
          for (const each of failures) writeFailure(writer, each.id, each.token, each.message, each);
        });
        const readAll = (from: Buffer): unknown[] => {
          const reader = new FailureReader();
          const all: unknown[] = [];
          reader.open(from, 0, from.length);
          while (reader.next()) {
            const { id: taskId, token, final, retryDelayMs } = reader;
            const message = from.toString('utf8', reader.errorStart, reader.errorEnd);
            all.push({ id: taskId, token, final, retryDelayMs, message });
          }
          return all;
        };
        expect(readAll(bytes)).toEqual(failures);
        expectTypedErrorsOnTruncation(bytes, (cut) => void readAll(cut));
      }),
      { numRuns: 50 },
    );
  });

  test('an error of any length is cut to its limit and stays JSON', () => {
    for (const filler of ['x', '\u0001', 'ä', '😀']) {
      const long = filler.repeat(40_000);
      for (const error of [
        { name: long, message: long, code: 'HANDLER_FAILED' },
        { name: 'E', message: 'm', code: 'HANDLER_FAILED', stack: long },
      ]) {
        const json = encodeTaskError(error);
        expect(Buffer.byteLength(json)).toBeLessThanOrEqual(LIMITS.errorBytesMax);
        expect(JSON.parse(json)).toMatchObject({ code: 'HANDLER_FAILED' });
      }
    }
  });

  test('SETTLED, REVOKE and RESULT survive round trips', () => {
    const ids = [1, 2 ** 32 + 5, 2 ** 40];
    const settled = body(FRAME.SETTLED, (writer) => {
      for (const each of ids) writer.u64(each);
    });
    const seen: unknown[] = [];
    readIds(settled, 0, settled.length, (each) => void seen.push(each));
    expect(seen.splice(0)).toEqual(ids);

    const revoked = body(FRAME.REVOKE, (writer) => {
      writer.u64(3);
      writer.u64(4);
      writer.u8(2);
    });
    readRevocations(revoked, 0, revoked.length, (...each) => void seen.push(each));
    expect(seen.splice(0)).toEqual([[3, 4, 2]]);

    const results = body(FRAME.RESULT, (writer) => {
      writeResult(writer, 8, 1, Buffer.from('{"a":1}'));
      writeResult(writer, 9, 4, undefined);
    });
    readResults(results, 0, results.length, (taskId, state, start, end) => {
      seen.push([taskId, state, results.toString('utf8', start, end)]);
    });
    expect(seen).toEqual([
      [8, 1, '{"a":1}'],
      [9, 4, ''],
    ]);
    expectTypedErrorsOnTruncation(results, (cut) => readResults(cut, 0, cut.length, () => {}));
  });
});

test('a frame names no more tasks than a worker can hold, in however many runs', () => {
  const run = (bytes: number) => {
    const one = Buffer.alloc(bytes);
    one.writeUInt32LE(1, 4);
    one.writeUInt32LE(LIMITS.prefetchMax, 16);
    return one;
  };
  for (const [reader, bytes] of [
    [new CompletionReader(), 24],
    [new ReleaseReader(), 20],
  ] as const) {
    const whole = run(bytes);
    reader.open(whole, 0, whole.length);
    expect(reader.next()).toBe(true);
    expect(reader.next()).toBe(false);
    const twice = Buffer.concat([whole, whole]);
    reader.open(twice, 0, twice.length);
    expect(reader.next()).toBe(true);
    expect(() => reader.next()).toThrow(/131072 tasks in one frame; at most 65536/);
  }
});
