import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Server } from '../../src/server/server.ts';
import { Program } from '../conformance/program.ts';
import { RunningCommand } from '../support/command.ts';
import { HttpPlace, httpBackends, post } from './place.ts';

for (const backend of await httpBackends()) {
  describe(`leases over ${backend.name}`, () => {
    let place: HttpPlace;
    let queues = 0;

    beforeAll(async () => {
      place = await backend.open();
    });
    afterAll(() => place.close());

    const newQueue = (): string => `leases-${++queues}`;

    test('a task is leased, completed, and its result is there', async () => {
      const queue = newQueue();
      const task = await place.client.enqueue('add', { a: 1, b: 2 }, { queue });
      const lease = await place.leaseOne({ queues: [queue] });
      expect(lease).toMatchObject({
        id: task.id,
        queue,
        name: 'add',
        attempt: 1,
        maxAttempts: 3,
        payload: { a: 1, b: 2 },
      });
      expect(lease.lease).toMatch(/^[0-9a-f]{32}$/);
      expect(await place.post(`/v1/leases/${lease.lease}/complete`, { result: 3 })).toEqual({ status: 204 });
      expect(await task.result()).toBe(3);
    });

    test('a request waits for a task that is not there yet', async () => {
      const queue = newQueue();
      const waiting = place.leaseOne({ queues: [queue], waitMs: 20_000 });
      await waitForWorkers(place, queue);
      const task = await place.client.enqueue('late', null, { queue });
      expect((await waiting).id).toBe(task.id);
    });

    test('a request gets nothing when nothing comes in its time', async () => {
      expect(await place.lease({ queues: [newQueue()] })).toEqual([]);
    });

    test('a task that failed is leased again with its second attempt, and one that failed for good is dead', async () => {
      const queue = newQueue();
      const task = await place.client.enqueue('fragile', null, { queue, backoff: { delayMs: 0 } });
      const first = await place.leaseOne({ queues: [queue] });
      const error = { message: 'out of paper', name: 'PrinterError' };
      expect(await place.post(`/v1/leases/${first.lease}/fail`, { error })).toEqual({ status: 204 });
      const second = await place.leaseOne({ queues: [queue] });
      expect(second).toMatchObject({ id: task.id, attempt: 2 });
      expect(await place.post(`/v1/leases/${second.lease}/fail`, { error, final: true })).toEqual({ status: 204 });
      await expect(task.result()).rejects.toMatchObject({
        code: 'TASK_DEAD',
        cause: { name: 'PrinterError', message: 'out of paper', code: 'HANDLER_FAILED' },
      });
    });

    test('a task that is released is leased again at no cost', async () => {
      const queue = newQueue();
      const task = await place.client.enqueue('later', null, { queue });
      const first = await place.leaseOne({ queues: [queue] });
      expect(await place.post(`/v1/leases/${first.lease}/release`)).toEqual({ status: 204 });
      expect(await place.leaseOne({ queues: [queue] })).toMatchObject({ id: task.id, attempt: 1 });
    });

    test('a lease that nobody settles is over: the task runs again with attempt 2, and the old lease is refused', async () => {
      const queue = newQueue();
      const task = await place.client.enqueue('forgotten', null, { queue });
      const first = await place.leaseOne({ queues: [queue], leaseMs: 1000 });
      const second = await place.leaseOne({ queues: [queue] });
      expect(second).toMatchObject({ id: task.id, attempt: 2 });
      const refused = await place.post(`/v1/leases/${first.lease}/complete`);
      expect(refused).toMatchObject({ status: 409, body: { code: 'LEASE_LOST', details: { lease: first.lease } } });
      expect(await place.post(`/v1/leases/${second.lease}/complete`)).toEqual({ status: 204 });
      expect(await task.result()).toBeUndefined();
      if (backend.hasStore) {
        expect((await task.info()).failures).toMatchObject([{ attempt: 1, error: { code: 'WORKER_LOST' } }]);
      }
    });

    test('a lease is settled once', async () => {
      const queue = newQueue();
      await place.client.enqueue('once', null, { queue });
      const { lease } = await place.leaseOne({ queues: [queue] });
      expect(await place.post(`/v1/leases/${lease}/complete`)).toEqual({ status: 204 });
      for (const end of ['complete', 'release', 'extend']) {
        const again = await place.post(`/v1/leases/${lease}/${end}`);
        expect(again).toMatchObject({ status: 409, body: { code: 'LEASE_LOST' } });
      }
    });

    test('many are settled at once, and those that are no leases are named', async () => {
      const queue = newQueue();
      const batch = await place.client.enqueueMany('many', [1, 2, 3, 4], { queue, maxAttempts: 1 });
      const leases = await place.lease({ queues: [queue], tasksMax: 10, waitMs: 10_000 });
      while (leases.length < 4) leases.push(await place.leaseOne({ queues: [queue] }));
      const [a, b, c, d] = leases.sort((one, other) => one.payload - other.payload).map(({ lease }) => lease);
      const answer = await place.post('/v1/leases/settle', {
        complete: [{ lease: a, result: 'a' }, { lease: b }, { lease: 'nobody’s' }],
        fail: [{ lease: c, error: { message: 'no' } }],
        release: [{ lease: d }],
      });
      expect(answer).toEqual({ status: 200, body: { settled: 4, lost: ['nobody’s'] } });
      expect(await batch.at(0).result()).toBe('a');
      expect(await batch.at(1).result()).toBeUndefined();
      await expect(batch.at(2).result()).rejects.toMatchObject({ code: 'TASK_DEAD' });
      expect(await place.leaseOne({ queues: [queue] })).toMatchObject({ payload: 4, attempt: 1 });
    });

    test('a client that goes away while it waits loses nothing', async () => {
      const queue = newQueue();
      const leaving = new AbortController();
      const waiting = place.lease({ queues: [queue], tasksMax: 10, waitMs: 20_000 }, leaving.signal);
      await waitForWorkers(place, queue);
      leaving.abort();
      await expect(waiting).rejects.toThrow('abort');
      const task = await place.client.enqueue('kept', null, { queue });
      expect(await place.leaseOne({ queues: [queue] })).toMatchObject({ id: task.id, attempt: 1 });
    });

    test('of twenty that ask at the same time each task goes to one', { timeout: 60_000 }, async () => {
      const queue = newQueue();
      const count = backend.name.startsWith('Rabbit') ? 100 : 1000;
      await place.client.enqueueMany(
        'shared',
        Array.from({ length: count }, (_, index) => index),
        { queue },
      );
      const got: number[] = [];
      const ask = async (): Promise<void> => {
        while (got.length < count) {
          const leases = await place.lease({ queues: [queue], tasksMax: 7, waitMs: 500 });
          got.push(...leases.map(({ payload }) => payload));
          const complete = leases.map(({ lease }) => ({ lease }));
          const { body } = await place.post('/v1/leases/settle', { complete });
          expect(body).toEqual({ settled: leases.length, lost: [] });
        }
      };
      await Promise.all(Array.from({ length: 20 }, ask));
      expect(got.sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, index) => index));
    });
  });
}

