import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { RelationsOf, UniqueClaim } from '../core/relations.ts';
import { State } from '../core/task-table.ts';
import { EPOCH_MAX, SEQUENCE_COUNT } from '../ids.ts';
import { writeU32 } from '../protocol/bytes.ts';
import { HEADERS_FLAG, packHeaders, taskBytes } from '../protocol/task-headers.ts';
import { packSnapshot, type TaskSnapshot, unpackSnapshot } from './snapshot.ts';

const bytes = fc.uint8Array({ maxLength: 60 });
/** As it is stored: behind its length. */
const blob = bytes.map((content) => withLength(content, content.length));
const tenant = Uint8Array.from(packHeaders({ tenant: 'a' }));
const headed = bytes.map((content) =>
  withLength(Uint8Array.from([...tenant, ...content]), (tenant.length + content.length) | HEADERS_FLAG),
);

function withLength(content: Uint8Array, length: number): Uint8Array {
  const stored = new Uint8Array(4 + content.length);
  writeU32(stored, 0, length);
  stored.set(content, 4);
  return stored;
}

const time = fc.double({ noNaN: true, min: 0, max: 1e15 });
const id = fc
  .tuple(fc.nat(EPOCH_MAX), fc.nat(0x7fff_ffff))
  .map(([epoch, sequence]) => epoch * SEQUENCE_COUNT + sequence);
const edge = fc.record({ id, onFailure: fc.constantFrom(0, 1, 2), end: fc.constantFrom(0, 1, 2, 3) });
const unique: fc.Arbitrary<UniqueClaim> = fc.record({
  queue: fc.string({ minLength: 1, maxLength: 20 }),
  key: fc.string({ minLength: 1, maxLength: 20, unit: 'binary' }),
  scope: fc.constantFrom('waiting', 'unfinished', 'time'),
  untilMs: time,
});
const relations: fc.Arbitrary<RelationsOf> = fc
  .tuple(fc.array(edge, { maxLength: 5 }), time, fc.option(unique, { nil: undefined }), fc.boolean())
  .map(([edges, dueMs, claim, isKeyLost]) => ({
    edges: edges.map(({ id: parent, onFailure }) => ({ id: parent, onFailure })),
    ends: edges.map(({ end }) => end),
    dueMs,
    unique: claim,
    isKeyLost: claim !== undefined && isKeyLost,
  }));
const task: fc.Arbitrary<TaskSnapshot> = fc.record({
  id,
  state: fc.constantFrom(State.READY, State.SCHEDULED, State.COMPLETED, State.DEAD, State.CANCELLED),
  flags: fc.nat(127),
  attempts: fc.nat(0xffff),
  enqueuedAtMs: time,
  atMs: time,
  spec: bytes,
  payload: fc.oneof(blob, headed),
  result: fc.option(blob, { nil: undefined }),
  relations: fc.option(relations, { nil: undefined }),
  failures: fc.array(fc.record({ attempt: fc.nat(0xffff), atMs: time, error: blob }), { maxLength: 10 }),
});

it('tasks copied forward read back as they were, one behind the other', () => {
  fc.assert(
    fc.property(fc.array(task, { minLength: 1, maxLength: 5 }), (tasks) => {
      const packed = tasks.map(packSnapshot);
      const body = Buffer.concat([Buffer.from('before'), ...packed.map((one) => one.bytes)]);
      const stored = (at: number): Uint8Array => Uint8Array.from(body.subarray(at, at + 4 + taskBytes(body, at)));
      let at = 6;
      tasks.forEach((expected, i) => {
        const read = unpackSnapshot(body, at);
        const { offsets } = packed[i];
        const { state, flags, attempts, enqueuedAtMs, atMs } = read;
        expect({
          ...{ id: read.id, state, attempts, enqueuedAtMs, atMs },
          // What says that there are relations.
          flags: flags & 127,
          relations: read.relations,
          spec: Uint8Array.from(body.subarray(read.specStart, read.specEnd)),
          payload: stored(read.payload),
          result: read.result === undefined ? undefined : stored(read.result),
          failures: read.failures.map(({ attempt, atMs: failedAtMs, offset }) => ({
            attempt,
            atMs: failedAtMs,
            error: stored(offset),
          })),
        }).toEqual(expected);
        // Where the writer says that the blobs lie is where the reader finds them.
        expect([read.payload, read.result, ...read.failures.map(({ offset }) => offset)]).toEqual([
          at + offsets.payload,
          offsets.result === undefined ? undefined : at + offsets.result,
          ...offsets.failures.map((offset) => at + offset),
        ]);
        at = read.end;
      });
      expect(at).toBe(body.length);
    }),
  );
});
