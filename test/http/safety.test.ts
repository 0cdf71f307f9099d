import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { ERROR_CODES } from '../../src/errors.ts';
import type { HttpServerOptions } from '../../src/http/http-server.ts';
import { LIMITS } from '../../src/limits.ts';
import { Gate } from '../support/embedded.ts';
import { ManualClock } from '../twins/manual-clock.ts';
import { ask, askRaw, type Method } from './ask.ts';
import { HttpPlace } from './place.ts';

const READER = 'r'.repeat(24);
const OPERATOR = 'o'.repeat(24);

let places: HttpPlace[] = [];

afterEach(async () => {
  await Promise.all(places.map((place) => place.close()));
  places = [];
});

async function open(over: Partial<HttpServerOptions> = {}): Promise<HttpPlace> {
  const place = await HttpPlace.open(undefined, {}, { over });
  places.push(place);
  return place;
}

function openWithCredentials(): Promise<HttpPlace> {
  const keyring = new Keyring(Credentials.parse(`read viewer ${READER}\noperate ops ${OPERATOR}\n`, 'file'));
  return open({ access: { keyring, hostNames: [] } });
}

function basic(name: string, secret: string): string {
  return `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`;
}

describe('with credentials', () => {
  const CHANGE = ['POST', '/v1/queues/q/pause'] as const;
  const LOOK = ['GET', '/v1/stats'] as const;

  test.each([
    ['nobody may look', undefined, LOOK, 401],
    ['nobody may change', undefined, CHANGE, 401],
    ['nobody may read the description', undefined, ['GET', '/openapi.json'], 401],
    ['nobody learns which paths there are', undefined, ['GET', '/v1/nothing'], 401],
    ['a secret that is none', `Bearer ${'x'.repeat(24)}`, LOOK, 401],
    ['an empty secret', 'Bearer ', LOOK, 401],
    ['the beginning of a secret', `Bearer ${READER.slice(0, -1)}`, LOOK, 401],
    ['the name of another', basic('ops', READER), LOOK, 401],
    ['a name without its secret', basic('ops', ''), LOOK, 401],
    ['no pair at all', `Basic ${Buffer.from(OPERATOR).toString('base64')}`, LOOK, 401],
    ['another scheme', `Digest ${OPERATOR}`, LOOK, 401],
    ['a reader looks', `Bearer ${READER}`, LOOK, 200],
    ['a reader looks, as a browser asks', basic('viewer', READER), LOOK, 200],
    ['a reader changes', `Bearer ${READER}`, CHANGE, 403],
    ['a reader leases', basic('viewer', READER), ['POST', '/v1/leases'], 403],
    ['an operator looks', `bearer ${OPERATOR}`, LOOK, 200],
    ['an operator changes', `Bearer ${OPERATOR}`, CHANGE, 204],
    ['an operator changes, as a browser asks', basic('ops', OPERATOR), CHANGE, 204],
    ['a probe asks whether it lives', undefined, ['GET', '/healthz'], 200],
    ['a probe asks whether it is ready', undefined, ['GET', '/readyz'], 200],
  ] as const)('%s (%s): %j is answered with %d', async (_what, authorization, [method, path], status) => {
    const place = await openWithCredentials();
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const answer = await ask(`${place.url}${path}`, method as Method, undefined, { headers });
    expect(answer.status).toBe(status);
    if (status === 401) {
      expect(answer.json.code).toBe('UNAUTHENTICATED');
      expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
    }
    if (status === 403)
      expect(answer.json).toMatchObject({ code: 'FORBIDDEN', detail: expect.stringMatching(/role (operate|work)/) });
  });

  test('the server tells which roles one has', async () => {
    const place = await openWithCredentials();
    const infoOf = async (secret: string): Promise<object> =>
      (await ask(`${place.url}/v1/info`, 'GET', undefined, { headers: { authorization: `Bearer ${secret}` } })).json;
    expect(await infoOf(READER)).toMatchObject({ roles: ['read'], queues: ['*'] });
    expect(await infoOf(OPERATOR)).toMatchObject({ roles: ['produce', 'work', 'read', 'operate'], queues: ['*'] });
  });

  test('any name that leads here is answered', async () => {
    const place = await openWithCredentials();
    const headers = { host: 'tasks.example', authorization: `Bearer ${READER}` };
    expect((await askRaw(`${place.url}/v1/stats`, 'GET', { headers })).status).toBe(200);
  });
});

