import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { body, write } from '../../test/support/frame-body.ts';
import {
  bytesOf,
  expectTypedErrorsOnTruncation,
  id,
  payload,
  readFrames,
  SPEC,
  spec,
  when,
} from '../../test/support/frames.ts';
import type { Payload, TaskSpec, When } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { checkTasks, EnqueueReader, readConfirm, writeConfirm } from './batch.ts';
import { BatchWriter, manyBytesBound } from './batch-writer.ts';
import { readU32 } from './bytes.ts';
import { DeliveryReader, WireRun, writeRunHeader } from './delivery.ts';
import { FRAME, FrameReader, HEADER_BYTES } from './frames.ts';
import { decodeSpec, encodeSpec } from './spec.ts';
import { BufferPool, FrameWriter } from './writer.ts';

interface Entry {
  spec: TaskSpec;
  when: When;
  payload: Payload;
}

function readBatch(bytes: Buffer): { spec: TaskSpec; whenKind: number; whenMs: number; payload: string }[] {
  const reader = new EnqueueReader();
  const tasks: ReturnType<typeof readBatch> = [];
  reader.open(bytes, 0, bytes.length);
  while (reader.next()) {
    checkTasks(bytes, reader.tasksStart, reader.tasksEnd, reader.count);
    const taskSpec = decodeSpec(bytes, reader.specStart, reader.specEnd);
    let offset = reader.tasksStart;
    for (let index = 0; index < reader.count; index++) {
      const length = readU32(bytes, offset);
      tasks.push({
        spec: taskSpec,
        whenKind: reader.whenKind,
        whenMs: reader.whenMs,
        payload: bytes.subarray(offset + 4, offset + 4 + length).toString('hex'),
      });
      offset += 4 + length;
    }
  }
  return tasks;
}

function seal(fill: (batch: BatchWriter) => void): Buffer {
  const batch = new BatchWriter(new BufferPool());
  fill(batch);
  const bytes = batch.seal(3);
  batch.address(7, 2);
  return Buffer.from(bytes);
}

describe('frames', () => {
  const someFrames = fc.array(
    fc.record({
      type: fc.constantFrom(FRAME.ENQUEUE, FRAME.DELIVER, FRAME.CALL, FRAME.RESULT),
      requestId: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      body: fc.uint8Array({ maxLength: 40 }),
    }),
    { minLength: 1, maxLength: 8 },
  );

  test('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(someFrames, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (frames, cuts) => {
        const bytes = write((writer) => {
          for (const frame of frames) {
            writer.begin(frame.type, frame.requestId);
            writer.bytes(frame.body);
            writer.end();
          }
        });
        const expected = frames.map((frame) => ({ ...frame, body: Buffer.from(frame.body) }));
        expect(readFrames(bytes, cuts)).toEqual(expected);
      }),
    );
  });

  test('a frame inside one chunk is handed over without a copy', () => {
    const chunk = write((writer) => writer.json(FRAME.CALL, 1, { a: 1 }));
    let seen: Buffer | undefined;
    new FrameReader((_type, _requestId, buffer) => {
      seen = buffer;
    }).push(chunk);
    expect(seen).toBe(chunk);
  });

  test('a reader knows whether it is inside a frame', () => {
    const bytes = write((writer) => writer.json(FRAME.CALL, 1, { a: 1 }));
    const reader = new FrameReader(() => {});
    reader.push(bytes.subarray(0, 3));
    expect(reader.insideFrame).toBe(true);
    reader.push(bytes.subarray(3));
    expect(reader.insideFrame).toBe(false);
  });

  test('a stopped reader ignores the rest of the chunk', () => {
    const bytes = write((writer) => {
      writer.empty(FRAME.PING, 1);
      writer.empty(FRAME.PING, 2);
    });
    const seen: number[] = [];
    const reader = new FrameReader((_type, requestId) => {
      seen.push(requestId);
      reader.stop();
    });
    reader.push(bytes);
    expect(seen).toEqual([1]);
  });

  test.each([
    ['an unknown type', Buffer.from([0, 0, 0, 0, 99, 0, 0, 0, 0]), /no frame type 99/],
    ['a body over its limit', Buffer.from([1, 16, 0, 0, 1, 0, 0, 0, 0]), /HELLO frame of 4097 bytes; at most 4096/],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n'), /speaks HTTP/],
    ['TLS', Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]), /speaks TLS/],
  ])('%s is refused at its header', (_what, bytes, message) => {
    expect(() => readFrames(bytes)).toThrow(message);
    expect(() => readFrames(bytes, [1])).toThrow(message);
  });
});

