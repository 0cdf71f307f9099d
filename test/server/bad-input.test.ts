import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TaskSpec } from '../../src/broker/contract.ts';
import type { Clock, Timer } from '../../src/io/clock.ts';
import { SystemClock } from '../../src/io/clock.ts';
import { LIMITS } from '../../src/limits.ts';
import { BatchWriter } from '../../src/protocol/batch-writer.ts';
import { FRAME, HEADER_BYTES } from '../../src/protocol/frames.ts';
import { packHeaders } from '../../src/protocol/task-headers.ts';
import { sharedPool } from '../../src/protocol/writer.ts';
import { Server } from '../../src/server/server.ts';
import { RawClient } from './raw-client.ts';

const SPEC: TaskSpec = {
  queue: 'q',
  name: 'task',
  priority: 4,
  maxAttempts: 3,
  timeoutMs: 60_000,
  backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
};

/** The real clock, set forward by hand. */
class ShiftedClock implements Clock {
  readonly #clock = new SystemClock();
  readonly #timers = new Set<() => void>();
  shiftMs = 0;

  steadyMs(): number {
    return this.#clock.steadyMs() + this.shiftMs;
  }
  wallMs(): number {
    return this.#clock.wallMs() + this.shiftMs;
  }
  setTimer(_delayMs: number, callback: () => void): Timer {
    const fire = (): void => {
      this.#timers.delete(fire);
      callback();
    };
    this.#timers.add(fire);
    return { cancel: () => this.#timers.delete(fire), unref: () => {} };
  }
  defer(callback: () => void): void {
    this.#clock.defer(callback);
  }
  deferPastInput(callback: () => void): void {
    this.#clock.deferPastInput(callback);
  }
  /** Runs every timer that is set now, as if that much time had passed. */
  advance(ms: number): void {
    this.shiftMs += ms;
    for (const fire of [...this.#timers]) fire();
  }
}

let server: Server;
let clock: ShiftedClock;
const clients: RawClient[] = [];

async function open(): Promise<RawClient> {
  const client = await RawClient.open(server.port);
  clients.push(client);
  return client;
}

/** Someone who was there before goes on as if nothing had happened. */
async function expectOthersUntouched(bystander: RawClient): Promise<void> {
  bystander.writer.empty(FRAME.PING, 77);
  expect(await bystander.next()).toMatchObject({ type: FRAME.PONG, requestId: 77 });
}

function enqueueFrame(batch: number, payloads: readonly string[], prefix?: Buffer): Buffer {
  const writer = new BatchWriter(sharedPool);
  for (const payload of payloads) writer.add(SPEC, { kind: 'now' }, payload, prefix);
  const frame = writer.seal(batch);
  writer.address(9, batch);
  return Buffer.from(frame);
}

beforeEach(async () => {
  clock = new ShiftedClock();
  server = await Server.start({ directory: null, port: 0, clock, connectionsMax: 5 });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  const stopped = server.stop({ timeoutMs: 0 });
  clock.advance(1);
  await stopped;
});

describe('bytes that are no frames', () => {
  test('an HTTP request is told in HTTP where it has come to', async () => {
    const client = await open();
    client.socket.removeAllListeners('data');
    const text = new Promise<string>((resolve) => {
      client.socket.once('data', (data: Buffer) => resolve(data.toString()));
    });
    client.socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
    expect(await text).toMatch(/^HTTP\/1\.1 400 [\s\S]*no web pages: look at them with millrace status\n$/);
    await client.closed;
  });

  test.each([
    ['a TLS hello', Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])],
    ['random bytes', Buffer.from('8f3a9c01ff7e44d2b6a0c9d8e7f6a5b4', 'hex')],
    ['a frame of unknown type', Buffer.from([0, 0, 0, 0, 99, 1, 0, 0, 0])],
    ['a frame that is too long', Buffer.from([255, 255, 255, 127, FRAME.HELLO, 1, 0, 0, 0])],
    ['a first frame that is not HELLO', Buffer.from([0, 0, 0, 0, FRAME.PING, 1, 0, 0, 0])],
    ['the head of a long frame before HELLO', Buffer.from([0, 0, 255, 0, FRAME.ENQUEUE, 1, 0, 0, 0])],
    ['a HELLO that is not JSON', Buffer.from([2, 0, 0, 0, FRAME.HELLO, 1, 0, 0, 0, 0x7b, 0x7b])],
  ])('%s ends its connection with PROTOCOL and touches nobody else', async (_what, bytes) => {
    const bystander = await open();
    await bystander.greet();
    const client = await open();
    client.socket.write(bytes);
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'PROTOCOL' });
    await client.closed;
    await expectOthersUntouched(bystander);
  });

