import { invariant, type MillraceError } from '../errors.ts';
import { EnqueueReader, WHEN_BYTES } from './batch.ts';
import type { BatchWriter } from './batch-writer.ts';
import { HEADER_BYTES } from './frames.ts';
import { queueOfSpec } from './spec.ts';
import { taskBytes } from './task-headers.ts';

/** Callers whose enqueues travelled in one frame, and a server that takes a frame whole or not at all. */
const SPEC_LENGTH_BYTES = 2;

/**
 * Which calls of a refused frame would have been taken, had each come alone; undefined when the refusal is not about one queue.
 * To be asked once for each call, in their order: those that fit take what room there is.
 */
export function takenAlone({ details }: MillraceError): ((queue: string, count: number) => boolean) | undefined {
  if (typeof details.queue !== 'string') return undefined;
  let room = typeof details.room === 'number' ? details.room : 0;
  return (queue, count) => {
    if (queue !== details.queue) return true;
    if (count > room) return false;
    room -= count;
    return true;
  };
}

/**
 * Writes those calls of a sealed ENQUEUE into another batch that `keeps` says, and returns for each call whether it did. `counts`
 * are the tasks of each call, which lie in one section. `keeps` is asked once for each, in their order.
 */
export function keepCalls(
  frame: Buffer,
  counts: readonly number[],
  keeps: (queue: string, count: number) => boolean,
  writer: BatchWriter,
): boolean[] {
  const reader = new EnqueueReader();
  const kept: boolean[] = [];
  reader.open(frame, HEADER_BYTES, frame.length);
  while (reader.next()) {
    const { specStart, specEnd, tasksEnd } = reader;
    const queue = queueOfSpec(frame, specStart, specEnd);
    const head = frame.subarray(specStart - SPEC_LENGTH_BYTES, specEnd + WHEN_BYTES);
    for (let start = reader.tasksStart; start < tasksEnd; ) {
      const count = counts[kept.length];
      invariant(count !== undefined, 'every task of the frame is of a call');
      let end = start;
      for (let index = 0; index < count; index++) end += 4 + taskBytes(frame, end);
      const isKept = keeps(queue, count);
      if (isKept) writer.addPacked(head, frame.subarray(start, end), count);
      kept.push(isKept);
      start = end;
    }
  }
  return kept;
}
