import { beforeEach, expect, test } from 'vitest';
import { type ScriptedConnection, ScriptedServer, settle, watch } from '../../test/support/scripted-server.ts';
import { RemoteBroker } from '../broker/tcp/remote-broker.ts';
import { Client } from '../client/client.ts';
import { writeRunHeader } from '../protocol/delivery.ts';
import { FRAME } from '../protocol/frames.ts';
import { encodeSpec } from '../protocol/spec.ts';
import type { Worker } from './worker.ts';

const EPOCH = 2 ** 32;
const SPEC = {
  ...{ queue: 'default', name: 'endless', priority: 4, maxAttempts: 3, timeoutMs: 60_000 },
  backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
} as const;
const DAY_MS = 86_400_000;

let server: ScriptedServer;
let worker: Worker;
let connection: ScriptedConnection;

/** A worker with a handler that never ends, of a server that says nothing by itself. */
beforeEach(async () => {
  server = new ScriptedServer();
  const connecting = RemoteBroker.connect(server.options());
  await server.welcome();
  const client = new Client(await connecting, { clock: server.clock, workerName: 'w' });
  const working = client.work({ endless: () => new Promise(() => {}) });
  connection = await server.welcome();
  const { requestId } = await connection.expectJson(FRAME.SUBSCRIBE);
  connection.json(FRAME.REPLY, requestId, { kept: [], lost: [] });
  worker = await working;
  connection.frame(FRAME.DELIVER, 0, (writer) => {
    const ids = { firstId: EPOCH, firstToken: EPOCH, count: 1, attempt: 1, suspect: false, enqueuedAtMs: 5 };
    writeRunHeader(writer, { ...ids, byteLength: 5 }, encodeSpec(SPEC));
    writer.u32(1);
    writer.u8(0x31);
  });
  await settle();
  expect(worker.running).toBe(1);
});

test('a stop is over soon after its time, whatever the server leaves unanswered', async () => {
  const stopped = watch(worker.stop({ timeoutMs: 500 }));
  for (const ms of [500, 2000, 2000]) {
    expect(await stopped()).toBe('pending');
    server.clock.advance(ms);
  }
  expect(await stopped()).toBe('resolved');
  expect(await worker.ended).toBeUndefined();
});

test('a stop that was shortened leaves no timer of its first patience behind', async () => {
  const stopped = watch(worker.stop({ timeoutMs: DAY_MS }));
  expect(await stopped()).toBe('pending');
  void worker.stop({ timeoutMs: 0 });
  for (const ms of [0, 2000, 2000]) {
    await settle();
    server.clock.advance(ms);
  }
  expect(await stopped()).toBe('resolved');
  // That of the client's own connection.
  expect(server.clock.timerCount).toBe(1);
});

test('a stop waits no longer for a handler when the backend has given the worker up', async () => {
  const stopped = watch(worker.stop({ timeoutMs: DAY_MS }));
  connection.json(FRAME.ERROR, 0, { code: 'UNAUTHENTICATED', message: 'revoked' });
  expect(await stopped()).toBe('resolved');
  expect(await worker.ended).toMatchObject({ code: 'UNAUTHENTICATED' });
  expect(await worker.stop()).toEqual({ finished: 0, abandoned: 0 });
});
