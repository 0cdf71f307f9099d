import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import type { HttpServerOptions } from '../../src/http/http-server.ts';
import { ask, askRaw } from './ask.ts';
import { HttpPlace } from './place.ts';

const MiB = 2 ** 20;
const LIMITED = 'l'.repeat(24);
const OPERATOR = 'o'.repeat(24);

let place: HttpPlace;
let sockets: Socket[] = [];
let notices: string[] = [];

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  notices = [];
  await place.close();
});

async function open(
  bounds: HttpServerOptions['bounds'],
  { tasks, ...over }: { tasks: number } & Partial<HttpServerOptions>,
): Promise<void> {
  const onNotice = (_level: string, message: string): void => void notices.push(message);
  place = await HttpPlace.open(undefined, {}, { over: { bounds, onNotice, ...over } });
  const payload = 'x'.repeat(MiB - 100);
  await Promise.all(Array.from({ length: tasks }, () => place.client.enqueue('large', payload)));
}

/** Asks for an answer of so many MiB, and reads only its beginning: more than a system takes for a connection stays behind. */
async function leaveUnread(tasksMax: number, secret?: string): Promise<Socket> {
  const socket = connect(Number(new URL(place.url).port), '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  const body = JSON.stringify({ tasksMax, waitMs: 10_000 });
  const authorization = secret === undefined ? '' : `authorization: Bearer ${secret}\r\n`;
  const head = `POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${authorization}`;
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
  await new Promise((resolve) => socket.once('readable', resolve));
  return socket;
}

/** Reads everything from now on; whether the connection was cut off before its answer was whole. */
async function isCutOff(socket: Socket, bytesMin: number): Promise<boolean> {
  let bytes = 0;
  socket.on('data', (data) => {
    bytes += data.length;
    if (bytes >= bytesMin) socket.destroy();
  });
  await new Promise((resolve) => socket.once('close', resolve));
  return bytes < bytesMin;
}

test('of those whose answers are unread he who leaves the most is cut off', async () => {
  await open({ unsentBytesMax: 17 * MiB }, { tasks: 20 });
  const [small, large] = [await leaveUnread(8), await leaveUnread(12)];
  await expect.poll(() => notices, { timeout: 10_000 }).toHaveLength(1);
  expect(notices[0]).toMatch(/^1 connection over HTTP was cut off: .* \d+ bytes of answers/);
  expect(await Promise.all([isCutOff(small, 8 * MiB), isCutOff(large, 12 * MiB)])).toEqual([false, true]);
  // What was not read whole is nobody's.
  await expect.poll(async () => (await place.client.queue('default').status()).ready).toBe(12);
});

test('who may use some queues only is cut off first', async () => {
  const text = `work limited ${LIMITED} default\noperate ops ${OPERATOR}\n`;
  const access = { keyring: new Keyring(Credentials.parse(text, 'file')), hostNames: [] };
  await open({ unsentBytesMax: 21 * MiB }, { tasks: 28, access });
  const limited = [await leaveUnread(8, LIMITED), await leaveUnread(8, LIMITED)];
  const large = await leaveUnread(12, OPERATOR);
  await expect.poll(() => notices, { timeout: 10_000 }).not.toHaveLength(0);
  const cutOff = await Promise.all(limited.map((socket) => isCutOff(socket, 8 * MiB)));
  expect(cutOff.toSorted()).toEqual([false, true]);
  expect(await isCutOff(large, 12 * MiB)).toBe(false);
});

test('who reads an answer drop by drop is cut off in time', async () => {
  await open({ answerMs: 1000 }, { tasks: 8 });
  const socket = await leaveUnread(8);
  const drops = setInterval(() => socket.read(1), 50);
  await expect.poll(() => notices, { timeout: 10_000 }).toEqual([expect.stringContaining('did not read')]);
  clearInterval(drops);
  expect(await isCutOff(socket, 7 * MiB)).toBe(true);
});

test('a request is one that is being answered until its answer has been sent', async () => {
  await open({ requestsMax: 2 }, { tasks: 16 });
  const unread = [await leaveUnread(8), await leaveUnread(8)];
  const refused = await askRaw(`${place.url}/healthz`);
  expect(refused).toMatchObject({ status: 503, json: { code: 'CONNECTION_LIMIT' } });
  unread[0]?.destroy();
  await expect.poll(async () => (await askRaw(`${place.url}/healthz`)).status).toBe(200);
});

test('a stream of events is none of them', async () => {
  await open({ requestsMax: 1 }, { tasks: 0 });
  const leaving = new AbortController();
  const { status } = await fetch(`${place.url}/v1/events`, { signal: leaving.signal });
  expect([status, (await ask(`${place.url}/healthz`)).status]).toEqual([200, 200]);
  leaving.abort();
});
