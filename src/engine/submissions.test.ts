import { expect, it } from 'vitest';
import { EngineBench, PRODUCER, SPEC } from '../../test/model/engine-bench.ts';
import { LIMITS } from '../limits.ts';
import { BatchWriter } from '../protocol/batch-writer.ts';
import { HEADER_BYTES } from '../protocol/frames.ts';
import { packTrailer } from '../protocol/submission.ts';
import { BufferPool } from '../protocol/writer.ts';

/** All the tasks and dependencies that one submission may have; each of the former has a key, for a time. */
function largestSubmission(): Buffer {
  const writer = new BatchWriter(new BufferPool());
  const count = LIMITS.batchTasksMax;
  const children = LIMITS.submissionDependenciesMax / LIMITS.batchTasksMax;
  const roots = count - children;
  const tasks: object[] = [];
  for (let index = 0; index < count; index++) {
    writer.separate();
    writer.add(SPEC, { kind: 'now' }, 'x'.repeat(84));
    const dependsOn = index < roots ? [] : Array.from({ length: roots }, (_, root) => [root, 'run']);
    tasks.push({ index, dependsOn, unique: { key: `k${index}`, scope: 1 } });
  }
  const trailer = packTrailer({ tasks });
  const frame = writer.seal(1, trailer);
  writer.address(1, 1);
  return Buffer.from(frame.subarray(HEADER_BYTES));
}

it('the largest submission that fits into a frame fits into the journal, and is there after a crash', async () => {
  const bench = await EngineBench.open({ segmentBytes: LIMITS.segmentBytes });
  const body = largestSubmission();
  expect(body.length).toBeLessThan(LIMITS.frameBytesMax);
  expect(body.length).toBeGreaterThan(LIMITS.frameBytesMax * 0.95);
  const { count, firstId } = bench.engine.submit(PRODUCER, body, 0, body.length);
  expect(count).toBe(LIMITS.batchTasksMax);
  await bench.flush();
  await bench.crash();
  const { ready, blocked } = bench.engine.core.queue('q');
  expect([ready + blocked, blocked]).toEqual([LIMITS.batchTasksMax, 4]);
  // Sent again, it is the same.
  expect(bench.engine.submit(PRODUCER, body, 0, body.length)).toMatchObject({ firstId, existing: [] });
  expect(bench.failures).toEqual([]);
  await bench.engine.close();
});