describe('pages of strangers in a browser', () => {
  test.each([
    ['curl', {}, 204],
    ['a page of this server', { 'sec-fetch-site': 'same-origin' }, 204],
    ['whoever typed the address', { 'sec-fetch-site': 'none' }, 204],
    ['a page of another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, 403],
    ['a page of another name of this site', { 'sec-fetch-site': 'same-site', origin: 'http://localhost:1' }, 403],
    ['an older browser on another page', { origin: 'https://evil.example' }, 403],
    ['a frame that is nowhere', { origin: 'null' }, 403],
    ['a page of another port', { origin: 'http://127.0.0.1:1' }, 403],
  ] as const)('a change that %s sends with %j is answered with %d', async (_who, headers, status) => {
    const place = await open();
    await place.client.enqueue('x', null, { queue: 'q' });
    const answer = await ask(`${place.url}/v1/queues/q/pause`, 'POST', undefined, { headers });
    expect(answer.status).toBe(status);
    const paused = (await place.client.queue('q').status()).paused;
    expect(paused).toBe(status === 204);
  });

  test('an older browser on a page of this server may change something', async () => {
    const place = await open();
    const headers = { origin: place.url };
    expect((await ask(`${place.url}/v1/queues/q/pause`, 'POST', undefined, { headers })).status).toBe(204);
  });

  test.each(['application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'text/plain'])(
    'what a form can send is no request: %s',
    async (type) => {
      const place = await open();
      const answer = await askRaw(`${place.url}/v1/tasks`, 'POST', {
        headers: { 'content-type': type },
        body: '{"name":"x"}',
      });
      expect(answer).toMatchObject({ status: 400, json: { detail: expect.stringContaining('application/json') } });
      expect((await place.client.tasks.list()).tasks).toEqual([]);
    },
  );

  test('no page of another origin may read an answer', async () => {
    const place = await open();
    const headers = { origin: 'https://evil.example', 'access-control-request-method': 'POST' };
    for (const method of ['GET', 'OPTIONS'] as const) {
      const answer = await ask(`${place.url}/v1/stats`, method, undefined, { headers });
      expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
      expect(answer.headers.get('cross-origin-resource-policy')).toBe('same-origin');
    }
  });
});

describe('the name by which a server without credentials is called', () => {
  test.each([
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example:5556', 403],
    ['10.0.0.1', 403],
    ['localhost', 200],
    ['LOCALHOST:5556', 200],
    ['127.0.0.1:80', 200],
    ['[::1]:5556', 200],
    ['tasks.internal:5556', 200],
  ])('%j: %d', async (host, status) => {
    const place = await open({ access: { keyring: new Keyring(), hostNames: ['tasks.internal'] } });
    const answer = await askRaw(`${place.url}/v1/stats`, 'GET', { headers: { host } });
    expect(answer.status).toBe(status);
    if (status === 403) expect(answer.json.detail).toContain('--http-hostnames');
  });
});

test('every answer says how a browser is to treat it', async () => {
  const place = await open();
  for (const path of ['/v1/stats', '/v1/nothing', '/v1/tasks?limit=0', '/healthz', '/openapi.json']) {
    const { headers } = await ask(`${place.url}${path}`);
    expect(Object.fromEntries(headers), path).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
    });
    if (path.startsWith('/v1/')) expect(headers.get('cache-control'), path).toBe('no-store');
  }
});

describe('where payloads are not shown', () => {
  const SECRET = 'secret-7f3a';

  test('neither they nor what handlers say of them is, and workers get them all the same', async () => {
    const place = await open({ showPayloads: false });
    const task = await place.client.enqueue('fail', { SECRET }, { maxAttempts: 1 });
    const done = await place.client.enqueue('echo', { SECRET });
    await place.client.schedule('s', { cron: '0 3 * * *', task: 'x', payload: SECRET });
    const worker = await place.client.work({
      echo: (input, context) => {
        context.progress(1, SECRET);
        context.log(SECRET);
        return input;
      },
      fail: (_input, context) => {
        context.log(SECRET);
        throw new Error(SECRET);
      },
    });
    await Promise.allSettled([task.result(), done.result()]);
    await worker.stop();
    const get = (path: string) => ask(`${place.url}${path}`);
    expect((await get(`/v1/tasks/${task.id}`)).json).toMatchObject({
      payloadHidden: true,
      failures: [{ error: { name: 'Error', message: '', code: 'HANDLER_FAILED' } }],
    });
    expect((await get(`/v1/tasks/${done.id}/result`)).json).toEqual({ state: 'completed', resultHidden: true });
    expect((await get(`/v1/tasks/${task.id}/result`)).json).toMatchObject({ state: 'dead', resultHidden: true });
    for (const path of [
      '/v1/tasks',
      `/v1/tasks/${done.id}`,
      `/v1/tasks/${task.id}`,
      `/v1/tasks/${task.id}/result`,
      '/v1/schedules/s',
    ]) {
      const { status, text } = await get(path);
      expect(status, path).toBe(200);
      expect(text, path).not.toContain(SECRET);
    }
    const { groups } = (await get('/v1/dead-groups')).json;
    expect(groups).toMatchObject([{ count: 1, error: 'Error', message: '' }]);
    expect((await get(`/v1/tasks?errorGroup=${groups[0].group}`)).json.tasks).toHaveLength(1);
    expect((await get('/v1/info')).json.payloads).toBe(false);
    await place.client.enqueue('leased', { SECRET }, { queue: 'leased' });
    expect((await place.leaseOne({ queues: ['leased'] })).payload).toEqual({ SECRET });
  });
});

