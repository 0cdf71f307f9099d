import fc from 'fast-check';
import { expect, test } from 'vitest';
import { payload, spec, when } from '../../test/support/frames.ts';
import { checkTasks, EnqueueReader } from './batch.ts';
import { keepCalls } from './batch-calls.ts';
import { BatchWriter, manyBytesBound } from './batch-writer.ts';
import { HEADER_BYTES } from './frames.ts';
import { packHeaders, taskBytes } from './task-headers.ts';
import { BufferPool } from './writer.ts';

const call = fc.record({
  spec: fc.nat(2),
  when: fc.nat(1),
  payloads: fc.array(payload, { minLength: 1, maxLength: 3 }),
  headers: fc.boolean(),
  keeps: fc.boolean(),
});
const PREFIX = packHeaders({ tenant: 'ü' });

/** The options, start time and bytes of each. */
function tasksOf(frame: Buffer): string[] {
  const reader = new EnqueueReader();
  const tasks: string[] = [];
  reader.open(frame, HEADER_BYTES, frame.length);
  while (reader.next()) {
    checkTasks(frame, reader.tasksStart, reader.tasksEnd, reader.count);
    const options = `${frame.toString('hex', reader.specStart, reader.specEnd)} ${reader.whenKind} ${reader.whenMs}`;
    for (let start = reader.tasksStart; start < reader.tasksEnd; ) {
      const end = start + 4 + taskBytes(frame, start);
      tasks.push(`${options} ${frame.toString('hex', start, end)}`);
      start = end;
    }
  }
  return tasks;
}

test('what is kept of a frame is what a frame of these calls alone has, task by task', () => {
  const kinds = fc.tuple(
    fc.array(spec, { minLength: 3, maxLength: 3 }),
    fc.array(when, { minLength: 2, maxLength: 2 }),
  );
  fc.assert(
    fc.property(kinds, fc.array(call, { minLength: 1, maxLength: 12 }), ([specs, times], calls) => {
      const seal = (writer: BatchWriter): Buffer => {
        const sealed = writer.seal(3);
        writer.address(1, 3);
        return Buffer.from(sealed);
      };
      const writeAll = (some: typeof calls): BatchWriter => {
        const writer = new BatchWriter(new BufferPool());
        for (const { spec, when, payloads, headers } of some) {
          const prefix = headers ? PREFIX : undefined;
          const bound = manyBytesBound(payloads, prefix?.length);
          writer.addMany(specs[spec], times[when], payloads, bound, prefix);
        }
        return writer;
      };
      const keeps = calls.map((each) => each.keeps);
      const asked: [string, number][] = [];
      const kept = new BatchWriter(new BufferPool());
      const answers = keepCalls(
        seal(writeAll(calls)),
        calls.map(({ payloads }) => payloads.length),
        (queue, count) => keeps[asked.push([queue, count]) - 1] as boolean,
        kept,
      );
      expect(answers).toEqual(keeps);
      expect(asked).toEqual(calls.map(({ spec, payloads }) => [specs[spec].queue, payloads.length]));
      const rest = calls.filter((each) => each.keeps);
      expect(kept.taskCount).toBe(rest.reduce((sum, { payloads }) => sum + payloads.length, 0));
      if (rest.length > 0) expect(tasksOf(seal(kept))).toEqual(tasksOf(seal(writeAll(rest))));
    }),
  );
});
