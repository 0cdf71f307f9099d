import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { Deferred, until } from '../conformance/events.ts';
import { ask } from './ask.ts';
import { HttpPlace } from './place.ts';

const SECRET = '9d1e4b7a6c3f2058e7d6b5a4';

let place: HttpPlace;
let manifest: string;

beforeAll(async () => {
  const keyring = new Keyring(Credentials.parse(`read keda ${SECRET}`, 'credentials'));
  place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] } } });
  manifest = await readFile(join(import.meta.dirname, '../../examples/kubernetes/keda.yaml'), 'utf8');
});
afterAll(() => place.close());

/** The value of the only such key. */
function fieldOf(key: string): string {
  const line = new RegExp(`^ +(?:- )?${key}: "?([^"{\\n]+)"?$`, 'gm');
  const found = [...manifest.matchAll(line)].filter(([all]) => !all.includes('type: Pods')).map(([, value]) => value);
  expect(found, key).toHaveLength(1);
  return found[0] as string;
}

/** As KEDA asks: with the credentials that the manifest names. */
function scaling(path: string, secret = SECRET) {
  return ask(`${place.url}${path}`, 'GET', undefined, { headers: { authorization: `Bearer ${secret}` } });
}

test('the manifest for KEDA asks for what there is, with a credential of the role read', async () => {
  expect(['type', 'metricType', 'format', 'authMode', 'parameter', 'key'].map(fieldOf)).toEqual([
    'metrics-api',
    'AverageValue',
    'json',
    'bearer',
    'token',
    'token',
  ]);
  const { pathname, search } = new URL(fieldOf('url'));
  // The pods take from the queues whose tasks are counted.
  expect(manifest).toContain(`--${search.slice(1)}\n`);
  expect(await scaling(`${pathname}${search}`, 'not-the-secret-of-anyone')).toMatchObject({ status: 401 });
  const { status, json } = await scaling(`${pathname}${search}`);
  expect(status).toBe(200);
  expect(json[fieldOf('valueLocation')]).toBe(0);
  await place.client.enqueueMany('resize', [1, 2, 3], { queue: 'images' });
  expect((await scaling(`${pathname}${search}`)).json[fieldOf('valueLocation')]).toBe(3);
  expect(Number(fieldOf('targetValue'))).toBeGreaterThan(0);
  await place.client.queue('images').purge();
});

test('a pod is given longer than its worker takes to stop', () => {
  const [, stopTimeoutMs] = /--stop-timeout-ms=(\d+)/.exec(manifest) ?? [];
  expect(Number(fieldOf('terminationGracePeriodSeconds')) * 1000).toBeGreaterThan(Number(stopTimeoutMs) + 10_000);
});

test('numbers for an autoscaler count what workers could do, and what they do', async () => {
  const { client } = place;
  await client.enqueueMany('held', Array(7).fill(null), { queue: 'paused' });
  await client.queue('paused').pause();
  await client.enqueue('later', null, { queue: 'a', delayMs: 3_600_000 });
  const go = new Deferred();
  const worker = await client.work({ wait: () => go.promise }, { queues: ['a', 'b'], concurrency: 2, prefetch: 3 });
  await client.enqueueMany('wait', Array(6).fill(null), { queue: 'b' });
  await client.enqueue('wait', null, { queue: 'elsewhere' });
  const path = '/v1/scaling?queues=a,b,paused,new&tasksPerWorker=4';
  const { json } = await until(
    () => scaling(path),
    (answer) => answer.json.active === 3,
    'three active tasks',
  );
  expect(json).toEqual({
    backlog: 6,
    oldestReadyMs: expect.any(Number),
    desiredWorkers: 2,
    ready: 10,
    active: 3,
    scheduled: 1,
    workers: 1,
    concurrency: 2,
    running: 2,
    utilisation: expect.any(Number),
  });
  expect((await scaling('/v1/scaling')).json).toMatchObject({ backlog: 7, ready: 11, desiredWorkers: 1 });
  expect((await scaling('/v1/scaling?queues=elsewhere')).json).toMatchObject({
    backlog: 1,
    workers: 0,
    utilisation: 0,
  });
  expect((await scaling('/v1/scaling?queues=new')).json).toMatchObject({ backlog: 0, oldestReadyMs: 0 });
  go.resolve();
  await worker.stop();
});

test.each(['queues=a,,b', 'queues=', 'tasksPerWorker=0', 'tasksPerWorker=x', 'queue=a'])(
  '%s is refused',
  async (query) => {
    const { status, json } = await scaling(`/v1/scaling?${query}`);
    expect({ status, code: json.code }).toEqual({ status: 400, code: 'INVALID_ARGUMENT' });
  },
);

test('a backend that does not know what waits says so, and no zero', async () => {
  const features = { tasks: false, events: false, schedules: false, limits: false };
  const blind = await HttpPlace.open(undefined, {}, { over: { features } });
  const { status, json } = await ask(`${blind.url}/v1/scaling`);
  expect({ status, code: json.code }).toEqual({ status: 501, code: 'UNSUPPORTED' });
  await blind.close();
});
