import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { body } from '../../test/support/frame-body.ts';
import { expectTypedErrorsOnTruncation, payload, spec } from '../../test/support/frames.ts';
import type { Payload, TaskHeaders, TaskSpec } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { headerBytes, LIMITS, parseHeaders } from '../limits.ts';
import { checkTasks, EnqueueReader } from './batch.ts';
import { BatchWriter, manyBytesBound } from './batch-writer.ts';
import { DeliveryReader, WireRun, writeRunHeader } from './delivery.ts';
import { FRAME, HEADER_BYTES } from './frames.ts';
import { encodeSpec } from './spec.ts';
import { checkPacked, packHeaders, unpackHeaders } from './task-headers.ts';
import { BufferPool } from './writer.ts';

const NOW = { kind: 'now' } as const;
const TEXT = fc.string({ unit: 'grapheme', maxLength: 30 }).filter((text) => !/[\p{Cc}\p{Cs}]/u.test(text));
const NAME = fc.oneof(
  TEXT.filter((text) => text !== '' && Buffer.byteLength(text) <= LIMITS.headerNameBytesMax),
  fc.constantFrom('__proto__', 'constructor', 'traceparent', 'x'.repeat(LIMITS.headerNameBytesMax)),
);
const VALUE = fc.oneof(
  TEXT,
  fc.integer({ min: 120, max: 300 }).map((length) => 'v'.repeat(length)),
);
const headers: fc.Arbitrary<TaskHeaders> = fc
  .array(fc.tuple(NAME, VALUE), { minLength: 1, maxLength: 8 })
  .map((entries) => Object.fromEntries(entries));
const task = fc.record({ payload, headers: fc.option(headers, { nil: undefined }) });

interface Given {
  payload: Payload;
  headers: TaskHeaders | undefined;
}

function prefixOf({ headers: given }: Given): Buffer | undefined {
  return given === undefined ? undefined : packHeaders(given);
}

/** The section of an ENQUEUE, checked, that holds the tasks. */
function tasksOf(taskSpec: TaskSpec, fill: (batch: BatchWriter) => void): Buffer {
  const batch = new BatchWriter(new BufferPool());
  fill(batch);
  const frame = batch.seal(1);
  batch.address(7, 1);
  const bytes = Buffer.from(frame).subarray(HEADER_BYTES);
  const reader = new EnqueueReader();
  reader.open(bytes, 0, bytes.length);
  expect(reader.next()).toBe(true);
  checkTasks(bytes, reader.tasksStart, reader.tasksEnd, reader.count);
  expect(encodeSpec(taskSpec).length).toBe(reader.specEnd - reader.specStart);
  return bytes.subarray(reader.tasksStart, reader.tasksEnd);
}

function delivered(taskSpec: TaskSpec, tasks: Buffer, count: number): Buffer {
  const run = { firstId: 1, firstToken: 1, count, attempt: 1, suspect: false, enqueuedAtMs: 0 };
  return body(FRAME.DELIVER, (writer) => {
    writeRunHeader(writer, { ...run, byteLength: tasks.length }, encodeSpec(taskSpec));
    writer.bytes(tasks);
  });
}

function expectDelivered(run: WireRun, given: readonly Given[], order: readonly number[]): void {
  expect(run.length).toBe(given.length);
  for (const index of order) {
    const each = given[index] as Given;
    expect(Buffer.from(run.bytes(index))).toEqual(Buffer.from(each.payload as string));
    expect(run.text(index)).toBe(Buffer.from(each.payload as string).toString());
    expect(run.headers(index)).toEqual(each.headers);
  }
}

