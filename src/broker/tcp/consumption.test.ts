import { beforeEach, describe, expect, test } from 'vitest';
import { SPEC } from '../../../test/support/frames.ts';
import {
  connected,
  type ScriptedConnection,
  ScriptedServer,
  settle,
  watch,
} from '../../../test/support/scripted-server.ts';
import type { MillraceError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { writeRunHeader } from '../../protocol/delivery.ts';
import { FRAME } from '../../protocol/frames.ts';
import { CompletionReader, FailureReader, REVOKE_REASON, ReleaseReader, readToken } from '../../protocol/settlement.ts';
import { encodeSpec } from '../../protocol/spec.ts';
import type { Consumer, Consumption, DeliveryRun } from '../contract.ts';
import { RemoteBroker } from './remote-broker.ts';

const EPOCH = 2 ** 32;
const consumeOptions = { workerName: 'w', queues: ['q'], concurrency: 2, prefetch: 10 };

class RecordingConsumer implements Consumer {
  readonly runs: DeliveryRun[] = [];
  readonly events: string[] = [];

  deliver(run: DeliveryRun): void {
    this.runs.push(run);
  }

  revoke(run: DeliveryRun, index: number, reason: string): void {
    this.events.push(`${run.id(index)} ${reason}`);
  }

  connection(state: string): void {
    this.events.push(state);
  }

  ended(error: MillraceError): void {
    this.events.push(`ended ${error.code}`);
  }
}

/** Tasks by id and token. */
function revoke(connection: ScriptedConnection, ...tasks: [id: number, token: number, reason: number][]): void {
  connection.frame(FRAME.REVOKE, 0, (writer) => {
    for (const [id, token, reason] of tasks) {
      writer.u64(EPOCH + id);
      writer.u64(EPOCH + token);
      writer.u8(reason);
    }
  });
}

function deliver(connection: ScriptedConnection, firstId: number, firstToken: number, count: number): void {
  connection.frame(FRAME.DELIVER, 0, (writer) => {
    const ids = { firstId: EPOCH + firstId, firstToken: EPOCH + firstToken };
    writeRunHeader(
      writer,
      { ...ids, count, attempt: 1, suspect: false, enqueuedAtMs: 5, byteLength: count * 5 },
      encodeSpec(SPEC),
    );
    for (let index = 0; index < count; index++) {
      writer.u32(1);
      writer.u8(0x30 + index);
    }
  });
}

/** What a frame settles, as `kind id/token`. */
async function takeSettlements(
  connection: ScriptedConnection,
  type: number,
): Promise<{ requestId: number; said: string[] }> {
  const { requestId, body } = await connection.expect(type);
  const said: string[] = [];
  const say = (firstId: number, firstToken: number, count: number): void => {
    for (let index = 0; index < count; index++) said.push(`${firstId + index - EPOCH}/${firstToken + index - EPOCH}`);
  };
  const reader =
    type === FRAME.COMPLETE ? new CompletionReader() : type === FRAME.FAIL ? new FailureReader() : new ReleaseReader();
  reader.open(body, 0, body.length);
  while (reader.next()) {
    if (reader instanceof FailureReader) say(reader.id, reader.token, 1);
    else say(reader.firstId, reader.firstToken, reader.count);
  }
  return { requestId, said };
}

describe('a consumption', () => {
  let server: ScriptedServer;
  let broker: RemoteBroker;
  let consumer: RecordingConsumer;
  let consumption: Consumption;
  let connection: ScriptedConnection;

  beforeEach(async () => {
    ({ server, broker } = await connected());
    consumer = new RecordingConsumer();
    const consuming = broker.consume(consumeOptions, consumer);
    connection = await server.welcome();
    await subscribe(connection);
    consumption = await consuming;
  });

  async function subscribe(to: ScriptedConnection, kept: [string, string][] = []): Promise<Record<string, unknown>> {
    const { requestId, value } = await to.expectJson(FRAME.SUBSCRIBE);
    to.json(FRAME.REPLY, requestId, { kept, lost: [] });
    return value;
  }

  async function receive(firstId: number, firstToken: number, count: number): Promise<DeliveryRun> {
    deliver(connection, firstId, firstToken, count);
    await settle();
    return consumer.runs.at(-1) as DeliveryRun;
  }

  async function answer(from: ScriptedConnection, requestId: number, refused: number[] = []): Promise<void> {
    from.frame(FRAME.SETTLED, requestId, (writer) => {
      for (const id of refused) writer.u64(EPOCH + id);
    });
    await settle();
  }

  async function reconnect(kept: [string, string][]): Promise<{ next: ScriptedConnection; resumed: unknown }> {
    connection.drop();
    const next = await server.reconnect();
    const { resume } = await subscribe(next, kept);
    await settle();
    return { next, resumed: resume };
  }

  test('subscribes with what it was told', async () => {
    const consuming = broker.consume(consumeOptions, consumer);
    expect(await subscribe(await server.welcome())).toEqual({
      worker: 'w',
      queues: ['q'],
      concurrency: 2,
      prefetch: 10,
      resume: [],
    });
    await consuming;
  });

  test('that the server refuses rejects with its error', async () => {
    const consuming = broker.consume({ ...consumeOptions, prefetch: 1 }, consumer);
    const refusing = await server.welcome();
    const { requestId } = await refusing.expectJson(FRAME.SUBSCRIBE);
    refusing.json(FRAME.ERROR, requestId, { code: 'INVALID_ARGUMENT', message: 'prefetch' });
    await expect(consuming).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('gives up a server that does not answer its subscription', async () => {
    const consuming = watch(broker.consume(consumeOptions, consumer));
    const silent = await server.welcome();
    await silent.expectJson(FRAME.SUBSCRIBE);
    expect(await consuming()).toBe('pending');
    server.clock.advance(15_000);
    expect(await consuming()).toBe('TIMEOUT');
    expect(silent.closed).toBe(true);
  });

  test('waits with its subscription for the server that comes after a stopping one', async () => {
    const consuming = watch(broker.consume(consumeOptions, consumer));
    const refusing = await server.welcome();
    const { requestId } = await refusing.expectJson(FRAME.SUBSCRIBE);
    refusing.json(FRAME.ERROR, requestId, { code: 'STOPPING', message: 'bye' });
    await subscribe(await server.reconnect());
    expect(await consuming()).toBe('resolved');
  });

  test('hands over what came with the answer to SUBSCRIBE only when its caller has it', async () => {
    const early = new RecordingConsumer();
    let held: Consumption | undefined;
    early.deliver = (run) => {
      expect(held).toBeDefined();
      early.runs.push(run);
    };
    const consuming = broker.consume(consumeOptions, early).then((value) => {
      held = value;
    });
    const other = await server.welcome();
    const { requestId } = await other.expectJson(FRAME.SUBSCRIBE);
    other.json(FRAME.REPLY, requestId, { kept: [], lost: [] });
    deliver(other, 1, 1, 1);
    deliver(other, 2, 2, 1);
    revoke(other, [2, 2, REVOKE_REASON.CANCELLED]);
    other.drop();
    await consuming;
    await settle();
    expect(early.runs.map((run) => run.id(0))).toEqual(['1-1', '1-2']);
    expect(early.events).toEqual(['1-2 cancelled', 'lost']);
  });

  test('ends its lifeline with its connection, also one that was never taken', async () => {
    const [own, lifelines] = [new ScriptedServer(), true];
    const connecting = RemoteBroker.connect(own.options({ lifelines }));
    await own.welcome();
    void (await connecting).consume(consumeOptions, consumer);
    const refusing = await own.welcome();
    const { requestId } = await refusing.expectJson(FRAME.SUBSCRIBE);
    const lifeline = await own.welcome();
    refusing.json(FRAME.ERROR, requestId, { code: 'STOPPING', message: 'bye' });
    await settle();
    expect(lifeline.closed).toBe(true);
  });

  test('gathers the settlements of a turn, consecutive ones as one run', async () => {
    const run = await receive(0, 50, 6);
    expect([run.text(0), run.text(5)]).toEqual(['0', '5']);
    consumption.complete(run, 0, undefined);
    consumption.complete(run, 1, undefined);
    consumption.completeMany(run, 2, 4);
    consumption.fail(run, 4, { name: 'E', message: 'm', code: 'HANDLER_FAILED' }, { final: false, retryDelayMs: 5 }, 1);
    consumption.release(run, 5);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['0/50', '1/51', '2/52', '3/53']);
    expect((await takeSettlements(connection, FRAME.FAIL)).said).toEqual(['4/54']);
    expect((await takeSettlements(connection, FRAME.RELEASE)).said).toEqual(['5/55']);
  });

  test('settles each task once', async () => {
    const run = await receive(0, 50, 2);
    consumption.complete(run, 0, undefined);
    consumption.release(run, 0);
    consumption.completeMany(run, 0, 2);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['0/50', '1/51']);
    await settle();
    expect(connection.waiting).toEqual([]);
  });

  async function takeBegun(from: ScriptedConnection): Promise<number> {
    const { body } = await from.expect(FRAME.BEGUN);
    return readToken(body, 0, body.length) - EPOCH;
  }

  test('tells how far its handlers have begun, once a turn, behind what the turn settled', async () => {
    const run = await receive(0, 50, 6);
    consumption.begun(run, 0, false);
    consumption.complete(run, 0, undefined);
    consumption.begun(run, 2, false);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['0/50']);
    expect(await takeBegun(connection)).toBe(52);
    consumption.complete(run, 1, undefined);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['1/51']);
    await settle();
    expect(connection.waiting).toEqual([]);
  });

  test('tells at once what must not wait for the end of the turn', async () => {
    const run = await receive(0, 50, 6);
    consumption.complete(run, 0, undefined);
    consumption.begun(run, 1, true);
    expect(await takeBegun(connection)).toBe(51);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['0/50']);
  });

  test('tells what it kept back from a server that did not read as soon as that has read', async () => {
    const run = await receive(0, 50, 1);
    connection.pause();
    consumption.progress(run, 0, JSON.stringify('x'.repeat(LIMITS.unsentLogBytesMax + 1)));
    await settle();
    consumption.progress(run, 0, '"last"');
    await settle();
    connection.resume();
    await settle();
    await connection.expect(FRAME.PROGRESS);
    expect((await connection.expectJson(FRAME.PROGRESS)).value).toMatchObject({ progress: 'last' });
  });

  test('after a reconnect tells again what has begun, under the new tokens', async () => {
    const [first, second] = [await receive(0, 50, 3), await receive(10, 60, 2)];
    consumption.begun(first, 2, false);
    consumption.begun(second, 0, false);
    expect(await takeBegun(connection)).toBe(60);
    consumption.complete(second, 0, undefined);
    const { requestId } = await takeSettlements(connection, FRAME.COMPLETE);
    await answer(connection, requestId);
    const { next } = await reconnect([
      ['1-0', String(EPOCH + 70)],
      ['1-1', String(EPOCH + 71)],
      ['1-b', String(EPOCH + 72)],
    ]);
    expect(await takeBegun(next)).toBe(71);
    await settle();
    expect(next.waiting).toEqual([]);
  });

  test('is settled when everything was answered, or says that it was not in time', async () => {
    const run = await receive(0, 50, 1);
    await consumption.settled(1000);
    consumption.complete(run, 0, '"x"');
    const settled = watch(consumption.settled(1000));
    const late = watch(consumption.settled(10));
    const { requestId } = await takeSettlements(connection, FRAME.COMPLETE);
    server.clock.advance(10);
    expect([await settled(), await late()]).toEqual(['pending', 'TIMEOUT']);
    await answer(connection, requestId);
    expect(await settled()).toBe('resolved');
  });

  test('tells the consumer of an outcome that was refused', async () => {
    const run = await receive(0, 50, 2);
    consumption.completeMany(run, 0, 2);
    const { requestId } = await takeSettlements(connection, FRAME.COMPLETE);
    await answer(connection, requestId, [1]);
    expect(consumer.events).toEqual(['1-1 lease-lost']);
  });

  test('passes on what the server revokes, unless it was settled meanwhile', async () => {
    const run = await receive(0, 50, 3);
    consumption.complete(run, 2, undefined);
    revoke(
      connection,
      [0, 50, REVOKE_REASON.CANCELLED],
      [1, 51, REVOKE_REASON.LEASE_LOST],
      [2, 52, REVOKE_REASON.LEASE_LOST],
      [0, 49, REVOKE_REASON.LEASE_LOST],
    );
    await settle();
    expect(consumer.events).toEqual(['1-0 cancelled', '1-1 lease-lost']);
    consumption.completeMany(run, 0, 2);
    await takeSettlements(connection, FRAME.COMPLETE);
    expect((await takeSettlements(connection, FRAME.COMPLETE)).said).toEqual(['0/50']);
  });

  test('passes on what the server revokes of a task that came again before its settlement was answered', async () => {
    const first = await receive(7, 50, 1);
    consumption.release(first, 0);
    await takeSettlements(connection, FRAME.RELEASE);
    const again = await receive(6, 60, 2);
    revoke(connection, [7, 61, REVOKE_REASON.CANCELLED]);
    await settle();
    expect(consumer.events).toEqual([`${again.id(1)} cancelled`]);
  });

  test('after a reconnect goes on with what was kept, under its new tokens, and drops the rest', async () => {
    const run = await receive(0, 50, 4);
    consumption.complete(run, 1, '"r"');
    await takeSettlements(connection, FRAME.COMPLETE);
    const kept: [string, string][] = [
      ['1-0', String(EPOCH + 70)],
      ['1-1', String(EPOCH + 71)],
      ['1-3', String(EPOCH + 90)],
    ];
    const { next, resumed } = await reconnect(kept);
    expect(resumed).toEqual([0, 1, 2, 3].map((index) => [`1-${index}`, String(EPOCH + 50 + index), 1]));
    expect(consumer.events).toEqual(['lost', '1-2 lease-lost', 'restored']);
    expect((await takeSettlements(next, FRAME.COMPLETE)).said).toEqual(['1/71']);
    for (const index of [0, 2, 3]) consumption.complete(run, index, undefined);
    expect((await takeSettlements(next, FRAME.COMPLETE)).said).toEqual(['0/70', '3/90']);
  });

  test('keeps what is settled while there is no connection for the next one', async () => {
    const run = await receive(0, 50, 2);
    connection.drop();
    await settle();
    consumption.complete(run, 0, undefined);
    consumption.fail(
      run,
      1,
      { name: 'E', message: 'm', code: 'HANDLER_FAILED' },
      { final: true, retryDelayMs: undefined },
      1,
    );
    const settled = watch(consumption.settled(60_000));
    const next = await server.reconnect();
    await subscribe(next, [
      ['1-0', String(EPOCH + 60)],
      ['1-1', String(EPOCH + 61)],
    ]);
    const completed = await takeSettlements(next, FRAME.COMPLETE);
    const failed = await takeSettlements(next, FRAME.FAIL);
    expect([completed.said, failed.said]).toEqual([['0/60'], ['1/61']]);
    expect(await settled()).toBe('pending');
    await answer(next, completed.requestId);
    await answer(next, failed.requestId);
    expect(await settled()).toBe('resolved');
  });

  test('does not repeat a settlement whose task was lost; nobody is told, it may have been taken', async () => {
    const run = await receive(0, 50, 1);
    consumption.complete(run, 0, undefined);
    await takeSettlements(connection, FRAME.COMPLETE);
    const { next } = await reconnect([]);
    expect(consumer.events).toEqual(['lost', 'restored']);
    expect(next.waiting).toEqual([]);
    await consumption.settled(0);
  });

  test('stops when the server has said so; what comes before that is handed back unseen', async () => {
    const stopped = watch(consumption.stop());
    const { requestId } = await connection.expect(FRAME.UNSUBSCRIBE);
    deliver(connection, 9, 9, 2);
    expect((await takeSettlements(connection, FRAME.RELEASE)).said).toEqual(['9/9', '10/10']);
    expect(await stopped()).toBe('pending');
    connection.json(FRAME.REPLY, requestId, {});
    expect(await stopped()).toBe('resolved');
    expect(consumer.runs).toEqual([]);
  });

  test('stops at once while there is no connection, and takes nothing on the next', async () => {
    connection.drop();
    await settle();
    await consumption.stop();
    const next = await server.reconnect();
    await subscribe(next);
    await next.expect(FRAME.UNSUBSCRIBE);
  });

  test('stops while its subscription is not answered yet, and is given nothing when it is', async () => {
    connection.drop();
    const next = await server.reconnect();
    const { requestId } = await next.expectJson(FRAME.SUBSCRIBE);
    const stopped = watch(consumption.stop());
    const unsubscribe = await next.expect(FRAME.UNSUBSCRIBE);
    next.json(FRAME.REPLY, requestId, { kept: [], lost: [] });
    expect(await stopped()).toBe('pending');
    next.json(FRAME.REPLY, unsubscribe.requestId, {});
    expect(await stopped()).toBe('resolved');
  });

  test('hands back what it holds when it closes, and waits for the answer', async () => {
    const run = await receive(0, 50, 3);
    consumption.complete(run, 1, undefined);
    const closed = watch(consumption.close());
    const completed = await takeSettlements(connection, FRAME.COMPLETE);
    const released = await takeSettlements(connection, FRAME.RELEASE);
    expect(released.said).toEqual(['0/50', '2/52']);
    expect(await closed()).toBe('pending');
    await answer(connection, completed.requestId);
    await answer(connection, released.requestId);
    expect(await closed()).toBe('resolved');
    expect(connection.closed).toBe(true);
  });

  test('closes although the server does not answer', async () => {
    await receive(0, 50, 1);
    const closed = watch(consumption.close());
    await takeSettlements(connection, FRAME.RELEASE);
    server.clock.advance(2000);
    expect(await closed()).toBe('resolved');
  });

  test('ends when the server will not have it any more', async () => {
    connection.json(FRAME.ERROR, 0, { code: 'PROTOCOL', message: 'bad frame' });
    await settle();
    expect(consumer.events).toEqual(['lost', 'ended PROTOCOL']);
  });

  test('subscribes again when a stopping server refused to', async () => {
    connection.drop();
    const refusing = await server.reconnect();
    const { requestId } = await refusing.expectJson(FRAME.SUBSCRIBE);
    refusing.json(FRAME.ERROR, requestId, { code: 'STOPPING', message: 'bye' });
    const next = await server.reconnect();
    await subscribe(next);
    await settle();
    expect(consumer.events).toEqual(['lost', 'restored']);
  });
});
