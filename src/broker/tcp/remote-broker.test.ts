import { beforeEach, describe, expect, test } from 'vitest';
import type { Frame } from '../../../test/support/frames.ts';
import {
  connected,
  PRODUCER,
  type ScriptedConnection,
  ScriptedServer,
  settle,
  watch,
} from '../../../test/support/scripted-server.ts';
import { FRAME } from '../../protocol/frames.ts';
import { RESULT_STATE, readIds, writeResult } from '../../protocol/settlement.ts';
import { reconnectDelay } from './connection.ts';
import { RemoteBroker } from './remote-broker.ts';

function idsOf(frame: Frame): number[] {
  const ids: number[] = [];
  readIds(frame.body, 0, frame.body.length, (id) => void ids.push(id));
  return ids;
}

describe('a connection', () => {
  test('introduces itself', async () => {
    const server = new ScriptedServer();
    const connecting = RemoteBroker.connect(server.options());
    const connection = await server.connection();
    const { requestId, value } = await connection.expectJson(FRAME.HELLO);
    expect(requestId).toBeGreaterThan(0);
    expect(value).toEqual({ protocol: 1, client: 'test', host: 'here', pid: 1, version: '1.2.3', producer: PRODUCER });
    connection.json(FRAME.WELCOME, requestId, { protocol: 1 });
    await connecting;
  });

  test('that nobody answers is given up after connectTimeoutMs, saying what to do', async () => {
    const server = new ScriptedServer();
    server.refusing = true;
    const connecting = RemoteBroker.connect(server.options()).catch((error: unknown) => error);
    for (let turn = 0; turn < 10; turn++) {
      await settle();
      server.clock.advance(200);
    }
    expect(await connecting).toMatchObject({
      code: 'DISCONNECTED',
      message: expect.stringMatching(/tcp:\/\/scripted:5555 for 1000 ms.*ECONNREFUSED.*millrace server/),
    });
    expect(server.dialCount).toBeGreaterThan(2);
  });

  test('to a server of another protocol version is refused at once', async () => {
    const server = new ScriptedServer();
    const connecting = RemoteBroker.connect(server.options()).catch((error: unknown) => error);
    const connection = await server.connection();
    connection.json(FRAME.WELCOME, 1, { protocol: 2 });
    expect(await connecting).toMatchObject({ code: 'PROTOCOL_VERSION', details: { server: 2, client: 1 } });
  });

  test('to a web server is refused at once, saying so', async () => {
    const server = new ScriptedServer();
    const connecting = RemoteBroker.connect(server.options()).catch((error: unknown) => error);
    (await server.connection()).raw('HTTP/1.1 400 Bad Request\r\n\r\n');
    expect(await connecting).toMatchObject({ code: 'PROTOCOL', message: expect.stringContaining('web server') });
  });

  test('that the server turns away for now is tried again', async () => {
    const server = new ScriptedServer();
    const connecting = RemoteBroker.connect(server.options());
    (await server.connection()).json(FRAME.ERROR, 0, { code: 'CONNECTION_LIMIT', message: 'full' });
    await settle();
    server.clock.advance(100);
    await server.welcome();
    await connecting;
  });

  test('that gets no WELCOME in time is tried again', async () => {
    const server = new ScriptedServer();
    const connecting = RemoteBroker.connect(server.options({ connectTimeoutMs: 60_000 }));
    await server.connection();
    server.clock.advance(5000);
    await settle();
    server.clock.advance(100);
    await server.welcome();
    await connecting;
  });

  test('answers PING', async () => {
    const { connection } = await connected();
    connection.frame(FRAME.PING, 77, () => {});
    expect(await connection.expect(FRAME.PONG)).toMatchObject({ requestId: 77 });
  });

  test('that stays lost beyond giveUpAfterMs ends everything that waits', async () => {
    const server = new ScriptedServer();
    const { reconnect } = server.options();
    const connecting = RemoteBroker.connect(server.options({ reconnect: { ...reconnect, giveUpAfterMs: 2000 } }));
    const connection = await server.welcome();
    const broker = await connecting;
    const outcome = watch(broker.outcome('1-0', { timeoutMs: 60_000 }));
    server.refusing = true;
    connection.drop();
    for (let turn = 0; turn < 10; turn++) {
      await settle();
      server.clock.advance(500);
    }
    expect(await outcome()).toBe('DISCONNECTED');
    await expect(broker.status()).rejects.toMatchObject({ code: 'DISCONNECTED' });
  });

  test('that is closed while it is being made anew gives the attempt up', async () => {
    const server = new ScriptedServer();
    const signals: AbortSignal[] = [];
    const { dial, ...options } = server.options();
    const connecting = RemoteBroker.connect({
      ...options,
      dial: (signal) => {
        signals.push(signal);
        return signals.length === 1 ? dial(signal) : new Promise(() => {});
      },
    });
    const connection = await server.welcome();
    const broker = await connecting;
    connection.drop();
    await settle();
    server.clock.advance(1000);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
    await broker.close();
    expect(signals[1]?.aborted).toBe(true);
  });

  test('pauses longer before each attempt, up to the longest', () => {
    const options = { initialDelayMs: 100, factor: 2, maxDelayMs: 1000, jitter: 0.5, giveUpAfterMs: 0 };
    expect([0, 1, 2, 3, 4, 50].map((attempts) => reconnectDelay(options, attempts, 0))).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
    expect(reconnectDelay(options, 0, 0.999)).toBeCloseTo(50, 0);
  });
});