describe('headers on the wire', () => {
  test('tasks with and without headers come out as they went in, in any order of access', () => {
    fc.assert(
      fc.property(spec, fc.array(task, { minLength: 1, maxLength: 10 }), fc.boolean(), (taskSpec, given, backwards) => {
        const tasks = tasksOf(taskSpec, (batch) => {
          for (const each of given) batch.add(taskSpec, NOW, each.payload, prefixOf(each));
        });
        const frame = delivered(taskSpec, tasks, given.length);
        const [run] = new DeliveryReader(WireRun).read(frame, 0, frame.length) as [WireRun];
        const order = given.map((_, index) => index);
        expectDelivered(run, given, backwards ? order.reverse() : order);
      }),
    );
  });

  test('many with the same headers are the same as one by one', () => {
    fc.assert(
      fc.property(spec, headers, fc.array(payload, { minLength: 1, maxLength: 300 }), (taskSpec, same, payloads) => {
        const prefix = packHeaders(same);
        const many = tasksOf(taskSpec, (batch) => {
          batch.addMany(taskSpec, NOW, payloads, manyBytesBound(payloads, prefix.length), prefix);
        });
        const single = tasksOf(taskSpec, (batch) => {
          for (const each of payloads) batch.add(taskSpec, NOW, each, prefix);
        });
        expect(many.equals(single)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('a delivery cut anywhere gives a typed error', () => {
    fc.assert(
      fc.property(spec, fc.array(task, { minLength: 1, maxLength: 3 }), (taskSpec, given) => {
        const tasks = tasksOf(taskSpec, (batch) => {
          for (const each of given) batch.add(taskSpec, NOW, each.payload.slice(0, 20), prefixOf(each));
        });
        expectTypedErrorsOnTruncation(delivered(taskSpec, tasks, given.length), (cut) => {
          new DeliveryReader(WireRun).read(cut, 0, cut.length);
        });
      }),
      { numRuns: 20 },
    );
  });

  test('tasks with any byte changed are read or refused, never a crash', () => {
    fc.assert(
      fc.property(spec, task, headers, fc.nat(), fc.nat(255), (taskSpec, other, some, position, value) => {
        const given = [{ payload: '"first"', headers: some }, other];
        const tasks = tasksOf(taskSpec, (batch) => {
          for (const each of given) batch.add(taskSpec, NOW, each.payload, prefixOf(each));
        });
        tasks[position % tasks.length] = value;
        try {
          checkTasks(tasks, 0, tasks.length, given.length);
        } catch (error) {
          expect(error).toBeInstanceOf(MillraceError);
          return;
        }
        const frame = delivered(taskSpec, tasks, given.length);
        const [run] = new DeliveryReader(WireRun).read(frame, 0, frame.length) as [WireRun];
        for (let index = 0; index < run.length; index++) {
          run.text(index);
          for (const [name, text] of Object.entries(run.headers(index) ?? {}))
            expect(typeof (name + text)).toBe('string');
        }
      }),
    );
  });
});

describe('packed headers', () => {
  const packed = (entries: readonly (readonly [string, string])[]): Buffer => packHeaders(Object.fromEntries(entries));
  const check = (bytes: Buffer): number => checkPacked(bytes, 0, bytes.length, 0);

  test('read back as they were, and the payload begins behind them', () => {
    fc.assert(
      fc.property(headers, fc.nat(20), (given, more) => {
        const bytes = packHeaders(given);
        expect(check(Buffer.concat([bytes, Buffer.alloc(more)]))).toBe(bytes.length);
        expect(unpackHeaders(bytes, 0)).toEqual(given);
      }),
    );
  });

  test('what is given is within the bounds exactly when what is packed is', () => {
    const size = headerBytes('a', '');
    const fits = 'v'.repeat(LIMITS.headersBytesMax - size);
    expect(parseHeaders({ a: fits })).toEqual({ a: fits });
    expect(check(packed([['a', fits]]))).toBe(LIMITS.headersBytesMax + 2);
    expect(() => parseHeaders({ a: `${fits}v` })).toThrow(/4097 bytes of headers; at most 4096/);
    expect(() => check(packed([['a', `${fits}v`]]))).toThrow(/4097 bytes of headers; at most 4096/);
    const many = Array.from({ length: LIMITS.headersMax }, (_, index) => [`h${index}`, ''] as const);
    expect(check(packed(many))).toBeGreaterThan(0);
    expect(() => check(packed([...many, ['more', '']]))).toThrow(/33 headers; at most 32/);
  });

  test.each([
    ['nothing', Buffer.from([0, 0]), /has none/],
    ['a name without characters', Buffer.from([3, 0, 0, 0, 0]), /name of header 0 of task 0 has 0 bytes/],
    ['a name over its limit', Buffer.concat([Buffer.from([132, 0, 129]), Buffer.alloc(131)]), /has 129 bytes/],
    ['a value that goes on', Buffer.from([4, 0, 1, 97, 9, 0]), /does not end where its headers do/],
    ['more than there is', Buffer.from([9, 0, 1, 97, 0, 0]), /ends inside its headers/],
  ])('that hold %s are refused', (_what, bytes, message) => {
    expect(() => check(bytes)).toThrow(message);
  });
});
