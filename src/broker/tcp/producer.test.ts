import { beforeEach, describe, expect, test } from 'vitest';
import { type Frame, SPEC } from '../../../test/support/frames.ts';
import {
  connected,
  type ScriptedConnection,
  type ScriptedServer,
  settle,
  watch,
} from '../../../test/support/scripted-server.ts';
import { LIMITS } from '../../limits.ts';
import { checkTasks, EnqueueReader, writeConfirm } from '../../protocol/batch.ts';
import { FRAME } from '../../protocol/frames.ts';
import { decodeSpec } from '../../protocol/spec.ts';
import { payloadStart, taskBytes } from '../../protocol/task-headers.ts';
import type { RemoteBroker } from './remote-broker.ts';

const now = { kind: 'now' } as const;
const FIRST_ID = 2 ** 32;

function readBatch(frame: Frame): { batch: number; lowestUnconfirmed: number; count: number } {
  const reader = new EnqueueReader();
  reader.open(frame.body, 0, frame.body.length);
  while (reader.next()) checkTasks(frame.body, reader.tasksStart, reader.tasksEnd, reader.count);
  return { batch: reader.batch, lowestUnconfirmed: reader.lowestUnconfirmed, count: reader.taskCount };
}

describe('enqueues', () => {
  let server: ScriptedServer;
  let broker: RemoteBroker;
  let connection: ScriptedConnection;

  beforeEach(async () => {
    ({ server, broker, connection } = await connected());
  });

  async function takeBatch(from = connection): Promise<ReturnType<typeof readBatch> & { requestId: number }> {
    const frame = await from.expect(FRAME.ENQUEUE);
    return { ...readBatch(frame), requestId: frame.requestId };
  }

  test('of one turn travel as one batch and resolve with its ids in order', async () => {
    const singles = ['1', '2', '3'].map((payload) => broker.enqueue(SPEC, payload, now));
    const many = broker.enqueueMany(SPEC, ['4', '5'], now);
    const { batch, count, requestId } = await takeBatch();
    expect({ batch, count }).toEqual({ batch: 1, count: 5 });
    expect(await watch(singles[0] as Promise<string>)()).toBe('pending');
    writeConfirm(connection.writer, requestId, batch, FIRST_ID + 7, 5);
    expect(await Promise.all(singles)).toEqual(['1-7', '1-8', '1-9']);
    expect([...(await many)]).toEqual(['1-a', '1-b']);
    await expect(many.then((ids) => ids.at(2))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('are sent again, under the same numbers and in order, after a reconnect', async () => {
    const first = broker.enqueue(SPEC, '1', now);
    const { requestId } = await takeBatch();
    const second = broker.enqueue(SPEC, '2', now);
    await takeBatch();
    connection.drop();
    const third = broker.enqueue(SPEC, '3', now);
    const next = await server.reconnect();
    const again = [await takeBatch(next), await takeBatch(next), await takeBatch(next)];
    expect(again.map(({ batch }) => batch)).toEqual([1, 2, 3]);
    // An answer to the first sending, had it come, would not count twice.
    writeConfirm(next.writer, requestId + 1000, 1, FIRST_ID, 1);
    for (const [index, sent] of again.entries()) {
      writeConfirm(next.writer, sent.requestId, sent.batch, FIRST_ID + index, 1);
    }
    expect(await Promise.all([first, second, third])).toEqual(['1-0', '1-1', '1-2']);
    const fourth = broker.enqueue(SPEC, '4', now);
    const last = await takeBatch(next);
    expect(last).toMatchObject({ batch: 4, lowestUnconfirmed: 4 });
    writeConfirm(next.writer, last.requestId, 4, FIRST_ID + 3, 1);
    await fourth;
  });

  test('gather in larger batches while the window is full', async () => {
    const results: Promise<string>[] = [];
    for (let turn = 0; turn < LIMITS.unconfirmedBatchesMax; turn++) {
      results.push(broker.enqueue(SPEC, '1', now));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const sent = [];
    for (let turn = 0; turn < LIMITS.unconfirmedBatchesMax; turn++) sent.push(await takeBatch());
    for (let turn = 0; turn < 10; turn++) {
      results.push(broker.enqueue(SPEC, '2', now), broker.enqueue(SPEC, '3', now));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(connection.waiting).toEqual([]);
    const [first] = sent as [(typeof sent)[number]];
    writeConfirm(connection.writer, first.requestId, first.batch, FIRST_ID, 1);
    expect((await takeBatch()).count).toBe(20);
  });

  test('time out without being given up', async () => {
    const enqueued = broker.enqueue(SPEC, '1', now);
    await takeBatch();
    server.clock.advance(30_000);
    expect(await watch(enqueued)()).toBe('pending');
    server.clock.advance(1000);
    await expect(enqueued).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringMatching(/may or may not have been enqueued.*goes on sending/),
    });
    connection.drop();
    const next = await server.reconnect();
    expect(await takeBatch(next)).toMatchObject({ batch: 1 });
  });

  test('of a long outage time out each in its own time', async () => {
    connection.drop();
    server.refusing = true;
    await settle();
    const early = watch(broker.enqueue(SPEC, '1', now));
    await settle();
    server.clock.advance(20_000);
    const late = watch(broker.enqueue(SPEC, '2', now));
    await settle();
    server.clock.advance(12_000);
    expect(await early()).toBe('TIMEOUT');
    expect(await late()).toBe('pending');
    server.clock.advance(20_000);
    expect(await late()).toBe('TIMEOUT');
  });

  test('that a server refuses reject with its error and use up their number', async () => {
    const refused = broker.enqueue(SPEC, '1', now);
    const { requestId } = await takeBatch();
    connection.json(FRAME.ERROR, requestId, { code: 'QUEUE_FULL', message: 'no room' });
    await expect(refused).rejects.toMatchObject({ code: 'QUEUE_FULL', message: 'no room' });
    const taken = broker.enqueue(SPEC, '2', now);
    const second = await takeBatch();
    expect(second).toMatchObject({ batch: 2, lowestUnconfirmed: 2 });
    writeConfirm(connection.writer, second.requestId, 2, FIRST_ID, 1);
    await taken;
  });

  /** What is in a batch, by queue. */
  async function takeQueues(): Promise<{ requestId: number; batch: number; tasks: string[] }> {
    const { requestId, body } = await connection.expect(FRAME.ENQUEUE);
    const reader = new EnqueueReader();
    const tasks: string[] = [];
    reader.open(body, 0, body.length);
    while (reader.next()) {
      const { queue } = decodeSpec(body, reader.specStart, reader.specEnd);
      for (let index = 0, at = reader.tasksStart; index < reader.count; index++) {
        const end = at + 4 + taskBytes(body, at);
        tasks.push(`${queue}${body.toString('utf8', payloadStart(body, at), end)}`);
        at = end;
      }
    }
    return { requestId, batch: reader.batch, tasks };
  }

  const full = { ...SPEC, queue: 'full' };

  test('of other queues than the one that a refusal is about go on, in their order, before what was not sent', async () => {
    const calls = [
      broker.enqueue(SPEC, '1', now),
      broker.enqueue(full, '2', now),
      broker.enqueueMany(SPEC, ['3', '4'], { kind: 'delay', ms: 5 }, { tenant: 'a' }),
      broker.enqueue({ ...full, name: 'other' }, '5', now),
      broker.enqueue(SPEC, '6', now),
    ];
    const outcomes = Promise.allSettled(calls);
    const { requestId } = await takeQueues();
    const error = { code: 'FORBIDDEN', message: 'not yours', details: { queue: 'full' } };
    connection.json(FRAME.ERROR, requestId, error);
    const again = await takeQueues();
    expect(again).toMatchObject({ batch: 2, tasks: ['q1', 'q3', 'q4', 'q6'] });
    writeConfirm(connection.writer, again.requestId, 2, FIRST_ID, 4);
    const [first, second, third, fourth, fifth] = await outcomes;
    expect([first, fifth]).toMatchObject([{ value: '1-0' }, { value: '1-3' }]);
    expect([...(third as PromiseFulfilledResult<Iterable<string>>).value]).toEqual(['1-1', '1-2']);
    for (const refused of [second, fourth]) expect(refused).toMatchObject({ reason: error });
    await broker.close({ timeoutMs: 0 });
  });

  test('that fit into the room of a full queue are taken as if each had come alone', async () => {
    const outcomes = Promise.allSettled([
      broker.enqueue(full, '1', now),
      broker.enqueueMany(full, ['2', '3', '4'], now),
      broker.enqueue(full, '5', now),
      broker.enqueue(full, '6', now),
      broker.enqueue(SPEC, '7', now),
    ]);
    const { requestId } = await takeQueues();
    const error = { code: 'QUEUE_FULL', message: 'no room', details: { queue: 'full', room: 2 } };
    connection.json(FRAME.ERROR, requestId, error);
    const again = await takeQueues();
    expect(again.tasks).toEqual(['full1', 'full5', 'q7']);
    // Meanwhile somebody else has taken what room there was.
    connection.json(FRAME.ERROR, again.requestId, { ...error, details: { queue: 'full', room: 0 } });
    const third = await takeQueues();
    expect(third).toMatchObject({ batch: 3, tasks: ['q7'] });
    writeConfirm(connection.writer, third.requestId, 3, FIRST_ID, 1);
    const settled = await outcomes;
    expect(settled.map(({ status }) => status)).toEqual([...new Array(4).fill('rejected'), 'fulfilled']);
  });

  test('all reject when a refusal names a queue that is not among them, or one for which there would be room', async () => {
    for (const details of [{ queue: 'elsewhere' }, { queue: 'q', room: 5 }]) {
      const calls = [broker.enqueue(SPEC, '1', now), broker.enqueue(SPEC, '2', now)];
      const outcomes = Promise.allSettled(calls);
      const { requestId } = await takeQueues();
      connection.json(FRAME.ERROR, requestId, { code: 'QUEUE_FULL', message: 'no room', details });
      expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    }
    expect(connection.waiting).toEqual([]);
  });

  test('that go on after a refusal time out when they would have', async () => {
    const other = watch(broker.enqueue(full, '1', now));
    const goesOn = watch(broker.enqueue(SPEC, '2', now));
    const { requestId } = await takeQueues();
    server.clock.advance(20_000);
    const later = watch(broker.enqueue(SPEC, '3', now));
    await takeQueues();
    connection.json(FRAME.ERROR, requestId, { code: 'QUEUE_FULL', message: 'no room', details: { queue: 'full' } });
    await takeQueues();
    expect(await other()).toBe('QUEUE_FULL');
    server.clock.advance(11_500);
    expect([await goesOn(), await later()]).toEqual(['TIMEOUT', 'pending']);
  });

  test('that a connection before this one carried too are not split: the server may yet take them as they were', async () => {
    const outcomes = Promise.allSettled([broker.enqueue(full, '1', now), broker.enqueue(SPEC, '2', now)]);
    await takeQueues();
    connection.drop();
    connection = await server.reconnect();
    const { requestId } = await takeQueues();
    connection.json(FRAME.ERROR, requestId, { code: 'QUEUE_FULL', message: 'no room', details: { queue: 'full' } });
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(connection.waiting).toEqual([]);
  });

  test('that a stopping server refuses go to the next', async () => {
    const enqueued = broker.enqueue(SPEC, '1', now);
    const { requestId } = await takeBatch();
    connection.json(FRAME.ERROR, requestId, { code: 'STOPPING', message: 'bye' });
    expect(await watch(enqueued)()).toBe('pending');
    connection.drop();
    const next = await server.reconnect();
    const again = await takeBatch(next);
    expect(again.batch).toBe(1);
    writeConfirm(next.writer, again.requestId, 1, FIRST_ID, 1);
    expect(await enqueued).toBe('1-0');
  });

  test('wait for the next connection once the server said that it stops', async () => {
    connection.json(FRAME.GOAWAY, 0, { reason: 'stopping' });
    await settle();
    const enqueued = broker.enqueue(SPEC, '1', now);
    await settle();
    expect(connection.waiting).toEqual([]);
    connection.drop();
    const next = await server.reconnect();
    const { requestId } = await takeBatch(next);
    writeConfirm(next.writer, requestId, 1, FIRST_ID, 1);
    await enqueued;
  });

  test('beyond what a client may hold are refused, and the rest stays', async () => {
    const large = 'x'.repeat(LIMITS.payloadBytesMax);
    const fill = Array.from({ length: 15 }, () => large);
    const held = Array.from({ length: 4 }, () => broker.enqueueMany(SPEC, fill, now));
    const error = await broker.enqueueMany(SPEC, fill, now).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'BUFFER_FULL', message: expect.stringContaining('await earlier enqueues') });
    expect(await watch(Promise.race(held))()).toBe('pending');
  });

  test('with an impossible spec reject alone', async () => {
    const bad = broker.enqueue({ ...SPEC, priority: 12 }, '1', now);
    const good = broker.enqueue(SPEC, '2', now);
    await expect(bad).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const { requestId, count } = await takeBatch();
    expect(count).toBe(1);
    writeConfirm(connection.writer, requestId, 1, FIRST_ID, 1);
    await good;
  });

  test('are sent before a close, which waits for them up to its time', async () => {
    const enqueued = broker.enqueue(SPEC, '1', now);
    const closing = broker.close({ timeoutMs: 5000 });
    const { requestId } = await takeBatch();
    writeConfirm(connection.writer, requestId, 1, FIRST_ID, 1);
    expect(await enqueued).toBe('1-0');
    await closing;
    await settle();
    expect(connection.closed).toBe(true);
    await expect(broker.enqueue(SPEC, '2', now)).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('that are not confirmed when a close’s time is over reject with CLOSED', async () => {
    const enqueued = broker.enqueue(SPEC, '1', now);
    const closing = broker.close({ timeoutMs: 5000 });
    await takeBatch();
    server.clock.advance(5000);
    await expect(enqueued).rejects.toMatchObject({ code: 'CLOSED' });
    await closing;
  });
});
