import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { ROLES, type Role } from '../../src/access/grant.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { ask, type Method } from './ask.ts';
import { HttpPlace } from './place.ts';

/** Roles over HTTP: what each may ask for, and of which queues. */
const LINES = ROLES.map(
  (role) => `${role} ${role} ${secretOf(role)}\n${role} ${role}-mail ${secretOf(role, 'mail')} mail.*`,
);

function secretOf(role: Role, queues = 'all'): string {
  return `${role}-${queues}-0123456789`;
}

let place: HttpPlace;
/** By queue: a task, and a schedule. */
const tasks = {} as Record<string, string>;

beforeAll(async () => {
  const keyring = new Keyring(Credentials.parse(LINES.join('\n'), 'file'));
  place = await HttpPlace.open(undefined, {}, { over: { access: { keyring, hostNames: [] } } });
  for (const queue of ['ads', 'mail.a']) {
    tasks[queue] = (await place.client.enqueue('x', null, { queue })).id;
    await place.client.schedule(queue, { task: 'x', queue, everyMs: 3_600_000 });
  }
});

afterAll(() => place.close());

async function statusOf(secret: string, method: string, path: string, body?: unknown): Promise<[number, string]> {
  const headers = { authorization: `Bearer ${secret}` };
  const { status, text } = await ask(`${place.url}${path}`, method as Method, body, { headers });
  return [status, text];
}

type Request = (queue: string) => readonly [string, string, unknown?];

const REQUESTS: readonly [readonly Role[], Request][] = [
  [['produce'], (queue) => ['POST', '/v1/tasks', { name: 'x', queue }]],
  [
    ['produce'],
    (queue) => [
      'POST',
      '/v1/tasks',
      [
        { name: 'x', queue: 'mail.b' },
        { name: 'x', queue },
      ],
    ],
  ],
  [['produce'], (queue) => ['POST', '/v1/tasks', { name: 'x', queue: 'mail.b', dependsOn: [tasks[queue]] }]],
  [['produce'], (queue) => ['POST', '/v1/flows', { tasks: [{ key: 'a', name: 'x', queue }] }]],
  [['work'], (queue) => ['POST', '/v1/leases', { queues: [`${queue}.none`] }]],
  [['read', 'work'], (queue) => ['GET', `/v1/queues/${queue}`]],
  [['read', 'work'], (queue) => ['GET', `/v1/scaling?queues=${queue}`]],
  [['produce', 'read'], (queue) => ['GET', `/v1/tasks/${tasks[queue]}/result`]],
  [['read'], (queue) => ['GET', `/v1/tasks/${tasks[queue]}`]],
  [['read'], (queue) => ['GET', `/v1/tasks/${tasks[queue]}/flow`]],
  [['read'], (queue) => ['GET', `/v1/tasks?queue=${queue}`]],
  [['read'], (queue) => ['GET', `/v1/dead-groups?queue=${queue}`]],
  [['read'], (queue) => ['GET', `/v1/schedules/${queue}`]],
  [['operate'], (queue) => ['POST', `/v1/tasks/${tasks[queue]}/retry`]],
  [['operate'], (queue) => ['POST', '/v1/tasks/retry', { queue, state: 'dead' }]],
  [['operate'], (queue) => ['POST', '/v1/tasks/cancel', { queue, name: 'none' }]],
  [['operate'], (queue) => ['POST', `/v1/queues/${queue}/resume`]],
  [['operate'], (queue) => ['POST', `/v1/queues/${queue}/redrive`]],
  [['operate'], (queue) => ['PUT', `/v1/queues/${queue}/limits`, { concurrency: 5 }]],
  [['operate'], (queue) => ['PUT', `/v1/queues/${queue}/retention`, { deadCountMax: 5 }]],
  [['operate'], (queue) => ['PUT', `/v1/schedules/new-${queue}`, { task: 'x', queue, everyMs: 3_600_000 }]],
  [['operate'], (queue) => ['POST', `/v1/schedules/${queue}/resume`]],
  [['operate'], (queue) => ['POST', `/v1/schedules/${queue}/run`]],
];

describe.each(REQUESTS)('needs %j', (roles, request) => {
  test(request('QUEUE').slice(0, 2).join(' '), async () => {
    for (const role of ROLES) {
      const isAllowed = role === 'operate' || roles.includes(role);
      for (const [secret, queue, isMine] of [
        [secretOf(role), 'ads', true],
        [secretOf(role, 'mail'), 'mail.a', true],
        [secretOf(role, 'mail'), 'ads', false],
      ] as const) {
        const [method, path, body] = request(queue);
        const [status, text] = await statusOf(secret, method, path, body);
        const where = `${role} ${queue}: ${text}`;
        // What has a name of its own is not there for others.
        const isNamed =
          /^\/v1\/(tasks\/[^/]+-|schedules\/(?!new-))/.test(path) || JSON.stringify(body ?? '').includes('dependsOn');
        if (isAllowed && !isMine && isNamed) expect(status, where).toBe(404);
        else if (!isAllowed || !isMine) expect(status, where).toBe(403);
        else expect([200, 201, 204, 404, 409, 504], where).toContain(status);
        if (status === 403) expect(text).toContain(roles.join(' or '));
        expect(text).not.toContain(secret);
      }
    }
  });
});

test.each(['/v1/tasks', '/v1/dead-groups', '/v1/events', '/v1/scaling', '/metrics'])(
  '%s is about all queues',
  async (path) => {
    expect((await statusOf(secretOf('read', 'mail'), 'GET', path))[0]).toBe(403);
  },
);

test('a list shows what one may see of it', async () => {
  const json = async (path: string) => JSON.parse((await statusOf(secretOf('read', 'mail'), 'GET', path))[1]);
  const names = (rows: { name: string }[]): string[] =>
    rows.map(({ name }) => name).filter((name) => !name.includes('mail.'));
  for (const path of ['/v1/queues', '/v1/stats']) expect(names((await json(path)).queues), path).toEqual([]);
  expect((await json('/v1/schedules')).schedules.map(({ name }: { name: string }) => name)).toContain('mail.a');
  expect(names((await json('/v1/schedules')).schedules)).toEqual([]);
  expect(await json('/v1/info')).toMatchObject({ roles: ['read'], queues: ['mail.*'] });
});

test('lines of tasks are judged one by one', async () => {
  const response = await fetch(`${place.url}/v1/tasks`, {
    method: 'POST',
    headers: { authorization: `Bearer ${secretOf('produce', 'mail')}`, 'content-type': 'application/x-ndjson' },
    body: '{"name":"x","queue":"mail.b"}\n{"name":"x","queue":"ads"}\n',
  });
  const [first, second] = (await response.text()).trim().split('\n');
  expect(first).toContain('"isNew":true');
  expect(second).toContain('FORBIDDEN');
});

test('who has any role may look at the page and its description', async () => {
  for (const path of ['/', '/openapi.json', '/v1/info']) {
    expect((await statusOf(secretOf('work', 'mail'), 'GET', path))[0], path).not.toBe(403);
  }
});