  test('a client of another protocol version is told both versions', async () => {
    const client = await open();
    client.writer.json(FRAME.HELLO, 1, { protocol: 99, producer: '0'.repeat(32) });
    expect(await client.json(FRAME.ERROR)).toMatchObject({
      code: 'PROTOCOL_VERSION',
      details: { value: 99, supported: 1 },
    });
    await client.closed;
  });

  test('what stands in place of a protocol version is not shown: it may be a secret', async () => {
    const client = await open();
    client.writer.json(FRAME.HELLO, 1, { protocol: 'my-secret-0123456789', producer: '0'.repeat(32) });
    const error = await client.json(FRAME.ERROR);
    expect(error).toMatchObject({ code: 'PROTOCOL_VERSION' });
    expect(JSON.stringify(error)).not.toContain('my-secret');
    await client.closed;
  });
});

describe('a client that is slow or silent', () => {
  test('one that connects and says nothing is refused after the handshake time', async () => {
    const bystander = await open();
    await bystander.greet();
    const client = await open();
    await expectOthersUntouched(bystander);
    clock.advance(LIMITS.handshakeTimeoutMs + 1);
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'HANDSHAKE_TIMEOUT' });
    await client.closed;
    await expectOthersUntouched(bystander);
  });

  test('one that leaves a frame unfinished is cut off after the frame time', async () => {
    const client = await open();
    await client.greet();
    client.socket.write(Buffer.from([100, 0, 0, 0, FRAME.CALL]));
    client.socket.write(Buffer.from([1]));
    const bystander = await open();
    await bystander.greet();
    await expectOthersUntouched(bystander);
    clock.advance(LIMITS.frameTimeoutMs + 1);
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'TOO_SLOW' });
    await client.closed;
  });

  test('a connection beyond the limit is refused with the limit and the way out', async () => {
    for (let i = 0; i < 5; i++) await (await open()).greet();
    const sixth = await open();
    expect(await sixth.json(FRAME.ERROR)).toMatchObject({ code: 'CONNECTION_LIMIT', details: { bound: 5 } });
    await sixth.closed;
    clients[0]?.close();
    await clients[0]?.closed;
    await expectOthersUntouched(clients[1] as RawClient);
    await (await open()).greet();
  });
});

describe('a server that stops', () => {
  test('refuses a connection that it has not welcomed with STOPPING, which clients try again', async () => {
    const greeted = await open();
    await greeted.greet();
    const silent = await open();
    await expectOthersUntouched(greeted);
    const stopped = server.stop({ timeoutMs: 0 });
    expect(await silent.json(FRAME.ERROR)).toMatchObject({ code: 'STOPPING' });
    expect(await greeted.next()).toMatchObject({ type: FRAME.GOAWAY });
    clock.advance(1);
    await stopped;
  });
});

describe('a lifeline', () => {
  test('ends with its session, and its session with it', async () => {
    const bystander = await open();
    await bystander.greet();
    for (const cut of ['session', 'lifeline'] as const) {
      const session = await open();
      const { lifelineKey } = await session.greet();
      const lifeline = await open();
      await lifeline.greet({ lifelineOf: lifelineKey });
      const [first, other] = cut === 'session' ? [session, lifeline] : [lifeline, session];
      first.close();
      await other.closed;
    }
    await expectOthersUntouched(bystander);
  });

  test('of a session that is gone is refused', async () => {
    const client = await open();
    client.writer.json(FRAME.HELLO, 1, { protocol: 1, producer: '0'.repeat(32), lifelineOf: 'nobody' });
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'PROTOCOL' });
    await client.closed;
  });
});

