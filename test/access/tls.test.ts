import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { type AddressInfo, connect as connectSocket, createServer } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { type ClientOptions, connect, type TlsOptions } from '../../src/index.ts';
import type { TlsServing } from '../../src/io/tls.ts';
import { TlsAcceptor } from '../../src/io/tls-acceptor.ts';
import { LIMITS } from '../../src/limits.ts';
import { Server } from '../../src/server/server.ts';
import { HttpPlace } from '../http/place.ts';

const DIRECTORY = join(import.meta.dirname, 'tls');
const TOKEN = 'worker-secret-0123456789';
const CA = path('ca.pem');
const CLIENT: TlsOptions = { ca: CA, cert: path('client.pem'), key: path('client.key') };

let servers: Server[] = [];
let notices: string[] = [];

function path(name: string): string {
  return join(DIRECTORY, name);
}

function pem(name: string): string {
  return readFileSync(path(name), 'utf8');
}

function serving(name: string, clientCa?: string): TlsServing {
  return {
    cert: pem(`${name}.pem`),
    key: pem(`${name}.key`),
    ...(clientCa === undefined ? {} : { clientCa: pem(clientCa) }),
  };
}

async function start(tls?: TlsServing): Promise<Server> {
  const keyring = new Keyring(Credentials.parse(`operate worker ${TOKEN}`, 'file'));
  const server = await Server.start({
    ...{ directory: null, port: 0, keyring, tls },
    onNotice: (_level, message) => void notices.push(message),
  });
  servers.push(server);
  return server;
}

afterEach(async () => {
  await Promise.all(servers.map((server) => server.stop({ timeoutMs: 0 })));
  servers = [];
  notices = [];
});

/** How the attempt ends; a client that is let in is closed. */
async function attempt(url: string, options: ClientOptions): Promise<unknown> {
  const beganMs = performance.now();
  const outcome = await connect(url, { token: TOKEN, connectTimeoutMs: 30_000, ...options }).catch(
    (error: unknown) => error,
  );
  // What is set up wrongly is told at once.
  expect(performance.now() - beganMs).toBeLessThan(10_000);
  if (outcome instanceof Error) return outcome;
  await (outcome as Awaited<ReturnType<typeof connect>>).close();
  return 'connected';
}