describe('FrameWriter', () => {
  test('sends the frames of a turn as one buffer and uses it again once it was written', () => {
    const scheduled: (() => void)[] = [];
    const sent: { bytes: Uint8Array; written: (() => void) | undefined }[] = [];
    const pool = new BufferPool();
    const writer = new FrameWriter(
      { write: (bytes, written) => void sent.push({ bytes, written }) },
      (flush) => void scheduled.push(flush),
      pool,
    );
    for (const round of [0, 1]) {
      writer.begin(FRAME.DELIVER, 0);
      writer.bytes(Buffer.alloc(20_000, round));
      writer.end();
      writer.empty(FRAME.PING, 5);
      expect(scheduled).toHaveLength(round + 1);
      scheduled[round]?.();
      expect(sent).toHaveLength(round + 1);
      sent[round]?.written?.();
    }
    expect(sent[1]?.bytes.buffer).toBe(sent[0]?.bytes.buffer);
    expect(readFrames(Buffer.from(sent[1]?.bytes as Uint8Array)).map((frame) => frame.type)).toEqual([33, 4]);
  });

  test('a small write does not keep a large buffer busy', () => {
    const sent: Uint8Array[] = [];
    const writer = new FrameWriter({ write: (bytes) => void sent.push(bytes) }, () => {});
    writer.empty(FRAME.PING, 1);
    writer.flush();
    expect(sent[0]?.buffer.byteLength).toBeLessThanOrEqual(8192);
  });
});

describe('TaskSpec', () => {
  test('survives a round trip', () => {
    fc.assert(
      fc.property(spec, (value) => {
        const bytes = encodeSpec(value);
        expect(decodeSpec(bytes, 0, bytes.length)).toEqual(value);
        expectTypedErrorsOnTruncation(bytes, (cut) => void decodeSpec(cut, 0, cut.length));
      }),
      { numRuns: 50 },
    );
  });

  test.each([
    [{ ...SPEC, priority: 10 }, /priority is 10; allowed are whole numbers from 0 to 9/],
    [{ ...SPEC, queue: '' }, /queue "" has 0 bytes/],
    [{ ...SPEC, name: 'a\nb' }, /control character/],
    [{ ...SPEC, timeoutMs: 1.5 }, /timeoutMs is 1.5/],
  ])('%j is refused with its value and bound', (value, message) => {
    expect(() => encodeSpec(value)).toThrow(message);
  });
});

