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
