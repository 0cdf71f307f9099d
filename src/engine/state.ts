import type { Core } from '../core/core.ts';
import type { Kind } from '../core/kind.ts';
import type { ProducerState } from '../core/producers.ts';
import type { QueueTotals, RetentionPolicy } from '../core/queue.ts';
import type { Schedule } from '../core/schedules.ts';
import { type EnqueueReader, WHEN } from '../protocol/batch.ts';
import { decodeSpec } from '../protocol/spec.ts';
import { type FireHead, type KeptLimits, readLimits } from './records.ts';

/** What must outlive the records it came from: each segment begins with it, so that older ones can be given up. */
interface SegmentState {
  version: 1;
  /** `retention` and `limits` only where someone has set them. */
  queues: { name: string; paused: boolean; retention?: RetentionPolicy; limits?: KeptLimits; totals: QueueTotals }[];
  producers: ProducerState[];
  /** Left out when there are none. */
  schedules?: Schedule[];
}

export function packState(core: Core): Buffer {
  const state: SegmentState = {
    version: 1,
    queues: [...core.queues.values()].map((queue) => ({
      name: queue.name,
      paused: queue.paused,
      ...(queue.hasOwnRetention ? { retention: queue.retention } : {}),
      ...(queue.limits === undefined ? {} : { limits: queue.limits }),
      totals: queue.totals,
    })),
    producers: core.producers.export(),
    ...(core.schedules.count > 0 ? { schedules: [...core.schedules.values()] } : {}),
  };
  return Buffer.from(JSON.stringify(state));
}

export function restoreState(core: Core, body: Buffer): void {
  if (body.length === 0) return;
  const state = JSON.parse(body.toString()) as SegmentState;
  for (const { name, paused, retention, limits, totals } of state.queues) {
    const queue = core.queue(name);
    queue.paused = paused;
    if (retention !== undefined) queue.retention = retention;
    // Its bucket is full: it was not used for as long as the server was away.
    if (limits !== undefined) core.queues.setLimits(queue, readLimits(limits), 0);
    Object.assign(queue.totals, totals);
  }
  core.producers.import(state.producers);
  for (const schedule of state.schedules ?? []) core.schedules.set(schedule);
}

/** The kind of a packed spec. Throws what `decodeSpec` throws, and QUEUE_FULL. */
export function kindOfSpec(core: Core, buffer: Buffer, start: number, end: number): Kind {
  const key = buffer.toString('latin1', start, end);
  return core.knownKind(key) ?? core.addKind(key, buffer.subarray(start, end), decodeSpec(buffer, start, end));
}

/**
 * Applies the body of an ENQUEUE frame, live or replayed. `shift` is added to positions in `buffer` to get offsets in the
 * segment.
 */
export function applyEnqueue(
  core: Core,
  reader: EnqueueReader,
  buffer: Buffer,
  start: number,
  end: number,
  place: {
    segment: number;
    shift: number;
    steadyMs: number;
    firstId: number;
    /** Ids of tasks that are left out: each is alone in its section. */
    left?: ReadonlySet<number>;
  },
): void {
  let id = place.firstId;
  reader.open(buffer, start, end);
  while (reader.next()) {
    const kind = kindOfSpec(core, buffer, reader.specStart, reader.specEnd);
    if (place.left?.has(id) === true) {
      core.dropKindIfUnused(kind);
      id++;
      continue;
    }
    const delayed = reader.whenKind === WHEN.DELAY && reader.whenMs > 0;
    const wall = reader.whenKind === WHEN.AT;
    const dueMs = delayed ? place.steadyMs + reader.whenMs : wall ? Math.max(reader.whenMs, 1) : 0;
    const { count, tasksStart } = reader;
    core.enqueue(kind, {
      firstId: id,
      count,
      enqueuedAtMs: place.steadyMs,
      bytes: buffer,
      start: tasksStart,
      segment: place.segment,
      offset: tasksStart + place.shift,
      dueMs,
      wall,
    });
    id += count;
  }
}

/** Applies a FIRE, live or replayed: its tasks are there and its schedule has moved on, both or neither. */
export function applyFire(
  core: Core,
  reader: EnqueueReader,
  { steadyMs, firstId, name, dueMs, nextMs, key }: FireHead,
  { bytes, start, segment, shift }: { bytes: Buffer; start: number; segment: number; shift: number },
): void {
  applyEnqueue(core, reader, bytes, start, bytes.length, { segment, shift, steadyMs, firstId });
  const count = reader.taskCount;
  core.schedules.fired(name, { dueMs, nextMs, count, lastId: firstId + count - 1, key });
}
