import type { Failure } from '../core/failures.ts';
import type { Edge, RelationsOf, UniqueClaim } from '../core/relations.ts';
import { FLAG_RELATED, type State } from '../core/task-table.ts';
import { invariant } from '../errors.ts';
import { readF64, readU16, readU32, readU64, writeF64, writeU16, writeU32, writeU64 } from '../protocol/bytes.ts';
import { taskBytes } from '../protocol/task-headers.ts';

/**
 * A task as it stands:
 *
 * ```
 * task = u32 byteLength (of what follows), u64 id, u8 state, u8 flags, u16 attempts, f64 enqueuedAtMs, f64 atMs,
 *        u8 hasResult, u8 failureCount, u16 specLength, spec, payload, result if hasResult, failure{failureCount}
 * failure = u16 attempt, f64 atMs, error               payload, result, error = u32 length, bytes
 * ```
 * The lengths before blobs are what the core points at. A payload is as it was enqueued, perhaps with headers before it.
 * With `FLAG_RELATED` in the flags, after the failures:
 *
 * ```
 * relations = u32 edgeCount, edge{edgeCount}, f64 dueMs, u8 keyLength, 0 or: key, u8 queueLength, queue, u8 scope, f64 untilMs, u8 isKeyLost
 * edge = u64 id, u8 onFailure, u8 end
 * ```
 */
const FIXED_BYTES = 36;
const FAILURE_BYTES = 10;
const LENGTH_BYTES = 4;
const RELATED = FLAG_RELATED >>> 24;
const EDGE_BYTES = 10;
const SCOPES: readonly UniqueClaim['scope'][] = ['waiting', 'unfinished', 'time'];

function packRelations({ edges, ends, dueMs, unique, isKeyLost }: RelationsOf): Buffer {
  const key = Buffer.from(unique?.key ?? '');
  const queue = Buffer.from(unique?.queue ?? '');
  const head = LENGTH_BYTES + edges.length * EDGE_BYTES + 8;
  const bytes = Buffer.allocUnsafe(head + 1 + (unique === undefined ? 0 : key.length + 1 + queue.length + 10));
  writeU32(bytes, 0, edges.length);
  for (const [index, { id, onFailure }] of edges.entries()) {
    const at = LENGTH_BYTES + index * EDGE_BYTES;
    writeU64(bytes, at, id);
    bytes[at + 8] = onFailure;
    bytes[at + 9] = ends[index];
  }
  writeF64(bytes, head - 8, dueMs);
  bytes[head] = key.length;
  if (unique === undefined) return bytes;
  let at = head + 1;
  bytes.set(key, at);
  at += key.length;
  bytes[at++] = queue.length;
  bytes.set(queue, at);
  at += queue.length;
  bytes[at] = SCOPES.indexOf(unique.scope);
  writeF64(bytes, at + 1, unique.untilMs);
  bytes[at + 9] = isKeyLost ? 1 : 0;
  return bytes;
}

function unpackRelations(body: Buffer, start: number): RelationsOf {
  const count = readU32(body, start);
  invariant(count <= body.length / EDGE_BYTES, `a task that depends on ${count} others, in ${body.length} bytes`);
  const edges: Edge[] = [];
  const ends: RelationsOf['ends'][number][] = [];
  let at = start + LENGTH_BYTES;
  for (let i = 0; i < count; i++, at += EDGE_BYTES) {
    edges.push({ id: readU64(body, at), onFailure: body[at + 8] as Edge['onFailure'] });
    ends.push(body[at + 9] as RelationsOf['ends'][number]);
  }
  const dueMs = readF64(body, at);
  const keyEnd = at + 9 + body[at + 8];
  if (keyEnd === at + 9) return { edges, ends, dueMs, unique: undefined, isKeyLost: false };
  const queueEnd = keyEnd + 1 + body[keyEnd];
  return {
    edges,
    ends,
    dueMs,
    unique: {
      key: body.toString('utf8', at + 9, keyEnd),
      queue: body.toString('utf8', keyEnd + 1, queueEnd),
      scope: SCOPES[body[queueEnd]],
      untilMs: readF64(body, queueEnd + 1),
    },
    isKeyLost: body[queueEnd + 9] === 1,
  };
}