describe.each([
  ['the server shows a certificate', serving('server'), { ca: CA }],
  ['both show one', serving('server', 'ca.pem'), CLIENT],
  [
    'both show one, and the client has PEM in place of files',
    serving('server', 'ca.pem'),
    { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.key') },
  ],
] as const)('%s', (_what, tls, options) => {
  test('and tasks, results, events and a worker with its lifeline go over TLS', async () => {
    const server = await start(tls);
    expect(server.url).toMatch(/^tls:\/\/127\.0\.0\.1:\d+$/);
    const client = await connect(server.url, { token: TOKEN, tls: options });
    const events = await client.events();
    const worker = await client.work({ double: (input) => (input as number) * 2 }, { concurrency: 4 });
    const large = 'x'.repeat(900_000);
    expect(await (await client.enqueueMany('double', [1, 2, 3])).results()).toEqual([2, 4, 6]);
    expect((await client.tasks.get((await client.enqueue('large', { large })).id)).payloadBytes).toBeGreaterThan(
      900_000,
    );
    expect((await events.next()).value).toMatchObject({ type: 'enqueued', name: 'double' });
    // The lifeline is asked for when the worker is let in, and there soon after.
    await expect.poll(async () => (await client.status()).server.connections).toBe(3);
    await worker.stop();
    await client.close();
  });
});

describe('a connection that is not to be trusted is refused, and says what would mend it', () => {
  const untrusted = { code: 'UNAUTHENTICATED' };
  test.each([
    ['an authority that is not known', 'server', {}, /not trusted here \(\w+\): give .* tls\.ca \(--tls-ca FILE\)/],
    ['another authority', 'server', { ca: path('stranger-ca.pem') }, /not trusted here/],
    ['a certificate that has expired', 'expired', { ca: CA }, /has expired: renew it/],
    [
      'a certificate for another host',
      'elsewhere',
      { ca: CA },
      /for other names \(DNS:elsewhere\.example\): .*tls\.servername/,
    ],
  ])('%s', async (_what, name, tls, message) => {
    const server = await start(serving(name));
    expect(await attempt(server.url, { tls })).toMatchObject({ ...untrusted, message: expect.stringMatching(message) });
  });

  test.each([
    ['a client that shows none', { ca: CA }, /the client shows none: give tls\.cert and tls\.key/],
    [
      'a client of another authority',
      { ca: CA, cert: path('stranger.pem'), key: path('stranger.key') },
      /is not accepted \(\w+\)/,
    ],
  ])('%s, where certificates of clients are asked for', async (_what, tls, message) => {
    const server = await start(serving('server', 'ca.pem'));
    expect(await attempt(server.url, { tls })).toMatchObject({ ...untrusted, message: expect.stringMatching(message) });
    expect(server.host.sessionCount).toBe(0);
  });

  test('but the name may be given, and the check left out', async () => {
    const server = await start(serving('elsewhere'));
    expect(await attempt(server.url, { tls: { ca: CA, servername: 'elsewhere.example' } })).toBe('connected');
    expect(await attempt(server.url, { tls: { rejectUnauthorized: false } })).toBe('connected');
  });

  test('TLS does not replace the token', async () => {
    const server = await start(serving('server', 'ca.pem'));
    expect(await attempt(server.url, { tls: CLIENT, token: 'wrong-token-0123456789' })).toMatchObject(untrusted);
  });
});

describe('who speaks the other of the two', () => {
  test('a plain client of a TLS port is told, and the server logs it', async () => {
    const server = await start(serving('server'));
    expect(await attempt(server.url.replace('tls:', 'tcp:'), {})).toMatchObject({
      code: 'PROTOCOL',
      message: 'this port speaks TLS only: use tls:// in place of tcp://',
    });
    await server.stop({ timeoutMs: 0 });
    expect(notices.join('\n')).toMatch(/refused: this port speaks TLS only/);
  });

  test('a TLS client of a plain port is told, and the server logs it', async () => {
    const server = await start();
    expect(await attempt(server.url.replace('tcp:', 'tls:'), {})).toMatchObject({
      code: 'PROTOCOL',
      message: expect.stringMatching(/^127\.0\.0\.1:\d+ does not speak TLS: .*tcp:\/\/ in place of tls:\/\//),
    });
    await server.stop({ timeoutMs: 0 });
    expect(notices.join('\n')).toMatch(/refused: the other side speaks TLS; this port takes plain connections/);
  });
});

test('the option tls with a URL that does not encrypt is refused', async () => {
  await expect(connect('tcp://127.0.0.1:1', { tls: { ca: CA } })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  for (const [tls, message] of [
    [{ ca: path('none.pem') }, /tls\.ca, ".*none\.pem", cannot be read/],
    [{ ca: path('make.sh') }, /no PEM certificate/],
    [{ cert: path('client.pem') }, /go together/],
    [{ cert: path('client.pem'), key: path('stranger.key') }, /cannot be used/],
    [{ certs: 'x' }, /has no option "certs" \(did you mean/],
  ] as const) {
    const failure = connect('tls://127.0.0.1:1', { tls: tls as TlsOptions });
    await expect(failure).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) });
  }
});

/** The certificate that is shown to a new connection. */
function shownBy(server: Server): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port: server.port, ca: pem('ca.pem') }, () => {
      resolve(socket.getPeerX509Certificate()?.toString() ?? '');
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test('a renewed certificate is shown to new connections; those that are open go on, and one that is none changes nothing', async () => {
  const server = await start(serving('server'));
  const client = await connect(server.url, { token: TOKEN, tls: { ca: CA } });
  const before = await shownBy(server);
  server.renewTls(serving('renewed'));
  const after = await shownBy(server);
  expect(after).not.toBe(before);
  expect(pem('renewed.pem')).toContain(after.trim());
  await client.enqueue('x');
  expect(() => server.renewTls({ cert: pem('server.pem'), key: pem('renewed.key') })).toThrow('cannot be used');
  expect(await shownBy(server)).toBe(after);
  await client.close();
});

describe('when the authorities of clients are others', () => {
  test('who was let in by the ones before is cut off, and does not come back', async () => {
    const server = await start(serving('server', 'ca.pem'));
    const client = await connect(server.url, { token: TOKEN, tls: CLIENT, reconnect: { initialDelayMs: 5 } });
    server.renewTls(serving('renewed', 'ca.pem'));
    await client.enqueue('x');
    server.renewTls(serving('renewed', 'stranger-ca.pem'));
    await expect(client.enqueue('x')).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining('is not accepted'),
    });
    const stranger = { ca: CA, cert: path('stranger.pem'), key: path('stranger.key') };
    expect(await attempt(server.url, { tls: stranger })).toBe('connected');
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('nobody comes back by a session of %s from before', async (version) => {
    const server = await start(serving('server', 'ca.pem'));
    const options = { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.key'), maxVersion: version };
    const connected = (before?: Buffer): Promise<{ session: Buffer | undefined; isReused: boolean }> =>
      new Promise((resolve, reject) => {
        let session: Buffer | undefined;
        const socket = connectTls({ host: '127.0.0.1', port: server.port, ...options, session: before });
        socket.on('session', (given: Buffer) => {
          session = given;
        });
        // What is no frame is answered, and ends the connection.
        socket.once('secureConnect', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
        socket.once('end', () => {
          resolve({ session, isReused: socket.isSessionReused() });
          socket.destroy();
        });
        socket.on('error', reject).resume();
      });
    const { session } = await connected();
    expect((await connected(session)).isReused).toBe(true);
    server.renewTls(serving('server', 'stranger-ca.pem'));
    expect((await connected(session)).isReused).toBe(false);
  });
});

test('HTTPS asks for certificates of clients, and shows a renewed one', async () => {
  const place = await HttpPlace.open(undefined, {}, { over: { tls: serving('server', 'ca.pem') } });
  const get = (client: { cert?: string; key?: string }): Promise<string> =>
    new Promise((resolve) => {
      const asked = request(`${place.url}/healthz`, { ca: pem('ca.pem'), agent: false, ...client }, (response) => {
        const { socket } = response as unknown as { socket: { getPeerX509Certificate(): { toString(): string } } };
        resolve(socket.getPeerX509Certificate().toString());
        response.resume();
      });
      asked.on('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)));
      asked.end();
    });
  try {
    const client = { cert: pem('client.pem'), key: pem('client.key') };
    expect(await get({})).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET|EPIPE/);
    expect(pem('server.pem')).toContain((await get(client)).trim());
    place.server.renewTls(serving('renewed', 'ca.pem'));
    expect(pem('renewed.pem')).toContain((await get(client)).trim());
  } finally {
    await place.close();
  }
});

test('connections that never finish their handshake are cut off when there are too many', async () => {
  const server = await start(serving('server'));
  const sockets = Array.from({ length: 300 }, () => connectSocket(server.port, '127.0.0.1'));
  const closed = sockets.map(
    (socket) => new Promise<void>((resolve) => socket.on('close', () => resolve()).on('error', () => {})),
  );
  // The first of them make room for the others, long before their time is over.
  const beganMs = performance.now();
  await Promise.all(closed.slice(0, 40));
  expect(performance.now() - beganMs).toBeLessThan(LIMITS.handshakeTimeoutMs - 500);
  expect(await attempt(server.url, { tls: { ca: CA } })).toBe('connected');
  for (const socket of sockets) socket.destroy();
});

test.each([
  ['says nothing', Buffer.alloc(0)],
  ['begins a handshake and does not go on', Buffer.from([0x16, 3, 1, 2, 0, 1])],
])('who %s is cut off in time, on both ports', async (_what, begin) => {
  const notAccepted: Error[] = [];
  const acceptor = { accept: () => {}, refuse: () => {}, notAccepted: (error: Error) => notAccepted.push(error) };
  const secure = new TlsAcceptor(serving('server'), acceptor, { timeoutMs: 100 });
  const tcp = createServer((socket) => secure.arrived(socket));
  await new Promise<void>((listening) => tcp.listen(0, '127.0.0.1', listening));
  const place = await HttpPlace.open(
    undefined,
    {},
    { over: { tls: serving('server'), bounds: { handshakeTimeoutMs: 100 } } },
  );
  const ports = [(tcp.address() as AddressInfo).port, Number(new URL(place.url).port)];
  for (const port of ports) {
    const socket = connectSocket(port, '127.0.0.1');
    socket.on('error', () => {}).resume();
    socket.write(begin);
    await new Promise((closed) => socket.once('close', closed));
  }
  await place.close();
  secure.close();
  await new Promise((closed) => tcp.close(closed));
});