describe('leases of an embedded server', () => {
  let place: HttpPlace;

  beforeEach(async () => {
    place = await HttpPlace.open();
  });
  afterEach(() => place.close());

  test('a lease that is extended outlives its first time', async () => {
    await place.client.enqueueMany('long', ['a', 'b']);
    const [extended, other] = await place.lease({ tasksMax: 2, leaseMs: 1000 });
    const { status, body } = await place.post(`/v1/leases/${extended.lease}/extend`, { leaseMs: 60_000 });
    expect(status).toBe(200);
    expect(body).toEqual({ leaseEndsAtMs: expect.any(Number), cancelRequested: false });
    expect(body.leaseEndsAtMs - extended.leaseEndsAtMs).toBeGreaterThan(50_000);
    // When the other one's time is over, so would have been that of the first.
    expect(await place.leaseOne()).toMatchObject({ id: other.id, attempt: 2 });
    expect(await place.post(`/v1/leases/${extended.lease}/complete`)).toEqual({ status: 204 });
  });

  test('a lease is never longer than its task may run, and then the attempt has timed out', async () => {
    const task = await place.client.enqueue('short', null, { timeoutMs: 500, maxAttempts: 1 });
    const lease = await place.leaseOne({ leaseMs: 60_000 });
    expect(lease.leaseEndsAtMs).toBe(lease.timesOutAtMs);
    const { body } = await place.post(`/v1/leases/${lease.lease}/extend`, { leaseMs: 60_000 });
    expect(body.leaseEndsAtMs).toBe(lease.timesOutAtMs);
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_DEAD', cause: { code: 'TASK_TIMEOUT' } });
    expect(await place.post(`/v1/leases/${lease.lease}/complete`)).toMatchObject({ status: 409 });
  });

  test('who has a task that is to be cancelled is told when extending, and ends it as usual', async () => {
    const task = await place.client.enqueue('unwanted', null);
    const { lease } = await place.leaseOne();
    expect(await task.cancel()).toBe('requested');
    const extended = async (): Promise<boolean> =>
      (await place.post(`/v1/leases/${lease}/extend`)).body.cancelRequested;
    await expect.poll(extended).toBe(true);
    expect(await place.post(`/v1/leases/${lease}/release`)).toEqual({ status: 204 });
    await expect(task.result()).rejects.toMatchObject({ code: 'TASK_CANCELLED' });
  });

  test('progress, log and worker of a leased task are shown', async () => {
    const task = await place.client.enqueue('watched', null);
    const { lease } = await place.leaseOne({ worker: 'crawler-7' });
    expect(await place.post(`/v1/leases/${lease}/progress`, { value: 0.5, message: 'half' })).toEqual({ status: 204 });
    expect(await place.post(`/v1/leases/${lease}/log`, { text: 'page 12' })).toEqual({ status: 204 });
    await expect
      .poll(() => task.info())
      .toMatchObject({
        state: 'active',
        progress: { value: 0.5, message: 'half' },
        log: { lines: [{ attempt: 1, text: 'page 12' }] },
      });
    expect((await place.client.status()).workers).toMatchObject([{ name: 'crawler-7', running: 1 }]);
  });

  test('bytes come and go as base64, and JSON keeps all its digits', async () => {
    const bytes = Uint8Array.of(0, 255, 1);
    const task = await place.client.enqueue('bytes', bytes);
    const lease = await place.leaseOne();
    expect(lease).toMatchObject({ payloadBase64: 'AP8B' });
    expect(lease).not.toHaveProperty('payload');
    await place.post(`/v1/leases/${lease.lease}/complete`, { resultBase64: 'AP8B' });
    expect(await place.broker.outcome(task.id, { timeoutMs: 5000 })).toEqual({
      state: 'completed',
      result: Buffer.from(bytes),
    });
    await place.broker.enqueue(
      {
        ...{ queue: 'default', name: 'digits', priority: 4, maxAttempts: 1, timeoutMs: 1000 },
        backoff: { type: 'fixed', delayMs: 0, maxDelayMs: 0, jitter: false },
      },
      '12345678901234567890',
      { kind: 'now' },
    );
    const response = await fetch(`${place.url}/v1/leases`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"waitMs":5000}',
    });
    expect(await response.text()).toContain('"payload":12345678901234567890}');
  });

  test.each([
    ['more tasks than an answer may have', '/v1/leases', { tasksMax: 1001 }],
    ['a wait that is too long', '/v1/leases', { waitMs: 60_001 }],
    ['a lease that is too short', '/v1/leases', { leaseMs: 999 }],
    ['no queue', '/v1/leases', { queues: [] }],
    ['a queue that is no name', '/v1/leases', { queues: ['\u0000'] }],
    ['a worker that is no name', '/v1/leases', { worker: 'a\nb' }],
    ['a key that it does not know', '/v1/leases', { queue: 'default' }],
    ['a failure without an error', '/v1/leases/x/fail', {}],
    ['two results', '/v1/leases/x/complete', { result: 1, resultBase64: '' }],
    ['a lease that is named twice', '/v1/leases/settle', { complete: [{ lease: 'x' }], release: [{ lease: 'x' }] }],
    ['more than may be settled at once', '/v1/leases/settle', { release: Array(1001).fill({ lease: 'x' }) }],
  ])('%s is refused', async (_what, path, body) => {
    expect(await place.post(path, body)).toMatchObject({ status: 400, body: { code: 'INVALID_ARGUMENT' } });
  });

  test('a body that is broken JSON is refused', async () => {
    const response = await fetch(`${place.url}/v1/leases`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"tasksMax": 1',
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'INVALID_ARGUMENT', detail: expect.stringContaining('JSON') });
  });

  test('a result that is not sent as JSON is refused, not lost', async () => {
    const task = await place.client.enqueue('form', null);
    const { lease } = await place.leaseOne();
    const complete = (type: string): Promise<Response> =>
      fetch(`${place.url}/v1/leases/${lease}/complete`, {
        method: 'POST',
        headers: { 'content-type': type },
        body: '{"result": 3}',
      });
    const refused = await complete('application/x-www-form-urlencoded');
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({ detail: expect.stringContaining('content-type: application/json') });
    expect((await complete('application/json; charset=utf-8')).status).toBe(204);
    expect(await task.result()).toBe(3);
  });

  test('headers go from an enqueue over HTTP to a lease', async () => {
    const { status, body } = await place.post('/v1/tasks', { name: 'told', headers: { tenant: 'a', trace: 'ü' } });
    expect(status).toBe(201);
    expect(await place.leaseOne()).toMatchObject({ id: body.id, headers: { tenant: 'a', trace: 'ü' } });
  });

  test('a result that is too large changes nothing', async () => {
    await place.client.enqueue('large', null);
    const { lease } = await place.leaseOne();
    const refused = await place.post(`/v1/leases/${lease}/complete`, { result: 'x'.repeat(1024 * 1024) });
    expect(refused).toMatchObject({ status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } });
    expect(await place.post(`/v1/leases/${lease}/complete`, { result: 'x' })).toEqual({ status: 204 });
  });

  test('an answer holds no more than 16 MiB of payloads', async () => {
    const megabyte = 'x'.repeat(1024 * 1024 - 2);
    await Promise.all(Array.from({ length: 20 }, () => place.client.enqueue('large', megabyte)));
    expect((await place.lease({ tasksMax: 20 })).length).toBe(16);
    expect((await place.lease({ tasksMax: 20 })).length).toBe(4);
  });

  test('tasks whose answer did not arrive go back uncharged', async () => {
    const megabyte = 'x'.repeat(1024 * 1024 - 2);
    await Promise.all(Array.from({ length: 16 }, () => place.client.enqueue('large', megabyte)));
    const { hostname, port } = new URL(place.url);
    const socket = connect(Number(port), hostname).pause();
    const body = '{"tasksMax":16}';
    socket.write(
      `POST /v1/leases HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const queue = async (): Promise<unknown> => (await place.client.status()).queues[0];
    await expect.poll(queue).toMatchObject({ active: 16 });
    socket.destroy();
    await expect.poll(queue).toMatchObject({ active: 0, ready: 16 });
    expect(await place.leaseOne()).toMatchObject({ attempt: 1 });
  });

  test('500 requests that wait at the same time get a task each', { timeout: 60_000 }, async () => {
    const waiting = Array.from({ length: 500 }, () => place.leaseOne({ queues: ['crowd'], waitMs: 60_000 }));
    await waitForWorkers(place, 'crowd', 500);
    await place.client.enqueueMany(
      'each',
      Array.from({ length: 500 }, (_, index) => index),
      { queue: 'crowd' },
    );
    const got = (await Promise.all(waiting)).map(({ payload }) => payload);
    expect(new Set(got).size).toBe(500);
  });

  test('who settles and asks again goes on with the same worker, whoever else waits', async () => {
    await place.client.enqueueMany('next', [1, 2]);
    const first = await place.leaseOne({ worker: 'quick' });
    const workers = async (): Promise<string[]> => (await place.client.status()).workers.map(({ id }) => id);
    const before = await workers();
    const other = place.lease({ queues: ['other'], waitMs: 60_000 });
    await waitForWorkers(place, 'other');
    await place.post(`/v1/leases/${first.lease}/complete`);
    expect(await place.leaseOne({ worker: 'quick' })).toMatchObject({ payload: 2, attempt: 1 });
    expect(await workers()).toEqual(expect.arrayContaining(before));
    expect((await workers()).length).toBe(2);
    await place.server.stop({ timeoutMs: 0 });
    expect(await other).toEqual([]);
  });

  test('what came to a client that did not ask again goes to another at no cost', async () => {
    await place.client.enqueueMany('next', [1, 2]);
    const first = await place.leaseOne({ worker: 'leaving' });
    await place.post(`/v1/leases/${first.lease}/complete`);
    expect(await place.leaseOne({ worker: 'staying' })).toMatchObject({ payload: 2, attempt: 1 });
    await waitForWorkers(place, 'default');
  });

  test('a server that stops answers those who wait with nothing, and hands back what is leased at no cost', async () => {
    const task = await place.client.enqueue('interrupted', null, { queue: 'busy' });
    const held = await place.leaseOne({ queues: ['busy'] });
    const waiting = place.lease({ queues: ['idle'], waitMs: 60_000 });
    await waitForWorkers(place, 'idle');
    await place.server.stop({ timeoutMs: 0 });
    expect(await waiting).toEqual([]);
    expect(await task.info()).toMatchObject({ id: held.id, state: 'ready', attempt: 0, failures: [] });
  });

  test('a server that stops waits for leases that are settled in time', async () => {
    const task = await place.client.enqueue('nearly done', null);
    const { lease } = await place.leaseOne();
    const stopped = place.server.stop({ timeoutMs: 10_000 });
    expect(await place.post('/v1/leases', {})).toMatchObject({ status: 503, body: { code: 'STOPPING' } });
    expect(await place.post(`/v1/leases/${lease}/complete`, { result: 'done' })).toEqual({ status: 204 });
    await stopped;
    expect(await task.result()).toBe('done');
  });
});

describe('leases of a server', () => {
  let directory: string;
  const running: RunningCommand[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-leases-'));
  });
  afterEach(async () => {
    for (const command of running.splice(0)) await command.kill();
    await rm(directory, { recursive: true });
  });

  /** Its URL, once it serves. */
  async function start(): Promise<string> {
    const command = new RunningCommand(['server', '--data', 'data', '--port', '0', '--http-port', '0'], { directory });
    running.push(command);
    const [, url] = await command.said(/HTTP API on (http:\S+)/);
    return url as string;
  }

  async function enqueue(url: string, name: string): Promise<void> {
    const headers = { 'content-type': 'application/x-ndjson' };
    const response = await fetch(`${url}/v1/tasks`, { method: 'POST', headers, body: JSON.stringify({ name }) });
    expect(await response.text()).toContain('"isNew":true');
  }

  test('that is killed are over: the task comes again uncharged, and the old lease is refused', async () => {
    const first = await start();
    await enqueue(first, 'interrupted');
    const { body } = await post(`${first}/v1/leases`, { waitMs: 10_000 });
    const [before] = body.leases;
    expect(before).toMatchObject({ name: 'interrupted', attempt: 1 });
    await running[0]?.kill();
    const second = await start();
    const again = await post(`${second}/v1/leases`, { waitMs: 10_000 });
    expect(again.body.leases).toMatchObject([{ id: before.id, attempt: 1 }]);
    const refused = await post(`${second}/v1/leases/${before.lease}/complete`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'LEASE_LOST' } });
    const [{ lease }] = again.body.leases;
    expect(await post(`${second}/v1/leases/${lease}/complete`)).toEqual({ status: 204 });
  });

  test('that stops may be settled while it waits, and who waits for tasks is answered at once', async () => {
    const url = await start();
    await enqueue(url, 'nearly done');
    const { body } = await post(`${url}/v1/leases`, { waitMs: 10_000 });
    const waiting = post(`${url}/v1/leases`, { waitMs: 60_000, queues: ['idle'] });
    await expect.poll(async () => (await post(`${url}/v1/leases/${body.leases[0].lease}/extend`)).status).toBe(200);
    running[0]?.signal('SIGTERM');
    expect(await waiting).toEqual({ status: 200, body: { leases: [] } });
    expect(await post(`${url}/v1/leases/${body.leases[0].lease}/complete`)).toEqual({ status: 204 });
    expect(await running[0]?.exited).toMatchObject({ code: 0 });
  });
});

describe('leases over TCP', () => {
  test('tasks that may have ended a worker are leased one at a time', async () => {
    const server = await Server.start({ directory: null, port: 0 });
    const place = await HttpPlace.open(server.url);
    const program = Program.start('worker', [server.url, '3']);
    try {
      await program.lines.count(1);
      await place.client.enqueueMany('hang', [1, 2, 3]);
      await program.lines.count(4);
      await program.kill();
      const leases: { attempt: number }[] = [];
      for (let asked = 0; asked < 3; asked++) {
        const got = await place.lease({ tasksMax: 10, waitMs: 10_000 });
        expect(got.length).toBe(1);
        leases.push(...got);
      }
      expect(leases).toMatchObject([{ attempt: 2 }, { attempt: 2 }, { attempt: 2 }]);
    } finally {
      await place.close();
      await server.stop({ timeoutMs: 0 });
    }
  });

  test('a lease outlives a restart of the backend, which it settles in', { timeout: 30_000 }, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-leases-'));
    const server = await Server.start({ directory, port: 0 });
    const { port } = server;
    const place = await HttpPlace.open(server.url, { reconnect: { initialDelayMs: 10, maxDelayMs: 50 } });
    const task = await place.client.enqueue('kept', null);
    const { lease } = await place.leaseOne();
    await server.stop({ timeoutMs: 0 });
    const again = await Server.start({ directory, port });
    try {
      // Until the consumption is back too, the answer waits.
      await expect.poll(() => task.info()).toMatchObject({ state: 'active' });
      expect(await place.post(`/v1/leases/${lease}/complete`, { result: 1 })).toEqual({ status: 204 });
      expect(await task.result()).toBe(1);
    } finally {
      await place.close();
      await again.stop({ timeoutMs: 0 });
      await rm(directory, { recursive: true });
    }
  });
});

/** Until a request for tasks of the queue has reached the backend, where that can be seen. */
async function waitForWorkers(place: HttpPlace, queue: string, count = 1): Promise<void> {
  if (place.broker.url.startsWith('amqp')) return;
  const waiting = async (): Promise<number> =>
    (await place.client.status()).workers.filter(({ queues }) => queues.includes(queue)).length;
  await expect.poll(waiting).toBe(count);
}