describe('waits and calls', () => {
  let server: ScriptedServer;
  let broker: RemoteBroker;
  let connection: ScriptedConnection;

  beforeEach(async () => {
    ({ server, broker, connection } = await connected());
  });

  const wait = (id: string, signal?: AbortSignal): ReturnType<RemoteBroker['outcome']> =>
    broker.outcome(id, { timeoutMs: 60_000, signal });

  test('of one turn are one WAIT, a task asked for twice is asked once', async () => {
    const outcomes = [wait('1-1'), wait('1-2'), wait('1-1')];
    expect(idsOf(await connection.expect(FRAME.WAIT))).toEqual([2 ** 32 + 1, 2 ** 32 + 2]);
    connection.frame(FRAME.RESULT, 0, (writer) => {
      writeResult(writer, 2 ** 32 + 2, RESULT_STATE.CANCELLED, undefined);
      writeResult(writer, 2 ** 32 + 1, RESULT_STATE.COMPLETED, Buffer.from('42'));
    });
    const [first, second, third] = await Promise.all(outcomes);
    expect(first).toEqual({ state: 'completed', result: Buffer.from('42') });
    expect(second).toEqual({ state: 'cancelled' });
    expect(third).toEqual(first);
  });

  test('tell dead, empty, unknown and unreadable apart', async () => {
    const outcomes = ['1-1', '1-2', '1-3', '1-4'].map((id) => wait(id).catch((error: unknown) => error));
    await connection.expect(FRAME.WAIT);
    const error = { name: 'E', message: 'm', code: 'HANDLER_FAILED' };
    connection.frame(FRAME.RESULT, 0, (writer) => {
      writeResult(writer, 2 ** 32 + 1, RESULT_STATE.DEAD, Buffer.from(JSON.stringify(error)));
      writeResult(writer, 2 ** 32 + 2, RESULT_STATE.COMPLETED_EMPTY, undefined);
      writeResult(writer, 2 ** 32 + 3, RESULT_STATE.NOT_FOUND, undefined);
      const damaged = { code: 'JOURNAL_DAMAGED', message: 'at offset 7', details: {} };
      writeResult(writer, 2 ** 32 + 4, RESULT_STATE.UNREADABLE, Buffer.from(JSON.stringify(damaged)));
    });
    expect(await Promise.all(outcomes)).toEqual([
      { state: 'dead', error },
      { state: 'completed', result: undefined },
      expect.objectContaining({ code: 'NOT_FOUND', message: expect.stringContaining('task 1-3') }),
      expect.objectContaining({ code: 'JOURNAL_DAMAGED', message: 'at offset 7' }),
    ]);
  });

  test('whose outcome is not legible end, and no others', async () => {
    const outcomes = ['1-1', '1-2'].map((id) => wait(id).catch((error: unknown) => error));
    const other = wait('1-3');
    await connection.expect(FRAME.WAIT);
    connection.frame(FRAME.RESULT, 0, (writer) => {
      writeResult(writer, 2 ** 32 + 1, RESULT_STATE.DEAD, Buffer.from('boom, not JSON'));
      writeResult(writer, 2 ** 32 + 2, RESULT_STATE.UNREADABLE, Buffer.from('not JSON either'));
      writeResult(writer, 2 ** 32 + 3, RESULT_STATE.CANCELLED, undefined);
    });
    expect(await Promise.all(outcomes)).toEqual([
      { state: 'dead', error: { name: 'Error', message: 'boom, not JSON', code: 'HANDLER_FAILED' } },
      expect.objectContaining({ code: 'PROTOCOL' }),
    ]);
    expect(await other).toEqual({ state: 'cancelled' });
    expect(connection.closed).toBe(false);
  });

  test('are asked again after a reconnect', async () => {
    const outcome = wait('1-1');
    await connection.expect(FRAME.WAIT);
    connection.drop();
    const next = await server.reconnect();
    expect(idsOf(await next.expect(FRAME.WAIT))).toEqual([2 ** 32 + 1]);
    next.frame(FRAME.RESULT, 0, (writer) => writeResult(writer, 2 ** 32 + 1, RESULT_STATE.CANCELLED, undefined));
    expect(await outcome).toEqual({ state: 'cancelled' });
  });

  test('end with TIMEOUT in their time, and the server is told', async () => {
    const short = broker.outcome('1-1', { timeoutMs: 100 });
    const long = watch(broker.outcome('1-2', { timeoutMs: 200 }));
    await connection.expect(FRAME.WAIT);
    server.clock.advance(100);
    await expect(short).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('100 ms') });
    expect(idsOf(await connection.expect(FRAME.UNWAIT))).toEqual([2 ** 32 + 1]);
    expect(await long()).toBe('pending');
    server.clock.advance(100);
    expect(await long()).toBe('TIMEOUT');
  });

  test('end with a signal’s reason; one of two waits for a task leaves the other', async () => {
    const controller = new AbortController();
    const aborted = wait('1-1', controller.signal);
    const other = wait('1-1');
    await connection.expect(FRAME.WAIT);
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    expect(connection.waiting).toEqual([]);
    connection.frame(FRAME.RESULT, 0, (writer) => writeResult(writer, 2 ** 32 + 1, RESULT_STATE.CANCELLED, undefined));
    await other;
    await expect(wait('1-1', controller.signal)).rejects.toThrow('enough');
  });

  test('an id that is none is refused without asking', async () => {
    await expect(wait('nonsense!')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('a call is answered, or refused with the server’s error', async () => {
    const info = broker.getTask('1-1');
    const first = await connection.expectJson(FRAME.CALL);
    expect(first.value).toEqual({ method: 'task.get', params: { id: '1-1' } });
    connection.json(FRAME.REPLY, first.requestId, { id: '1-1' });
    expect(await info).toEqual({ id: '1-1' });
    const cancel = broker.cancelTask('1-1');
    const second = await connection.expectJson(FRAME.CALL);
    connection.json(FRAME.ERROR, second.requestId, { code: 'CONFLICT', message: 'it has ended' });
    await expect(cancel).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('a call in flight is made again after a reconnect, and times out', async () => {
    const status = broker.status();
    await connection.expect(FRAME.CALL);
    connection.drop();
    const next = await server.reconnect();
    await next.expect(FRAME.CALL);
    server.clock.advance(15_000);
    await expect(status).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('status') });
  });
});