describe('frames that do not hold what they announce', () => {
  test('an ENQUEUE cut at any byte of its body is refused and enqueues nothing', async () => {
    const whole = enqueueFrame(1, ['{"a":1}', '{"b":2}']);
    const body = whole.subarray(HEADER_BYTES);
    for (let length = 0; length < body.length; length++) {
      const client = await open();
      await client.greet();
      const cut = Buffer.from(whole.subarray(0, HEADER_BYTES + length));
      cut.writeUInt32LE(length, 0);
      client.socket.write(cut);
      expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'PROTOCOL' });
      await client.closed;
    }
    expect(server.host.engine.core.table.count).toBe(0);
    expect(server.host.engine.core.queues.get('q')?.kindCount ?? 0).toBe(0);
  });

  test('a payload over the limit refuses its whole batch and keeps the connection', async () => {
    const client = await open();
    await client.greet();
    const frame = enqueueFrame(1, ['1', 'x'.repeat(1000)]);
    const big = Buffer.concat([frame, Buffer.alloc(LIMITS.payloadBytesMax)]);
    big.writeUInt32LE(big.length - HEADER_BYTES, 0);
    const bytesAt = frame.length - (4 + 1000) - (4 + 1) - 4;
    big.writeUInt32LE(4 + 1 + 4 + 1000 + LIMITS.payloadBytesMax, bytesAt);
    big.writeUInt32LE(1000 + LIMITS.payloadBytesMax, frame.length - 1004);
    client.socket.write(big);
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    await expectOthersUntouched(client);
    expect(server.host.engine.core.table.count).toBe(0);
  });

  test('headers out of bounds refuse their whole batch and keep the connection', async () => {
    const client = await open();
    await client.greet();
    const value = 'v'.repeat(LIMITS.headersBytesMax);
    client.socket.write(enqueueFrame(1, ['1', '2'], packHeaders({ tenant: value })));
    expect(await client.json(FRAME.ERROR)).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('4105 bytes of headers; at most 4096'),
    });
    await expectOthersUntouched(client);
    expect(server.host.engine.core.table.count).toBe(0);
  });

  test('a settlement of a task that is not leased, or under an old token, is refused with the id', async () => {
    const client = await open();
    await client.greet();
    const { writer } = client;
    const early = enqueueFrame(1, ['1']);
    client.socket.write(early);
    const confirm = await client.next();
    expect(confirm?.type).toBe(FRAME.CONFIRM);
    const id = confirm?.body.subarray(6, 14) as Buffer;
    writer.json(FRAME.SUBSCRIBE, 3, { worker: 'w', queues: ['q'], concurrency: 1, prefetch: 1 });
    const frames = [await client.next(), await client.next()];
    expect(frames.map((frame) => frame?.type).sort()).toEqual([FRAME.DELIVER, FRAME.REPLY]);
    const delivered = frames.find((frame) => frame?.type === FRAME.DELIVER)?.body as Buffer;
    const token = Buffer.from(delivered.subarray(8, 16));
    token.writeUInt32LE(token.readUInt32LE(0) + 1, 0);
    const settle = async (taskId: Buffer, taskToken: Buffer): Promise<Buffer | undefined> => {
      writer.begin(FRAME.COMPLETE, 4);
      writer.bytes(taskId);
      writer.bytes(taskToken);
      writer.u32(1);
      writer.u32(0);
      writer.end();
      const answer = await client.next();
      expect(answer?.type).toBe(FRAME.SETTLED);
      return answer?.body;
    };
    expect(await settle(id, token)).toEqual(id);
    token.writeUInt32LE(token.readUInt32LE(0) - 1, 0);
    const unknown = Buffer.from(id);
    unknown.writeUInt32LE(999, 0);
    expect(await settle(unknown, token)).toEqual(unknown);
    expect(await settle(id, token)).toEqual(Buffer.alloc(0));
    expect(await settle(id, token)).toEqual(id);
  });

  test('an unknown method or a wrong parameter is answered and keeps the connection', async () => {
    const client = await open();
    await client.greet();
    client.writer.json(FRAME.CALL, 2, { method: 'task.explode' });
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'INVALID_ARGUMENT' });
    client.writer.json(FRAME.CALL, 3, { method: 'task.get', params: { id: '__proto__' } });
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'INVALID_ARGUMENT' });
    client.writer.json(FRAME.CALL, 4, { method: 'task.get', params: { id: '1-0' } });
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'NOT_FOUND' });
    await expectOthersUntouched(client);
  });

  test.each([
    ['more tasks than a worker may hold', { prefetch: LIMITS.prefetchMax + 1 }, /prefetch is 65537.* 1 to 65536/],
    ['more handlers than that', { concurrency: LIMITS.prefetchMax + 1 }, /concurrency is 65537/],
    ['more queues than it may listen to', { queues: new Array(1001).fill('q') }, /list of 1 to 1000 names/],
    ['a queue whose name is too long', { queues: ['q'.repeat(129)] }, /has 129 bytes; allowed are 1 to 128/],
  ])('a worker that asks for %s is told the bound and keeps the connection', async (_what, changes, message) => {
    const client = await open();
    await client.greet();
    const options = { worker: 'w', queues: ['q'], concurrency: 1, prefetch: 1, resume: [] };
    client.writer.json(FRAME.SUBSCRIBE, 2, { ...options, ...changes });
    const refused = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) };
    expect(await client.json(FRAME.ERROR)).toMatchObject(refused);
    await expectOthersUntouched(client);
  });

  const DEEP = '['.repeat(30_000) + ']'.repeat(30_000);
  const LONG = JSON.stringify('x'.repeat(900_000));
  const ODD = '{"toString":1,"valueOf":1,"toJSON":1}';
  const methods = ['status', 'task.get', 'task.list', 'task.cancel', 'task.retry'].concat(
    ['pause', 'resume', 'purge', 'redrive', 'retention'].map((name) => `queue.${name}`),
  );
  const params = ['id', 'queue', 'name', 'state', 'after', 'limit', 'deadAgeMs', 'completedCountMax', 'other'];

  test.each([
    ['deep', DEEP],
    ['long', LONG],
    ['odd', ODD],
  ])('a %s value anywhere in a call is answered in a few words and keeps the connection', async (_what, value) => {
    const client = await open();
    await client.greet();
    const bodies = methods.flatMap((method) => [
      `{"method":"${method}","params":${value}}`,
      ...params.map((name) => `{"method":"${method}","params":{"${name}":${value}}}`),
      `{"method":"${method}","params":{"queue":"q","deadAgeMs":${value}}}`,
      `{"method":"${method}","params":{"queue":"q",${LONG}:1}}`,
    ]);
    for (const body of [`{"method":${value}}`, ...bodies]) {
      client.writer.begin(FRAME.CALL, 5);
      client.writer.text(body);
      client.writer.end();
      const answer = await client.next();
      expect([FRAME.REPLY, FRAME.ERROR]).toContain(answer?.type);
      expect(answer?.body.length).toBeLessThan(20_000);
    }
    await expectOthersUntouched(client);
  });

  test.each([
    ['deep', DEEP],
    ['long', LONG],
    ['odd', ODD],
  ])('a %s value anywhere in another JSON frame ends at most its connection', async (_what, value) => {
    const bystander = await open();
    await bystander.greet();
    const subscription = { worker: '"w"', queues: '["q"]', concurrency: '1', prefetch: '1', resume: '[]' };
    const progress = { id: '"1-0"', token: '"1"', progress: '{"value":1}' };
    const log = { id: '"1-0"', token: '"1"', lines: '[]', dropped: '0' };
    const hello = {
      protocol: '1',
      client: '"c"',
      host: '"h"',
      pid: '1',
      producer: `"${'0'.repeat(32)}"`,
      lifelineOf: '""',
    };
    const bad = [value, `[${value}]`, `[[${value},${value}]]`, `[[${value},"1"]]`, `[["1-0",${value}]]`];
    for (const [type, fields] of [
      [FRAME.SUBSCRIBE, subscription],
      [FRAME.PROGRESS, progress],
      [FRAME.LOG, log],
      [FRAME.HELLO, hello],
    ] as const) {
      for (const name of Object.keys(fields)) {
        for (const given of bad) {
          const client = await open();
          if (type !== FRAME.HELLO) await client.greet();
          const entries = Object.entries({ ...fields, [name]: given }).map(([key, text]) => `"${key}":${text}`);
          client.writer.begin(type, type === FRAME.SUBSCRIBE || type === FRAME.HELLO ? 5 : 0);
          client.writer.text(`{${entries.join()}}`);
          try {
            client.writer.end();
          } catch {
            // Too long for a HELLO.
            client.close();
            continue;
          }
          client.writer.empty(FRAME.PING, 6);
          const answer = await client.next();
          expect(answer?.body.length).toBeLessThan(2000);
          client.close();
          await client.closed;
        }
      }
    }
    await expectOthersUntouched(bystander);
  });

  test('an error text that is not JSON is kept as the message of one', async () => {
    const client = await open();
    await client.greet();
    const { writer } = client;
    client.socket.write(enqueueFrame(1, ['1']));
    const id = (await client.next())?.body.subarray(6, 14) as Buffer;
    writer.json(FRAME.SUBSCRIBE, 3, { worker: 'w', queues: ['q'], concurrency: 1, prefetch: 1 });
    const frames = [await client.next(), await client.next()];
    const delivered = frames.find((frame) => frame?.type === FRAME.DELIVER)?.body as Buffer;
    writer.begin(FRAME.WAIT, 4);
    writer.bytes(id);
    writer.end();
    writer.begin(FRAME.FAIL, 5);
    writer.bytes(delivered.subarray(0, 16));
    writer.u8(1);
    writer.f64(0);
    writer.u32(4);
    writer.text('boom');
    writer.end();
    const answers = [await client.next(), await client.next()];
    const result = answers.find((frame) => frame?.type === FRAME.RESULT)?.body as Buffer;
    expect(JSON.parse(result.toString('utf8', 13))).toEqual({ name: 'Error', message: 'boom', code: 'HANDLER_FAILED' });
  });

  test('a settlement before SUBSCRIBE ends the connection', async () => {
    const client = await open();
    await client.greet();
    client.writer.begin(FRAME.RELEASE, 2);
    client.writer.end();
    expect(await client.json(FRAME.ERROR)).toMatchObject({ code: 'PROTOCOL' });
    await client.closed;
  });
});
