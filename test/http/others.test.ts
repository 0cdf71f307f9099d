import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { LIMITS } from '../../src/limits.ts';
import { type HttpService, serveOverServer } from '../../src/serve.ts';
import { Server } from '../../src/server/server.ts';
import { type Answered, ask, type Method } from './ask.ts';
import { HttpPlace } from './place.ts';

/** What who may use some queues only could see of others, and do to them, over HTTP. */
const OPS = 'ops-secret-0123456789';
const EVIL = 'evil-secret-0123456789';
const MAILER = 'mailer-secret-0123456789';
const LINES = `operate ops ${OPS}\noperate mailer ${MAILER} mail.* ads`;
const ALL = `${LINES}\noperate evil ${EVIL} mail.*`;

let keyring: Keyring;
let notices: string[];
let url: string;
let close: () => Promise<unknown>;

async function overServer(): Promise<void> {
  const server = await Server.start({ directory: null, port: 0, keyring });
  const service: HttpService = await serveOverServer(server, {
    ...{ host: '127.0.0.1', port: 0, tls: undefined, access: { keyring, hostNames: [] }, showPayloads: true },
    onNotice: (_level, message) => notices.push(message),
  });
  url = service.url;
  close = async () => {
    await service.stop({ timeoutMs: 0 });
    await server.stop({ timeoutMs: 0 });
  };
}

/** A backend that knows of no grants, as RabbitMQ's. */
async function overBackend(): Promise<void> {
  const onNotice = (_level: string, message: string) => void notices.push(message);
  const place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] }, onNotice } });
  url = place.url;
  close = () => place.close();
}

beforeEach(() => {
  keyring = new Keyring(Credentials.parse(ALL, 'file'));
  notices = [];
});

afterEach(() => close());

