import { readFileSync } from 'node:fs';
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClientOptions, connect, type TlsOptions } from '../../src/index.ts';
import { sharedPostgres, sharedRabbit } from '../support/services.ts';

/** RabbitMQ and PostgreSQL behind TLS that ends just before them. */
const DIRECTORY = join(import.meta.dirname, 'tls');
const TLS: TlsOptions = { ca: path('ca.pem'), cert: path('client.pem'), key: path('client.key') };
const UNTRUSTED = { code: 'UNAUTHENTICATED', message: expect.stringMatching(/not trusted here .*--tls-ca/) };

const [rabbit, postgres] = await Promise.all([sharedRabbit(), sharedPostgres()]);

function path(name: string): string {
  return join(DIRECTORY, name);
}

function pipe(from: Socket | TLSSocket, to: Socket): void {
  for (const [one, other] of [
    [from, to],
    [to, from],
  ] as const) {
    one.on('error', () => other.destroy()).on('close', () => other.destroy());
    one.pipe(other);
  }
}

/** `asks`: PostgreSQL's clients ask first whether there is TLS. `seen` are the names of the clients' certificates. */
async function tlsBefore(url: string, asks: boolean, seen: string[] = []): Promise<{ url: string; server: Server }> {
  const target = new URL(url);
  const pem = (name: string): string => readFileSync(path(name), 'utf8');
  const secure = createTlsServer({
    ...{ cert: pem('server.pem'), key: pem('server.key'), ca: pem('ca.pem') },
    ...{ requestCert: true, rejectUnauthorized: false },
  });
  secure.on('tlsClientError', () => {});
  secure.on('secureConnection', (socket) => {
    if (socket.authorized) seen.push(String(socket.getPeerCertificate().subject.CN));
    pipe(socket, connectSocket(Number(target.port || (asks ? 5432 : 5672)), target.hostname));
  });
  const server = createServer((socket) => {
    socket.on('error', () => {});
    if (!asks) secure.emit('connection', socket);
    else {
      socket.once('data', () => {
        socket.write('S');
        secure.emit('connection', socket);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const secured = new URL(url);
  secured.hostname = '127.0.0.1';
  secured.port = String(port);
  return { url: secured.href, server };
}

async function attempt(url: string, options: ClientOptions, works = false): Promise<unknown> {
  const outcome = await connect(url, { connectTimeoutMs: 20_000, ...options }).catch((error: unknown) => error);
  if (outcome instanceof Error) return outcome;
  const client = outcome as Awaited<ReturnType<typeof connect>>;
  if (!works) {
    await client.close();
    return 'connected';
  }
  const worker = await client.work({ double: (input) => (input as number) * 2 });
  const result = await (await client.enqueue('double', 21)).result();
  await worker.stop();
  await client.close();
  return result;
}

describe.skipIf(rabbit === undefined)('amqps', () => {
  let url: string;
  let plain: string;
  let server: Server;
  let drop: () => Promise<unknown>;
  const seen: string[] = [];

  beforeAll(async () => {
    const vhost = await rabbit?.vhost();
    plain = vhost?.url ?? '';
    drop = () => vhost?.drop() ?? Promise.resolve();
    const secured = await tlsBefore(plain, false, seen);
    server = secured.server;
    url = secured.url.replace('amqp:', 'amqps:');
  });
  afterAll(async () => {
    server.close();
    await drop();
  });

  test('takes the authority, and the certificate of the client', async () => {
    expect(await attempt(url, { tls: TLS }, true)).toBe(42);
    expect(seen).toContain('worker-1');
    expect(await attempt(`${url}?cacertfile=${path('ca.pem')}`, {})).toBe('connected');
    expect(await attempt(`${url}?verify=verify_none`, {})).toBe('connected');
  });

  test('refuses an authority that is not trusted, at once and without the password', async () => {
    const failure = await attempt(url, {});
    expect(failure).toMatchObject(UNTRUSTED);
    const { password } = new URL(url);
    if (password.length > 5) expect((failure as Error).message).not.toContain(password);
  });

  test('says that a port does not speak TLS', async () => {
    const failure = await attempt(plain.replace('amqp:', 'amqps:'), { tls: TLS, connectTimeoutMs: 2000 });
    expect(failure).toMatchObject({ message: expect.stringMatching(/does not speak TLS|TLS connection/) });
  });

  describe.skipIf(postgres === undefined)('with a store behind TLS', () => {
    let store: string;
    let withoutTls: string;
    let storeServer: Server;
    let dropStore: () => Promise<unknown>;
    const storeSeen: string[] = [];

    beforeAll(async () => {
      const database = await postgres?.database();
      dropStore = () => database?.drop() ?? Promise.resolve();
      const secured = await tlsBefore(database?.url ?? '', true, storeSeen);
      storeServer = secured.server;
      store = secured.url.split('?')[0] as string;
      withoutTls = database?.url ?? '';
    });
    afterAll(async () => {
      storeServer.close();
      await dropStore();
    });

    test('takes the option tls, and what the URL says', async () => {
      expect(await attempt(plain, { store: `${store}?sslmode=verify-full`, tls: TLS }, true)).toBe(42);
      expect(storeSeen).toContain('worker-1');
      expect(await attempt(plain, { store: `${store}?sslmode=verify-full&sslrootcert=${path('ca.pem')}` })).toBe(
        'connected',
      );
      // As libpq: encrypted, whoever it is.
      expect(await attempt(plain, { store: `${store}?sslmode=require` })).toBe('connected');
    });

    test('refuses an authority that is not trusted', async () => {
      expect(await attempt(plain, { store: `${store}?sslmode=verify-full` })).toMatchObject(UNTRUSTED);
      const wrong = `sslmode=require&sslrootcert=${path('stranger-ca.pem')}`;
      expect(await attempt(plain, { store: `${store}?${wrong}` })).toMatchObject(UNTRUSTED);
    });

    test.each(['prefer', 'allow'])('encrypts with sslmode=%s if the server can', async (mode) => {
      expect(await attempt(plain, { store: `${store}?sslmode=${mode}` })).toBe('connected');
      expect(await attempt(plain, { store: `${withoutTls}?sslmode=${mode}` })).toBe('connected');
    });

    test('refuses an sslmode that is none', async () => {
      expect(await attempt(plain, { store: `${store}?sslmode=yes` })).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('there are disable, allow, prefer, require, verify-ca, verify-full'),
      });
    });
  });
});
