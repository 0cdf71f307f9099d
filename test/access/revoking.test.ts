import { afterEach, beforeEach, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { type Client, connect, type PlainHandler } from '../../src/index.ts';
import { Server } from '../../src/server/server.ts';
import { Deferred } from '../conformance/events.ts';
import { HttpPlace } from '../http/place.ts';

/** What becomes of those who are connected when credentials change. */
const OPS = 'ops-secret-0123456789';
const WEB = 'web-secret-0123456789';
const BOTH = `operate ops ${OPS}\nproduce,work web ${WEB} mail`;

let keyring: Keyring;
let server: Server;
let notices: string[];
let clients: Client[];

beforeEach(async () => {
  keyring = new Keyring(Credentials.parse(BOTH, 'file'));
  notices = [];
  clients = [];
  server = await Server.start({
    ...{ directory: null, port: 0, keyring },
    onNotice: (_level, message) => void notices.push(message),
  });
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close({ timeoutMs: 0 })));
  await server.stop({ timeoutMs: 0 });
});

async function connectAs(token: string): Promise<Client> {
  const client = await connect(server.url, { token, reconnect: { initialDelayMs: 5, maxDelayMs: 20 } });
  clients.push(client);
  return client;
}

function replace(text: string): void {
  keyring.replace(Credentials.parse(text, 'file'));
}

test('a token that was taken back ends its clients and workers, which do not come back, and nobody else', async () => {
  const [ops, web] = [await connectAs(OPS), await connectAs(WEB)];
  const started = new Deferred();
  const untilAborted: PlainHandler = (_input, { signal }) => {
    started.resolve();
    return new Promise((resolve) => signal.addEventListener('abort', resolve));
  };
  const worker = await web.work({ x: untilAborted }, { queues: ['mail'] });
  const { id } = await ops.enqueue('x', null, { queue: 'mail' });
  await started.promise;
  replace(`operate ops ${OPS}`);
  const gone = { code: 'UNAUTHENTICATED', message: 'the token of the credentials "web" was taken back' };
  expect(await worker.ended).toMatchObject(gone);
  await expect(web.enqueue('x', null, { queue: 'mail' })).rejects.toMatchObject(gone);
  await expect(connect(server.url, { token: WEB })).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  expect((await ops.tasks.get(id)).state).toBe('ready');
});

test('a token that allows something else now goes on, by what it allows now', async () => {
  const web = await connectAs(WEB);
  await web.enqueue('x', null, { queue: 'mail' });
  const worker = await web.work({ y: () => 1 }, { queues: ['mail'] });
  replace(`operate ops ${OPS}\nproduce web ${WEB} mail ads`);
  await web.enqueue('x', null, { queue: 'ads' });
  // It may still produce, and not work any more.
  expect(await worker.ended).toMatchObject({
    code: 'FORBIDDEN',
    message: expect.stringContaining('needs the role work'),
  });
});

test('credentials that are as they were disturb nobody', async () => {
  const web = await connectAs(WEB);
  const worker = await web.work({ x: () => 1 }, { queues: ['mail'] });
  const { connectedAtMs } = (await (await connectAs(OPS)).status()).workers[0] ?? {};
  replace(`# moved\n${BOTH.split('\n').reverse().join('\n')}\nread new ${'n'.repeat(16)}`);
  const { workers } = await (await connectAs('n'.repeat(16))).status();
  expect(workers[0]?.connectedAtMs).toBe(connectedAtMs);
  await worker.stop();
});

test('refused tokens are counted in one line, which does not show them', async () => {
  const wrong = 'wrong-token-0123456789';
  for (let count = 0; count < 3; count++) await connect(server.url, { token: wrong }).catch(() => {});
  // What is left is reported when the server stops.
  await server.stop({ timeoutMs: 0 });
  const line = notices.find((notice) => notice.includes('refused'));
  expect(line).toMatch(/refused.*does not know this token/);
  expect(notices.join('\n')).not.toContain(wrong);
});

test('a stream of events ends with its token, and the others go on', async () => {
  const place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] } } });
  const read = async (secret: string): Promise<ReadableStreamDefaultReader<Uint8Array>> => {
    const headers = { authorization: `Bearer ${secret}` };
    const { body } = await fetch(`${place.url}/v1/events`, { headers });
    const reader = (body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    return reader;
  };
  try {
    replace(`${BOTH}\nread guest guest-secret-0123456789`);
    const [mine, theirs] = [await read(OPS), await read('guest-secret-0123456789')];
    replace(BOTH);
    for (let chunk = await theirs.read(); !chunk.done; ) chunk = await theirs.read();
    await place.client.enqueue('x');
    expect(Buffer.from((await mine.read()).value ?? []).toString()).toContain('enqueued');
    await mine.cancel();
  } finally {
    await place.close();
  }
});