export interface TaskSnapshot {
  id: number;
  state: State;
  /** The flags word's upper byte. */
  flags: number;
  attempts: number;
  enqueuedAtMs: number;
  atMs: number;
  spec: Uint8Array;
  /** With its length, as are results and errors. */
  payload: Uint8Array;
  result: Uint8Array | undefined;
  failures: { attempt: number; atMs: number; error: Uint8Array }[];
  relations: RelationsOf | undefined;
}

/** Offsets of the blobs in the packed task. */
export interface BlobOffsets {
  payload: number;
  result: number | undefined;
  failures: number[];
}

export function packSnapshot(task: TaskSnapshot): { bytes: Buffer; offsets: BlobOffsets } {
  let size = FIXED_BYTES + task.spec.length + task.payload.length + (task.result?.length ?? 0);
  for (const failure of task.failures) size += FAILURE_BYTES + failure.error.length;
  const relations = task.relations === undefined ? undefined : packRelations(task.relations);
  size += relations?.length ?? 0;
  const bytes = Buffer.allocUnsafe(size);
  writeU32(bytes, 0, size - 4);
  writeU64(bytes, 4, task.id);
  bytes[12] = task.state;
  bytes[13] = relations === undefined ? task.flags & ~RELATED : task.flags | RELATED;
  writeU16(bytes, 14, task.attempts);
  writeF64(bytes, 16, task.enqueuedAtMs);
  writeF64(bytes, 24, task.atMs);
  bytes[32] = task.result === undefined ? 0 : 1;
  bytes[33] = task.failures.length;
  writeU16(bytes, 34, task.spec.length);
  let at = FIXED_BYTES;
  bytes.set(task.spec, at);
  at += task.spec.length;
  const put = (blob: Uint8Array): number => {
    const start = at;
    bytes.set(blob, start);
    at += blob.length;
    return start;
  };
  const offsets: BlobOffsets = { payload: put(task.payload), result: undefined, failures: [] };
  if (task.result !== undefined) offsets.result = put(task.result);
  for (const failure of task.failures) {
    writeU16(bytes, at, failure.attempt);
    writeF64(bytes, at + 2, failure.atMs);
    at += FAILURE_BYTES;
    offsets.failures.push(put(failure.error));
  }
  if (relations !== undefined) bytes.set(relations, at);
  return { bytes, offsets };
}

/** A task read back; blobs are offsets in `body`. */
export interface UnpackedSnapshot {
  id: number;
  state: State;
  flags: number;
  attempts: number;
  enqueuedAtMs: number;
  atMs: number;
  specStart: number;
  specEnd: number;
  payload: number;
  result: number | undefined;
  /** `segment` is left for the caller. */
  failures: Failure[];
  relations: RelationsOf | undefined;
  end: number;
}

export function unpackSnapshot(body: Buffer, start: number): UnpackedSnapshot {
  const specStart = start + FIXED_BYTES;
  const specEnd = specStart + readU16(body, start + 34);
  const payload = specEnd;
  let at = payload + 4 + taskBytes(body, payload);
  let result: number | undefined;
  if (body[start + 32] === 1) {
    result = at;
    at += 4 + readU32(body, at);
  }
  const failures: Failure[] = [];
  for (let i = 0; i < body[start + 33]; i++) {
    failures.push({ attempt: readU16(body, at), atMs: readF64(body, at + 2), segment: 0, offset: at + FAILURE_BYTES });
    at += FAILURE_BYTES;
    at += 4 + readU32(body, at);
  }
  return {
    id: readU64(body, start + 4),
    state: body[start + 12] as State,
    flags: body[start + 13],
    attempts: readU16(body, start + 14),
    enqueuedAtMs: readF64(body, start + 16),
    atMs: readF64(body, start + 24),
    specStart,
    specEnd,
    payload,
    result,
    failures,
    relations: (body[start + 13] & RELATED) === 0 ? undefined : unpackRelations(body, at),
    end: start + 4 + readU32(body, start),
  };
}