function as(secret: string, method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<Answered> {
  return ask(`${url}${path}`, method, body, {
    headers: { authorization: `Bearer ${secret}` },
    ...(signal === undefined ? {} : { signal }),
  });
}

async function newTask(queue: string): Promise<string> {
  const { json, text } = await as(OPS, 'POST', '/v1/tasks', { name: 'x', queue });
  if (json?.id === undefined) throw new Error(text);
  return json.id;
}

function takeBack(): void {
  keyring.replace(Credentials.parse(LINES, 'file'));
}

describe.each([
  ['a server', overServer],
  ['another backend', overBackend],
] as const)('over %s', (_where, start) => {
  beforeEach(start);

  const later = { task: 'x', everyMs: 3_600_000 };

  test.each([
    ...['', '/result', '/result?waitMs=1000', '/flow'].map((path) => ['GET', path] as const),
    ...['/cancel', '/retry'].map((path) => ['POST', path] as const),
  ])('%s /v1/tasks/ID%s of others is what it is of nobody', async (method, path) => {
    const theirs = await newTask('ads.secret');
    const nobodys = theirs.replace(/-.*/, '-zzzz');
    const said = async (id: string): Promise<[number, string]> => {
      const { status, text } = await as(EVIL, method, `/v1/tasks/${id}${path}`);
      return [status, text.replaceAll(id, 'ID')];
    };
    const [status, text] = await said(theirs);
    expect(status).toBe(404);
    expect(text).not.toContain('ads');
    expect(await said(nobodys)).toEqual([status, text]);
  });

  test('events and dependencies of a task of others are what they are of nobody', async () => {
    const theirs = await newTask('ads.secret');
    const nobodys = theirs.replace(/-.*/, '-zzzz');
    for (const id of [theirs, nobodys]) {
      expect((await as(EVIL, 'GET', `/v1/events?task=${id}`)).status).toBe(404);
      const child = { name: 'x', queue: 'mail.a', dependsOn: [id] };
      const { status, text } = await as(EVIL, 'POST', '/v1/tasks', child);
      expect([status, text.replaceAll(id, 'ID')]).toEqual([404, expect.not.stringContaining('ads')]);
    }
  });

  test('a schedule of others is what it is of nobody, but for its name', async () => {
    await as(OPS, 'PUT', '/v1/schedules/theirs', { ...later, queue: 'ads.secret' });
    for (const name of ['theirs', 'nobodys']) {
      const { status, text } = await as(EVIL, 'GET', `/v1/schedules/${name}`);
      expect([status, text]).toEqual([404, expect.not.stringContaining('ads')]);
      expect((await as(EVIL, 'POST', `/v1/schedules/${name}/run`)).status).toBe(404);
    }
    const { status, text } = await as(EVIL, 'PUT', '/v1/schedules/theirs', { ...later, queue: 'mail.a' });
    expect([status, text]).toEqual([403, expect.not.stringContaining('ads')]);
  });

  test('of a flow that goes through queues of others only that there is more is shown', async () => {
    const tasks = [
      { key: 'mine', name: 'x', queue: 'mail.a' },
      { key: 'theirs', name: 'secret', queue: 'ads.secret', dependsOn: ['mine'] },
    ];
    const { json } = await as(OPS, 'POST', '/v1/flows', { tasks });
    const [mine, theirs] = json.tasks.map(({ id }: { id: string }) => id);
    expect((await as(EVIL, 'GET', `/v1/tasks/${mine}/flow`)).json.tasks).toEqual([
      { id: mine, name: 'x', queue: 'mail.a', state: 'ready' },
      { id: theirs, name: '', queue: '', state: 'unknown' },
    ]);
    expect((await as(OPS, 'GET', `/v1/tasks/${mine}/flow`)).json.tasks[1].name).toBe('secret');
  });

  test('a lease is for those who may take from its queue, whoever has seen its id', async () => {
    await newTask('ads');
    const [{ lease }] = (await as(MAILER, 'POST', '/v1/leases', { queues: ['ads'], waitMs: 10_000 })).json.leases;
    for (const [act, body] of [
      ['complete', {}],
      ['fail', { error: { message: 'x' } }],
      ['release', undefined],
      ['extend', {}],
      ['progress', { value: 1 }],
      ['log', { text: 'x' }],
    ] as const) {
      expect(await as(EVIL, 'POST', `/v1/leases/${lease}/${act}`, body), act).toMatchObject({ status: 409 });
    }
    const { json } = await as(EVIL, 'POST', '/v1/leases/settle', { release: [{ lease }] });
    expect(json).toEqual({ settled: 0, lost: [lease] });
    expect((await as(MAILER, 'POST', `/v1/leases/${lease}/complete`, {})).status).toBe(204);
  });

  describe('when credentials are taken back', () => {
    test('what was leased with them goes to others at once, as lost', async () => {
      const id = await newTask('mail.a');
      const body = { queues: ['mail.a'], waitMs: 10_000, leaseMs: 3_600_000 };
      const [{ lease }] = (await as(EVIL, 'POST', '/v1/leases', body)).json.leases;
      takeBack();
      expect((await as(EVIL, 'POST', `/v1/leases/${lease}/complete`, {})).status).toBe(401);
      const [again] = (await as(MAILER, 'POST', '/v1/leases', body)).json.leases;
      expect(again).toMatchObject({ id, attempt: 2 });
      expect((await as(MAILER, 'POST', `/v1/leases/${lease}/complete`, {})).status).toBe(409);
    });

    test('a request that waits for tasks is refused, and gets none', async () => {
      const waiting = as(EVIL, 'POST', '/v1/leases', { queues: ['mail.a'], waitMs: 60_000 });
      const workers = async () => (await as(OPS, 'GET', '/v1/workers')).json.workers.length;
      await expect.poll(workers).toBe(1);
      takeBack();
      expect(await waiting).toMatchObject({ status: 401 });
      const id = await newTask('mail.a');
      const body = { queues: ['mail.a'], waitMs: 10_000 };
      expect((await as(OPS, 'POST', '/v1/leases', body)).json.leases).toMatchObject([{ id, attempt: 1 }]);
    });

    test('a request that waits for a result is refused', async () => {
      const id = await newTask('mail.a');
      const began = new AbortController();
      const waiting = as(EVIL, 'GET', `/v1/tasks/${id}/result?waitMs=60000`, undefined, began.signal);
      // What is asked for after it is answered after it is waited for.
      await as(EVIL, 'GET', `/v1/tasks/${id}`);
      takeBack();
      expect(await waiting).toMatchObject({ status: 401 });
    });

    test('a request whose body is still on its way does nothing', async () => {
      const body = JSON.stringify({ name: 'late', queue: 'mail.a' });
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      socket.write(
        `POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${EVIL}\r\ncontent-type: application/json\r\n` +
          `content-length: ${body.length}\r\nexpect: 100-continue\r\n\r\n`,
      );
      await new Promise((resolve) => socket.once('data', resolve));
      // He is let in, which is looked at before the body.
      await as(EVIL, 'GET', '/v1/info');
      takeBack();
      const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
      socket.write(body);
      expect((await answer).toString()).toMatch(/^HTTP\/1.1 401 /);
      socket.destroy();
      expect((await as(OPS, 'GET', '/v1/tasks?queue=mail.a')).json.tasks).toEqual([]);
    });

    test('a stream of tasks says so, and ends', async () => {
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      const line = Buffer.from(`${JSON.stringify({ name: 'x', queue: 'mail.a' })}\n`);
      void writer.write(line);
      const response = await fetch(`${url}/v1/tasks`, {
        method: 'POST',
        headers: { authorization: `Bearer ${EVIL}`, 'content-type': 'application/x-ndjson' },
        body: readable,
        duplex: 'half',
      } as RequestInit);
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      expect(Buffer.from((await reader.read()).value ?? []).toString()).toContain('"isNew":true');
      takeBack();
      const said = JSON.parse(Buffer.from((await reader.read()).value ?? []).toString());
      expect(said).toMatchObject({ line: 2, code: 'UNAUTHENTICATED' });
      expect((await reader.read()).done).toBe(true);
    });
  });

  test('those who are refused for what they sent are counted in the log, which does not show it', async () => {
    for (let count = 0; count < 3; count++) await as('wrong-secret-0123456789', 'GET', '/v1/stats');
    await ask(`${url}/v1/stats`);
    await expect.poll(() => notices.join('\n')).toMatch(/^3 requests refused \(UNAUTHENTICATED\): the last, from 127/m);
    expect(notices.join('\n')).not.toContain('wrong-secret');
  });
});

describe('who may use some queues only gets half of what there is', () => {
  beforeEach(overServer);

  test('queues', async () => {
    const tasks = (count: number, from: number) =>
      Array.from({ length: count }, (_, i) => ({ name: 'x', queue: `mail.${from + i}` }));
    const share = LIMITS.queuesMax / 2;
    expect((await as(EVIL, 'POST', '/v1/tasks', tasks(share, 0))).status).toBe(201);
    const refused = { status: 429, json: { code: 'QUEUE_FULL' } };
    expect(await as(EVIL, 'POST', '/v1/tasks', tasks(1, share))).toMatchObject(refused);
    expect(await as(EVIL, 'POST', '/v1/leases', { queues: ['mail.more'] })).toMatchObject(refused);
    await newTask('ads.more');
  });

  test('requests that wait for tasks', async () => {
    const leaving = new AbortController();
    const share = LIMITS.leaseRequestsMax / 2;
    const body = { queues: ['mail.a'], waitMs: 60_000 };
    const waiting = Array.from({ length: share }, () =>
      as(EVIL, 'POST', '/v1/leases', body, leaving.signal).catch(() => undefined),
    );
    const workers = async () => (await as(OPS, 'GET', '/v1/workers')).json.workers.length;
    await expect.poll(workers, { timeout: 30_000 }).toBe(share);
    expect(await as(EVIL, 'POST', '/v1/leases', body)).toMatchObject({ status: 429, json: { code: 'BUFFER_FULL' } });
    await newTask('ads');
    expect((await as(OPS, 'POST', '/v1/leases', { queues: ['ads'], waitMs: 10_000 })).json.leases).toHaveLength(1);
    leaving.abort();
    await Promise.all(waiting);
  }, 60_000);

  test('streams of tasks, and of events', async () => {
    const leaving = new AbortController();
    const { signal } = leaving;
    const headers = { authorization: `Bearer ${EVIL}` };
    for (let count = 0; count < LIMITS.ndjsonStreamsMax / 2; count++) {
      const body = new ReadableStream({ start: (to) => to.enqueue(Buffer.from('{"name":"x","queue":"mail.a"}\n')) });
      const type = { 'content-type': 'application/x-ndjson' };
      const request = { method: 'POST', headers: { ...headers, ...type }, body, duplex: 'half', signal };
      await fetch(`${url}/v1/tasks`, request as RequestInit);
    }
    for (let count = 0; count < LIMITS.eventStreamsMax / 2; count++) {
      await fetch(`${url}/v1/events?queue=mail.a`, { headers, signal });
    }
    const lines = await fetch(`${url}/v1/tasks`, {
      ...{ method: 'POST', headers: { ...headers, 'content-type': 'application/x-ndjson' }, body: '\n' },
    });
    expect(lines.status).toBe(429);
    expect((await as(EVIL, 'GET', '/v1/events?queue=mail.a')).status).toBe(429);
    const theirs = await fetch(`${url}/v1/events`, { headers: { authorization: `Bearer ${OPS}` }, signal });
    expect(theirs.status).toBe(200);
    leaving.abort();
  }, 60_000);
});
