import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { until } from '../conformance/events.ts';
import { type Answered, ask, type Method } from './ask.ts';
import { type HttpPlace, httpBackends } from './place.ts';

// The services may have to be started.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const backends = await httpBackends();

for (const backend of backends.filter(({ hasStore }) => hasStore)) {
  describe(`the HTTP API over ${backend.name}`, () => {
    let place: HttpPlace;
    let names = 0;

    beforeAll(async () => {
      place = await backend.open();
    });
    afterAll(() => place.close());

    const newName = (): string => `name-${++names}`;
    const send = (method: Method, path: string, body?: unknown): Promise<Answered> =>
      ask(`${place.url}${path}`, method, body);
    const get = async (path: string): Promise<Answered['json']> => {
      const { status, json, text } = await send('GET', path);
      expect(status, text).toBe(200);
      return json;
    };
    const enqueue = async (task: object): Promise<string> => {
      const { status, json, text } = await send('POST', '/v1/tasks', task);
      expect(status, text).toBe(201);
      return json.id;
    };
    /** All steps of it. */
    const changeAll = async (change: 'cancel' | 'retry', filter: object): Promise<{ count: number }> => {
      let count = 0;
      let after: string | undefined;
      do {
        const { status, json, text } = await send('POST', `/v1/tasks/${change}`, { ...filter, after });
        expect(status, text).toBe(200);
        count += json.count;
        after = json.next;
      } while (after !== undefined);
      return { count };
    };
    const runAll = async (queue: string): Promise<void> => {
      const worker = await place.client.work(
        {
          double: (input) => (input as number) * 2,
          bytes: () => {},
          fail: () => {
            throw new Error('out of paper');
          },
        },
        { queues: [queue] },
      );
      await until(
        () => place.client.tasks.list({ queue }),
        ({ tasks }) => tasks.every(({ state }) => ['completed', 'dead', 'cancelled'].includes(state)),
        `the ends of the tasks of ${queue}`,
      );
      await worker.stop();
    };

    test('a task is enqueued with all its options, and looked at', async () => {
      const queue = newName();
      const payload = { 'ä"\n': [1, null, { deep: true }] };
      const backoff = { type: 'fixed', delayMs: 5, maxDelayMs: 10, jitter: false };
      const options = {
        priority: 7,
        maxAttempts: 2,
        timeoutMs: 5000,
        backoff,

        delayMs: 3_600_000,
      };
      const created = await send('POST', '/v1/tasks', { queue, name: 'double', payload, ...options });
      expect(created).toMatchObject({ status: 201, json: { id: expect.any(String), isNew: true } });
      const task = await get(`/v1/tasks/${created.json.id}`);
      expect(task).toMatchObject({ queue, name: 'double', priority: 7, maxAttempts: 2, timeoutMs: 5000 });
      expect(task).toMatchObject({ state: 'scheduled', attempt: 0, failures: [] });
      expect(JSON.parse(task.payload.data)).toEqual(payload);
    });

    test('JSON is passed on as it is written, with all digits of its numbers', async () => {
      const queue = newName();
      const json = '{"id": 12345678901234567890, "whole": 1.0, "far": 1e400, "same": 1, "same": 2}';
      const task = `{"payload": 0, "queue": "${queue}", "name": "x" , "payload" : ${json} }`;
      const other = `{"queue": "${queue}", "name": "y", "payload": ${json}}`;
      for (const [type, path, body, count] of [
        ['application/json', '/v1/tasks', task, 1],
        ['application/json', '/v1/tasks', ` [ ${task} ,${task}, ${other}]`, 3],
        ['application/json', '/v1/flows', `{"tasks": [{"key": "a", ${other.slice(1)}]}`, 1],
        ['application/x-ndjson', '/v1/tasks', task, 1],
      ] as const) {
        const headers = { 'content-type': type };
        const answer = await fetch(`${place.url}${path}`, { method: 'POST', headers, body });
        const text = await answer.text();
        expect(text).toContain('"isNew":true');
        const ids = [...text.matchAll(/"id":"([^"]+)"/g)].map(([, id]) => id);
        expect(ids).toHaveLength(count);
        for (const id of ids) expect((await get(`/v1/tasks/${id}`)).payload.data, path).toBe(json);
      }
      const leases = await fetch(`${place.url}/v1/leases`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ queues: [queue], waitMs: 10_000 }),
      });
      const leased = await leases.text();
      expect(leased).toContain(`"payload":${json}`);
      const [{ lease, id }] = JSON.parse(leased).leases;
      const completed = await fetch(`${place.url}/v1/leases/${lease}/complete`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: `{"result": ${json}}`,
      });
      expect(completed.status).toBe(204);
      expect((await send('GET', `/v1/tasks/${id}/result?waitMs=10000`)).text).toBe(
        `{"state":"completed","result":${json}}`,
      );
    });

    test('bytes are enqueued in base64', async () => {
      const id = await enqueue({ queue: newName(), name: 'bytes', payloadBase64: '/wD+' });
      expect((await get(`/v1/tasks/${id}`)).payload).toEqual({ encoding: 'base64', data: '/wD+' });
    });

    test('a task without a payload has null, and one for a moment that is past is ready', async () => {
      const id = await enqueue({ queue: newName(), name: 'double', runAtMs: 1 });
      expect(await get(`/v1/tasks/${id}`)).toMatchObject({ state: 'ready', payload: { data: 'null' } });
    });

    test('an array is enqueued in its order, whether its tasks are alike or not', async () => {
      const [alike, mixed] = [newName(), newName()];
      for (const [queue, extra] of [
        [alike, {}],
        [mixed, { priority: 9 }],
      ] as const) {
        const tasks = [1, 2, 3].map((payload) => ({ queue, name: 'double', payload, ...(payload === 2 ? extra : {}) }));
        const { status, json } = await send('POST', '/v1/tasks', tasks);
        expect(status).toBe(201);
        const infos = await Promise.all(json.tasks.map(({ id }: { id: string }) => get(`/v1/tasks/${id}`)));
        expect(infos.map(({ payload }) => payload.data)).toEqual(['1', '2', '3']);
      }
    });

    test('an array of which one task cannot be is refused whole, naming it', async () => {
      const queue = newName();
      const { status, json } = await send('POST', '/v1/tasks', [
        { queue, name: 'double' },
        { queue, name: 'double', priority: 17 },
      ]);
      expect({ status, json }).toMatchObject({ status: 400, json: { code: 'INVALID_ARGUMENT' } });
      expect(json.detail).toContain('priority is 17');
      expect((await get(`/v1/tasks?queue=${queue}`)).tasks).toEqual([]);
    });

    test('a unique task is enqueued once, for as long as was said', async () => {
      const task = { queue: newName(), name: 'double', uniqueKey: 'one', uniqueForMs: 3_600_000 };
      const first = await send('POST', '/v1/tasks', task);
      const second = await send('POST', '/v1/tasks', task);
      expect(second.json).toEqual({ id: first.json.id, isNew: false });
    });

    test('tasks are listed by queue, name and state, a page at a time', async () => {
      const queue = newName();
      const ids = [];
      for (const name of ['a', 'b', 'a', 'b', 'a']) ids.push(await enqueue({ queue, name }));
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = await get(`/v1/tasks?queue=${queue}&limit=2${after === undefined ? '' : `&after=${after}`}`);
        expect(page.tasks.length).toBeLessThanOrEqual(2);
        seen.push(...page.tasks.map(({ id }: { id: string }) => id));
        after = page.next;
      } while (after !== undefined);
      expect(seen).toEqual(ids);
      expect((await get(`/v1/tasks?queue=${queue}&name=b&state=ready`)).tasks).toHaveLength(2);
      expect((await get(`/v1/tasks?queue=${queue}&state=dead`)).tasks).toEqual([]);
    });

    test('a result is waited for, and is there afterwards', async () => {
      const queue = newName();
      const id = await enqueue({ queue, name: 'double', payload: 21 });
      const waiting = get(`/v1/tasks/${id}/result?waitMs=30000`);
      await runAll(queue);
      expect(await waiting).toEqual({ state: 'completed', result: 42 });
      expect(await get(`/v1/tasks/${id}/result`)).toEqual({ state: 'completed', result: 42 });
    });

    test('the end of a dead and of a cancelled task is told, and of one that goes on that it did not end', async () => {
      const queue = newName();
      const dead = await enqueue({ queue, name: 'fail', maxAttempts: 1 });
      await runAll(queue);
      expect(await get(`/v1/tasks/${dead}/result`)).toMatchObject({
        state: 'dead',
        error: { name: 'Error', message: 'out of paper', code: 'HANDLER_FAILED' },
      });
      const other = await enqueue({ queue, name: 'double' });
      for (const query of ['', '?waitMs=1']) {
        expect(await send('GET', `/v1/tasks/${other}/result${query}`)).toMatchObject({
          status: 504,
          json: { code: 'TIMEOUT', retryable: true },
        });
      }
      expect(await send('POST', `/v1/tasks/${other}/cancel`)).toMatchObject({
        status: 200,
        json: { outcome: 'cancelled' },
      });
      expect(await get(`/v1/tasks/${other}/result`)).toEqual({ state: 'cancelled' });
      expect(await send('POST', `/v1/tasks/${other}/cancel`)).toMatchObject({
        status: 409,
        json: { code: 'CONFLICT' },
      });
    });

    test('a dead task is retried, and a queue of dead tasks is redriven', async () => {
      const queue = newName();
      const [one, other] = [
        await enqueue({ queue, name: 'fail', maxAttempts: 1 }),
        await enqueue({ queue, name: 'fail', maxAttempts: 1 }),
      ];
      await runAll(queue);
      await send('POST', `/v1/queues/${queue}/pause`);
      expect(await send('POST', `/v1/tasks/${one}/retry`)).toMatchObject({ status: 204, text: '' });
      expect((await get(`/v1/tasks/${one}`)).state).toBe('ready');
      expect(await send('POST', `/v1/queues/${queue}/redrive`)).toMatchObject({ status: 200, json: { count: 1 } });
      expect((await get(`/v1/tasks/${other}`)).state).toBe('ready');
      expect(await send('POST', `/v1/tasks/${one}/retry`)).toMatchObject({ status: 409 });
    });

    test('dead tasks are grouped by what they died of, found by it, and retried or cancelled by it', async () => {
      const queue = newName();
      for (let count = 0; count < 3; count++) await enqueue({ queue, name: 'fail', maxAttempts: 1 });
      const other = await enqueue({ queue, name: 'unknown', maxAttempts: 1 });
      await runAll(queue);
      const { groups, complete } = await get(`/v1/dead-groups?queue=${queue}`);
      expect(complete).toBe(true);
      expect(groups).toMatchObject([
        { queue, name: 'fail', code: 'HANDLER_FAILED', error: 'Error', message: 'out of paper', count: 3 },
        { queue, name: 'unknown', code: 'NO_HANDLER', count: 1, sampleId: other },
      ]);
      const found = await get(`/v1/tasks?queue=${queue}&error=OUT%20OF&order=newest`);
      expect(found.tasks).toHaveLength(3);
      await send('POST', `/v1/queues/${queue}/pause`);
      const filter = { queue, state: 'dead', errorGroup: groups[0].group };
      expect((await changeAll('retry', filter)).count).toBe(3);
      expect((await get(`/v1/tasks?queue=${queue}&state=ready`)).tasks).toHaveLength(3);
      expect((await changeAll('cancel', { queue, state: 'ready', fromMs: 0 })).count).toBe(3);
      expect((await get(`/v1/tasks?queue=${queue}&state=dead`)).tasks).toMatchObject([{ id: other }]);
    });

    test('headers travel with a task', async () => {
      const id = await enqueue({ queue: newName(), name: 'double', headers: { tenant: 'acme' } });
      expect((await get(`/v1/tasks/${id}`)).headers).toEqual({ tenant: 'acme' });
    });

    test('a flow is submitted whole, in its order, though a task may stand before its parents', async () => {
      const queue = newName();
      const earlier = await enqueue({ queue, name: 'double', payload: 1 });
      const { status, json } = await send('POST', '/v1/flows', {
        tasks: [
          { key: 'last', queue, name: 'double', dependsOn: ['a', { key: 'b', onFailure: 'run' }, { id: earlier }] },
          { key: 'a', queue, name: 'double', payload: 2 },
          { key: 'b', queue, name: 'double', payload: 3 },
        ],
      });
      expect(status).toBe(201);
      expect(json.tasks.map(({ key }: { key: string }) => key)).toEqual(['last', 'a', 'b']);
      const [last, a, b] = json.tasks.map(({ id }: { id: string }) => id);
      const listed = (await get(`/v1/tasks?queue=${queue}`)).tasks.map(({ id }: { id: string }) => id);
      expect(listed).toEqual([earlier, last, a, b]);
      const graph = await get(`/v1/tasks/${a}/flow`);
      expect(graph.complete).toBe(true);
      expect(new Set(graph.tasks.map(({ id }: { id: string }) => id))).toEqual(new Set([earlier, last, a, b]));
      expect(graph.edges).toHaveLength(3);
      expect(graph.edges).toContainEqual({ from: b, to: last, onFailure: 'run' });
      expect(graph.edges).toContainEqual({ from: earlier, to: last, onFailure: 'cancel' });
      expect(graph.tasks).toContainEqual({ id: last, name: 'double', queue, state: 'blocked' });
      expect(await get(`/v1/tasks/${a}/flow?limit=2`)).toMatchObject({ complete: false });
    });

    test.each([
      [
        'a circle',
        [
          { key: 'a', dependsOn: ['b'] },
          { key: 'b', dependsOn: ['a'] },
        ],
        /circle/,
      ],
      ['a task that depends on itself', [{ key: 'a', dependsOn: ['a'] }], /circle|itself/],
      ['a key that is there twice', [{ key: 'a' }, { key: 'a' }], /two tasks have the key "a"/],
      ['a key that is not there', [{ key: 'a', dependsOn: ['b'] }], /depends on "b", which is no key of this flow/],
    ])('a flow with %s is refused, and nothing is enqueued', async (_what, tasks, message) => {
      const queue = newName();
      const { status, json } = await send('POST', '/v1/flows', {
        tasks: tasks.map((task) => ({ queue, name: 'double', ...task })),
      });
      expect({ status, code: json.code }).toEqual({ status: 400, code: 'INVALID_ARGUMENT' });
      expect(json.detail).toMatch(message);
      expect((await get(`/v1/tasks?queue=${queue}`)).tasks).toEqual([]);
    });

    test('a queue is paused, looked at, resumed, purged, and told how long to keep what has ended', async () => {
      const queue = `${newName()}/with %?&#`;
      const path = `/v1/queues/${encodeURIComponent(queue)}`;
      for (const payload of [1, 2]) await enqueue({ queue, name: 'double', payload });
      expect(await send('POST', `${path}/pause`)).toMatchObject({ status: 204, text: '' });
      expect(await get(path)).toMatchObject({
        ...{ name: queue, paused: true, ready: 2, totals: { enqueued: 2 } },
        rates: { enqueued: expect.any(Number), completed: expect.any(Number), failed: expect.any(Number) },
      });
      expect((await get('/v1/queues')).queues.map(({ name }: { name: string }) => name)).toContain(queue);
      expect(await send('POST', `${path}/resume`)).toMatchObject({ status: 204 });
      expect(await send('POST', `${path}/purge`)).toMatchObject({ status: 200, json: { count: 2 } });
      const retention = await send('PUT', `${path}/retention`, { deadAgeMs: 5000 });
      expect(retention).toMatchObject({ status: 200, json: { deadAgeMs: 5000, completedCountMax: 100_000 } });
      expect(await get(path)).toMatchObject({
        paused: false,
        ready: 0,
        totals: { cancelled: 2 },
        retention: retention.json,
      });
    });

    test('a schedule is made, listed, paused, resumed, run and removed', async () => {
      const name = `${newName()} at night`;
      const path = `/v1/schedules/${encodeURIComponent(name)}`;
      const queue = newName();
      const made = await send('PUT', path, {
        cron: '0 3 * * *',
        timeZone: 'Europe/Berlin',
        task: 'double',
        queue,
        payload: 4,
      });
      expect(made).toMatchObject({
        status: 200,
        json: {
          name,
          cron: '0 3 * * *',
          timeZone: 'Europe/Berlin',
          task: 'double',
          queue,
          paused: false,
          misfire: 'once',
        },
      });
      expect(await get(path)).toMatchObject({ payload: { encoding: 'utf8', data: '4' }, nextAtMs: expect.any(Number) });
      expect((await get('/v1/schedules')).schedules.map((each: { name: string }) => each.name)).toContain(name);
      expect(await send('POST', `${path}/pause`)).toMatchObject({ status: 204 });
      expect(await get(path)).toMatchObject({ paused: true });
      const { status, json } = await send('POST', `${path}/run`);
      expect(status).toBe(200);
      expect(await get(`/v1/tasks/${json.id}`)).toMatchObject({ queue, name: 'double', payload: { data: '4' } });
      expect(await send('POST', `${path}/resume`)).toMatchObject({ status: 204 });
      expect(await get(path)).toMatchObject({ paused: false, firedCount: 1, lastTaskId: json.id });
      expect(await send('DELETE', path)).toMatchObject({ status: 204 });
      for (const [method, rest] of [
        ['GET', ''],
        ['DELETE', ''],
        ['POST', '/run'],
        ['POST', '/pause'],
      ] as const) {
        expect(await send(method, `${path}${rest}`), method).toMatchObject({
          status: 404,
          json: { code: 'NOT_FOUND' },
        });
      }
    });

    test('workers and the status are those of the library', async () => {
      const worker = await place.client.work(
        { none: () => {} },
        { queues: [newName()], name: newName(), concurrency: 3 },
      );
      // A store is told by beats.
      await expect
        .poll(async () => (await get('/v1/workers')).workers)
        .toContainEqual(expect.objectContaining({ name: worker.name, concurrency: 3 }));
      const status = await get('/v1/stats');
      expect(Object.keys(status)).toEqual(Object.keys(await place.client.status()));
      await worker.stop();
    });

    test('a server says what it is, that it lives, and that it is ready', async () => {
      expect(await get('/v1/info')).toMatchObject({
        roles: ['produce', 'work', 'read', 'operate'],
        queues: ['*'],
        payloads: true,
        features: { tasks: true },
      });
      expect(await send('GET', '/healthz')).toMatchObject({ status: 200, text: 'ok' });
      expect(await send('GET', '/readyz')).toMatchObject({ status: 200, text: 'ready' });
      expect(await get('/v1/stats/history')).toMatchObject({ intervalMs: 5000, samples: expect.any(Array) });
    });

    test.each([
      ['POST', '/v1/tasks', {}, 400, 'name'],
      ['POST', '/v1/tasks', { name: 'x', qeue: 'a' }, 400, '"qeue"'],
      ['POST', '/v1/tasks', { name: '' }, 400, 'name'],
      ['POST', '/v1/tasks', { name: 'x', maxAttempts: 0 }, 400, 'maxAttempts is 0'],
      ['POST', '/v1/tasks', { name: 'x', delayMs: 5, runAtMs: 5 }, 400, 'delayMs and runAt'],
      ['POST', '/v1/tasks', { name: 'x', payload: 1, payloadBase64: 'AA==' }, 400, 'give one of them'],
      ['POST', '/v1/tasks', { name: 'x', payloadBase64: '?' }, 400, 'payloadBase64'],
      ['POST', '/v1/tasks', { name: 'x', uniqueScope: 'waiting' }, 400, 'uniqueKey'],
      ['POST', '/v1/tasks', { name: 'x', dependsOn: [{ id: 'a', onFailure: 'no' }] }, 400, 'onFailure'],
      ['POST', '/v1/tasks', { name: 'x', payload: 'x'.repeat(2 ** 20) }, 413, 'payload'],
      ['POST', '/v1/tasks', [], 400, '1'],
      ['POST', '/v1/tasks', 'text', 400, 'object'],
      ['POST', '/v1/flows', { tasks: [] }, 400, 'tasks'],
      ['GET', '/v1/tasks?state=lost', undefined, 400, 'state'],
      ['GET', '/v1/tasks?sort=up', undefined, 400, '"sort"'],
      ['GET', '/v1/tasks?limit=1001', undefined, 400, 'limit is 1001'],
      ['GET', '/v1/tasks/1-zzzz', undefined, 404, '1-zzzz'],
      ['GET', '/v1/tasks/1-zzzz/result?waitMs=60001', undefined, 400, 'waitMs'],
      ['POST', '/v1/tasks/retry', {}, 400, 'fromMs'],
      ['POST', '/v1/tasks/cancel', { limit: 5, state: 'dead' }, 400, '"limit"'],
      ['POST', '/v1/tasks/1-zzzz/retry', undefined, 404, '1-zzzz'],
      ['GET', '/v1/queues/nobody', undefined, 404, '"nobody"'],
      ['PUT', '/v1/queues/q/retention', { deadAge: 1 }, 400, '"deadAge"'],
      ['PUT', '/v1/schedules/s', { task: 'x' }, 400, 'cron'],
      ['PUT', '/v1/schedules/s', { task: 'x', cron: '61 * * * *' }, 400, '61'],
      ['GET', '/v1/nothing', undefined, 404, '/openapi.json'],
      ['DELETE', '/v1/tasks', undefined, 404, 'DELETE'],
    ] as const)('%s %s with %j is answered with a problem: %d', async (method, path, body, status, text) => {
      const answer = await send(method, path, body);
      expect(answer.json).toMatchObject({
        status,
        type: `urn:millrace:error:${answer.json?.code}`,
        retryable: false,
        detail: expect.stringContaining(text),
      });
      expect(answer.status).toBe(status);
      expect(answer.headers.get('content-type')).toBe('application/problem+json');
    });
  });
}

describe.runIf(backends.some(({ name }) => name === 'RabbitMQ'))('the HTTP API over RabbitMQ alone', () => {
  test('tasks are enqueued, and what needs a memory says where there is one', async () => {
    const place = await (backends.find(({ name }) => name === 'RabbitMQ') as (typeof backends)[0]).open();
    const tasks = [1, 2].map((payload) => ({ name: 'x', payload }));
    expect(await ask(`${place.url}/v1/tasks`, 'POST', tasks)).toMatchObject({
      status: 201,
      json: { tasks: [{ isNew: true }, { isNew: true }] },
    });
    for (const [method, path, body] of [
      ['GET', '/v1/tasks'],
      ['GET', '/v1/schedules'],
      ['POST', '/v1/queues/default/pause'],
      ['POST', '/v1/flows', { tasks: [{ key: 'a', name: 'x' }] }],
    ] as const) {
      expect(await ask(`${place.url}${path}`, method, body), path).toMatchObject({
        status: 501,
        json: { code: 'UNSUPPORTED', detail: expect.stringContaining("store: 'postgres://") },
      });
    }
    expect((await ask(`${place.url}/v1/info`)).json.url).not.toMatch(/:[^/]*@/);
    await place.close();
  });
});