describe('ENQUEUE', () => {
  const entries: fc.Arbitrary<Entry[]> = fc
    .tuple(fc.array(spec, { minLength: 1, maxLength: 2 }), fc.array(when, { minLength: 1, maxLength: 2 }))
    .chain(([specs, times]) =>
      fc.array(fc.record({ spec: fc.constantFrom(...specs), when: fc.constantFrom(...times), payload }), {
        minLength: 1,
        maxLength: 12,
      }),
    );

  const expected = (entry: Entry): unknown => ({
    spec: entry.spec,
    whenKind: { now: 0, delay: 1, at: 2 }[entry.when.kind],
    whenMs: entry.when.kind === 'now' ? 0 : entry.when.ms,
    payload: bytesOf(entry.payload),
  });

  test('tasks come out as they went in', () => {
    fc.assert(
      fc.property(entries, (tasks) => {
        const bytes = seal((batch) => {
          for (const task of tasks) batch.add(task.spec, task.when, task.payload);
        });
        const [frame] = readFrames(bytes);
        expect(frame?.type).toBe(FRAME.ENQUEUE);
        expect(frame?.requestId).toBe(7);
        expect(readBatch(frame?.body as Buffer)).toEqual(tasks.map(expected));
      }),
    );
  });

  test('many at once are the same as one by one', () => {
    fc.assert(
      fc.property(spec, when, fc.array(payload, { minLength: 1, maxLength: 600 }), (taskSpec, time, payloads) => {
        const many = seal((batch) => batch.addMany(taskSpec, time, payloads, manyBytesBound(payloads)));
        const single = seal((batch) => {
          for (const each of payloads) batch.add(taskSpec, time, each);
        });
        expect(many.equals(single)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('a body cut anywhere gives a typed error', () => {
    fc.assert(
      fc.property(entries, (tasks) => {
        const bytes = seal((batch) => {
          for (const task of tasks.slice(0, 4)) batch.add(task.spec, task.when, task.payload.slice(0, 20));
        }).subarray(HEADER_BYTES);
        for (let length = 0; length < bytes.length; length++) {
          expect(() => readBatch(Buffer.from(bytes.subarray(0, length)))).toThrow(MillraceError);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('a body with any byte changed is read or refused, never a crash', () => {
    fc.assert(
      fc.property(entries, fc.nat(), fc.integer({ min: 0, max: 255 }), (tasks, position, value) => {
        const bytes = Buffer.from(
          seal((batch) => {
            for (const task of tasks) batch.add(task.spec, task.when, task.payload);
          }).subarray(HEADER_BYTES),
        );
        bytes[position % bytes.length] = value;
        try {
          readBatch(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(MillraceError);
        }
      }),
    );
  });

  test('a payload over its limit is refused with its size, the bound and a way out', () => {
    const batch = new BatchWriter(new BufferPool());
    const [taskSpec] = fc.sample(spec, 1) as [TaskSpec];
    const large = 'ä'.repeat(LIMITS.payloadBytesMax / 2 + 1);
    expect(() => batch.add(taskSpec, { kind: 'now' }, large)).toThrow(/has 1048578 bytes; at most 1048576.*elsewhere/);
    expect(() => manyBytesBound(['', large])).toThrow(/payload 1 has/);
    expect(() => manyBytesBound(Array.from({ length: 17 }, () => 'x'.repeat(LIMITS.payloadBytesMax)))).toThrow(/split/);
    expect(batch.taskCount).toBe(0);
  });

  test('CONFIRM survives a round trip', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 48 - 1 }),
        id,
        fc.integer({ min: 1, max: 65_536 }),
        (batch, firstId, count) => {
          const bytes = write((writer) => writeConfirm(writer, 1, batch, firstId, count)).subarray(HEADER_BYTES);
          expect(readConfirm(bytes, 0, bytes.length)).toEqual({ batch, firstId, count });
        },
      ),
    );
  });
});

describe('DELIVER', () => {
  const run = fc.record({
    spec,
    firstId: id,
    firstToken: id,
    attempt: fc.integer({ min: 1, max: 1000 }),
    suspect: fc.boolean(),
    enqueuedAtMs: fc.double({ min: 0, max: 4e12, noNaN: true }),
    payloads: fc.array(payload, { minLength: 1, maxLength: 10 }),
  });

  type RunValue = typeof run extends fc.Arbitrary<infer T> ? T : never;

  function deliver(writer: FrameWriter, value: RunValue): void {
    const tasks = value.payloads.map((each) => Buffer.from(each as string));
    const byteLength = tasks.reduce((sum, bytes) => sum + 4 + bytes.length, 0);
    writeRunHeader(writer, { ...value, count: tasks.length, byteLength }, encodeSpec(value.spec));
    for (const bytes of tasks) {
      writer.u32(bytes.length);
      writer.bytes(bytes);
    }
  }

  test('runs come out as they went in, in any order of access', () => {
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 3 }), fc.boolean(), (values, backwards) => {
        const bytes = body(FRAME.DELIVER, (writer) => {
          for (const value of values) deliver(writer, value);
        });
        const runs = new DeliveryReader(WireRun).read(bytes, 0, bytes.length);
        bytes.fill(0);
        expect(runs).toHaveLength(values.length);
        for (const [position, value] of values.entries()) {
          const read = runs[position] as (typeof runs)[number];
          const { firstId, firstToken, attempt, suspect, enqueuedAtMs } = read;
          expect({ firstId, firstToken, attempt, suspect, enqueuedAtMs, spec: read.spec }).toEqual({
            ...value,
            payloads: undefined,
          });
          const indexes = value.payloads.map((_, index) => index);
          if (backwards) indexes.reverse();
          for (const index of indexes) {
            const each = Buffer.from(value.payloads[index] as string);
            expect(Buffer.from(read.bytes(index)).equals(each)).toBe(true);
            expect(read.text(index)).toBe(each.toString());
          }
        }
      }),
    );
  });

  test('a body cut anywhere gives a typed error', () => {
    fc.assert(
      fc.property(run, (value) => {
        const bytes = body(FRAME.DELIVER, (writer) => deliver(writer, value));
        expectTypedErrorsOnTruncation(bytes, (cut) => void new DeliveryReader(WireRun).read(cut, 0, cut.length));
      }),
      { numRuns: 20 },
    );
  });
});
