import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { TlsServing } from '../../src/io/tls.ts';
import { LIMITS } from '../../src/limits.ts';
import { Gate } from '../support/embedded.ts';
import { HttpPlace } from './place.ts';

const CLIENT = {
  ca: pem('ca.pem'),
  cert: pem('client.pem'),
  key: pem('client.key'),
  agent: false,
  servername: 'localhost',
};

let place: HttpPlace;

beforeEach(async () => {
  place = await HttpPlace.open(undefined, {}, { over: { tls: serving('ca.pem') } });
});
afterEach(() => place.close());

function pem(name: string): string {
  return readFileSync(join(import.meta.dirname, '../access/tls', name), 'utf8');
}

function serving(clientCa: string): TlsServing {
  return { cert: pem('server.pem'), key: pem('server.key'), clientCa: pem(clientCa) };
}

function portOf(url: string): number {
  return Number(new URL(url).port);
}

/** How a request is answered, or why it is not. */
function get(port: number): Promise<number | string | undefined> {
  return new Promise((resolve) => {
    const asked = request({ ...CLIENT, host: '127.0.0.1', port, path: '/healthz' }, (response) => {
      resolve(response.statusCode);
      response.resume();
    });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    asked.end();
  });
}

/** Passes on what a client says first, and the rest only when it is told to. */
async function relay(reached: Gate, released: Gate): Promise<Server> {
  const server = createServer((near) => {
    const far: Socket = connect(portOf(place.url), '127.0.0.1');
    far.on('error', () => near.destroy()).pipe(near.on('error', () => far.destroy()));
    near.once('data', (hello) => {
      far.write(hello);
      near.once('data', async (rest) => {
        near.pause();
        reached.open();
        await released.opened;
        far.write(rest);
        near.pipe(far);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

test('who is in a handshake when the authorities of clients change is not let in by the ones before', async () => {
  const [reached, released] = [new Gate(), new Gate()];
  const server = await relay(reached, released);
  try {
    const answer = get((server.address() as AddressInfo).port);
    await reached.opened;
    place.server.renewTls(serving('stranger-ca.pem'));
    released.open();
    expect(await answer).toBe('ECONNRESET');
  } finally {
    server.close();
  }
});

test('who is in a handshake does not hold up a stop', async () => {
  const stranger = connect(portOf(place.url), '127.0.0.1');
  const closed = new Promise((resolve) => stranger.once('close', resolve));
  await new Promise((resolve) => stranger.once('connect', resolve));
  // Whoever comes after it has come later there too.
  expect(await get(portOf(place.url))).toBe(200);
  const beganMs = performance.now();
  await place.server.stop({ timeoutMs: 0 });
  expect(performance.now() - beganMs).toBeLessThan(LIMITS.handshakeTimeoutMs - 2000);
  await closed;
});