test('what is not shown is not found out by searching for it', async () => {
  const place = await open({ showPayloads: false });
  const searching = { status: 403, json: { code: 'FORBIDDEN', detail: expect.stringContaining('errorGroup') } };
  expect(await ask(`${place.url}/v1/tasks?error=a`)).toMatchObject(searching);
  for (const change of ['retry', 'cancel']) {
    const answer = await ask(`${place.url}/v1/tasks/${change}`, 'POST', { state: 'dead', error: 'a' });
    expect(answer).toMatchObject(searching);
  }
});

describe('what one may send', () => {
  const tooLarge = 'x'.repeat(LIMITS.httpBodyBytesMax);

  test('a body that says that it is too large is refused', async () => {
    const place = await open();
    expect(await ask(`${place.url}/v1/tasks`, 'POST', { name: 'x', payload: tooLarge })).toMatchObject({
      status: 413,
      json: { code: 'PAYLOAD_TOO_LARGE', details: { bound: LIMITS.httpBodyBytesMax } },
    });
    expect((await ask(`${place.url}/healthz`)).status).toBe(200);
  });

  test('a body without an end is refused when it is too large', async () => {
    const place = await open();
    const headers = { 'content-type': 'application/json', 'transfer-encoding': 'chunked' };
    const answer = await askRaw(`${place.url}/v1/tasks`, 'POST', { headers, body: `"${tooLarge}"` });
    expect(answer).toMatchObject({ status: 413, json: { code: 'PAYLOAD_TOO_LARGE' } });
  });

  test('all bodies together have a bound, which is free again when they have gone', async () => {
    const place = await open();
    const { port } = new URL(place.url);
    const sockets: Socket[] = [];
    const bodies = Math.floor(LIMITS.httpBodiesBytesMax / LIMITS.httpBodyBytesMax);
    for (let count = 0; count < bodies; count++) {
      const socket = connect(Number(port), '127.0.0.1');
      const head = `POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
      socket.write(`${head}content-length: ${LIMITS.httpBodyBytesMax}\r\nexpect: 100-continue\r\n\r\n`);
      // The request is being looked at then.
      await new Promise((resolve) => socket.once('data', resolve));
      sockets.push(socket);
    }
    const large = { name: 'x', payload: 'x'.repeat(LIMITS.httpBodyBytesMax / 2) };
    expect(await ask(`${place.url}/v1/tasks`, 'POST', large)).toMatchObject({
      status: 429,
      json: { code: 'BUFFER_FULL', retryable: true },
    });
    for (const socket of sockets) socket.destroy();
    await expect.poll(async () => (await ask(`${place.url}/v1/tasks`, 'POST', large)).status).toBe(413);
  });

  test.each([
    ['{"name": "x"', 'JSON'],
    ['', 'JSON'],
    ['{"name": "x", "__proto__": {"queue": "q"}}', '__proto__'],
    ['{"name": "x", "constructor": 1}', 'constructor'],
  ])('a body such as %.40s is refused with what is wrong', async (body, text) => {
    const place = await open();
    const headers = { 'content-type': 'application/json' };
    const answer = await askRaw(`${place.url}/v1/tasks`, 'POST', { headers, body });
    expect(answer).toMatchObject({ status: 400, json: { detail: expect.stringContaining(text) } });
  });

  test('a payload may have any member', async () => {
    const place = await open();
    const headers = { 'content-type': 'application/json' };
    const body = '{"name": "x", "payload": {"__proto__": 1, "constructor": 2}}';
    const { json } = await askRaw(`${place.url}/v1/tasks`, 'POST', { headers, body });
    const { payload } = await place.client.tasks.get(json.id);
    expect(payload?.data).toBe('{"__proto__": 1, "constructor": 2}');
  });
});

describe('connections', () => {
  const stranger = (place: HttpPlace): Socket => connect(Number(new URL(place.url).port), '127.0.0.1');
  const closed = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.resume().once('close', resolve));

  test.each([
    ['of one address', { connectionsPerAddressMax: 2 }, { address: '127.0.0.1', connections: 2, bound: 2 }],
    ['in all', { bounds: { connectionsMax: 2 } }, { bound: 2 }],
  ])(
    '%s that are too many are told so, and there is room again when others have gone',
    async (_what, over, details) => {
      const place = await open(over);
      const held = [stranger(place), stranger(place)];
      await Promise.all(held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
      const refused = await askRaw(`${place.url}/healthz`);
      expect(refused).toMatchObject({ status: 503, json: { code: 'CONNECTION_LIMIT', retryable: true, details } });
      expect(refused.headers.get('connection')).toBe('close');
      held[0]?.destroy();
      await expect.poll(async () => (await askRaw(`${place.url}/healthz`)).status).toBe(200);
      held[1]?.destroy();
    },
  );

  test('that are too many and ask for nothing are cut off', async () => {
    const clock = new ManualClock();
    const place = await open({ clock, connectionsPerAddressMax: 1 });
    const first = stranger(place);
    await new Promise((resolve) => first.once('connect', resolve));
    const second = stranger(place);
    // Whoever comes after it has come later there too.
    expect((await askRaw(`${place.url}/healthz`)).status).toBe(503);
    clock.advance(LIMITS.handshakeTimeoutMs);
    await closed(second);
    expect(first.destroyed).toBe(false);
    first.destroy();
  });

  test.each([
    ['say nothing', ''],
    ['send their headers drop by drop', 'GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-'],
  ])('that %s are cut off in time, and others go on', async (_what, begin) => {
    const place = await open({ bounds: { headersTimeoutMs: 200, checkMs: 50 } });
    const slow = stranger(place);
    slow.write(begin);
    const drops = begin === '' ? undefined : setInterval(() => slow.write('x'), 20);
    slow.on('error', () => {});
    await closed(slow);
    clearInterval(drops);
    expect((await askRaw(`${place.url}/healthz`)).status).toBe(200);
  });
});

describe('a stop', () => {
  test('ends the requests that wait, and is not held up by them', async () => {
    const place = await open();
    const { id } = await place.client.enqueue('x');
    const arrival = new Gate();
    const waiting = askRaw(`${place.url}/v1/tasks/${id}/result?waitMs=60000`, 'GET', { arrived: arrival.open });
    await arrival.opened;
    const beganMs = performance.now();
    await place.server.stop({ timeoutMs: 30_000 });
    expect(performance.now() - beganMs).toBeLessThan(10_000);
    expect(await waiting).toMatchObject({ status: 503, json: { code: 'STOPPING', retryable: true } });
  });

  test('cuts off who does not end a request', async () => {
    const place = await open();
    const socket = connect(Number(new URL(place.url).port), '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    await place.server.stop({ timeoutMs: 0 });
    await closed;
  });
});

test('who asks with HEAD leaves no stream behind', async () => {
  const place = await open();
  for (let count = 0; count <= LIMITS.eventStreamsMax; count++) {
    const { status, text } = await ask(`${place.url}/v1/events`, 'HEAD');
    expect({ status, text }).toEqual({ status: 200, text: '' });
  }
  expect((await ask(`${place.url}/v1/stats`, 'HEAD')).headers.get('content-type')).toBe('application/json');
});

test('a server with credentials tells strangers that it is not ready, and not where what fails is', async () => {
  const keyring = new Keyring(Credentials.parse(`operate ops ${OPERATOR}\n`, 'file'));
  const place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] } } });
  places.push(place);
  await place.client.close();
  const { status, json } = await ask(`${place.url}/readyz`);
  expect({ status, json }).toEqual({
    status: 503,
    json: {
      ...{ type: 'urn:millrace:error:CLOSED', title: ERROR_CODES.CLOSED.meaning, status: 503 },
      ...{ detail: ERROR_CODES.CLOSED.meaning, code: 'CLOSED', retryable: ERROR_CODES.CLOSED.retryable, details: {} },
    },
  });
});

test('a server that is not ready says why', async () => {
  const place = await open();
  await place.client.close();
  expect(await ask(`${place.url}/readyz`)).toMatchObject({ status: 503, json: { code: 'CLOSED' } });
  expect((await ask(`${place.url}/healthz`)).status).toBe(200);
});
