import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Credentials } from '../../src/access/credentials.ts';
import { ROLES, type Role } from '../../src/access/grant.ts';
import { Keyring } from '../../src/access/keyring.ts';
import { open } from '../../src/connect.ts';
import { type Client, connect } from '../../src/index.ts';
import { SystemRandom } from '../../src/io/random.ts';
import { Server } from '../../src/server/server.ts';

/** Roles over TCP, on a real server: what each may do, and with which queues. */
const CREDENTIALS = ROLES.map(
  (role) => `${role} ${role} ${secretOf(role)}\n${role} ${role}-mail ${secretOf(role, 'mail')} mail.*`,
);

function secretOf(role: Role, queues = 'all'): string {
  return `${role}-${queues}-0123456789`;
}

type Opened = Awaited<ReturnType<typeof open>>;

let server: Server;
/** By role, with all queues and with mail.* only. */
const whole = {} as Record<Role, Opened>;
const mail = {} as Record<Role, Opened>;

beforeAll(async () => {
  const keyring = new Keyring(Credentials.parse(CREDENTIALS.join('\n'), 'file'));
  server = await Server.start({ directory: null, port: 0, keyring });
  for (const role of ROLES) {
    whole[role] = await open(server.url, { token: secretOf(role) });
    mail[role] = await open(server.url, { token: secretOf(role, 'mail') });
  }
});

afterAll(async () => {
  await Promise.all(ROLES.flatMap((role) => [whole[role].client.close(), mail[role].client.close()]));
  await server.stop({ timeoutMs: 0 });
});

async function newTask(queue: string): Promise<string> {
  return (await whole.operate.client.enqueue('x', null, { queue })).id;
}

function newName(): string {
  return `s-${new SystemRandom().hex(4)}`;
}

async function newSchedule(queue: string): Promise<string> {
  const name = newName();
  await whole.operate.client.schedule(name, { task: 'x', queue, everyMs: 3_600_000 });
  return name;
}

/** A worker that is let in takes nothing: its queue is empty, and it is gone at once. */
async function work(client: Client, queue: string): Promise<void> {
  await (await client.work({ x: () => null }, { queues: [`${queue}.empty`] })).stop({ timeoutMs: 0 });
}

/** What fails for another reason was let through. */
async function ended(client: Client, queue: string): Promise<unknown> {
  const id = await newTask(queue);
  await whole.operate.client.task(id).cancel();
  return client.task(id).result().catch(unlessRefused);
}

function unlessRefused(error: { code?: string }): void {
  if (error.code === 'FORBIDDEN' || error.code === 'NOT_FOUND') throw error;
}

/** What names a task or a schedule says nothing of those of others: they are not there. */
const UNSEEN = [
  ...[
    'wait for a result',
    'results of parents',
    'look at a task',
    'state of a task',
    'watch a task',
    'cancel',
    'retry',
  ],
  ...['look at a schedule', 'pause a schedule', 'resume a schedule', 'run a schedule', 'remove a schedule'],
];

const ACTS: readonly [string, readonly Role[], (opened: Opened, queue: string) => Promise<unknown>][] = [
  ['enqueue', ['produce'], ({ client }, queue) => client.enqueue('x', null, { queue })],
  ['enqueue many', ['produce'], ({ client }, queue) => client.enqueueMany('x', [1, 2], { queue })],
  ['enqueue a flow', ['produce'], ({ client }, queue) => client.flow((flow) => flow.add('x', null, { queue }))],
  ['enqueue with a key', ['produce'], ({ client }, queue) => client.enqueue('x', null, { queue, uniqueKey: 'k' })],
  ['wait for a result', ['produce', 'read'], ({ client }, queue) => ended(client, queue)],
  ['work', ['work'], ({ client }, queue) => work(client, queue)],
  ['results of parents', ['read', 'work'], async ({ broker }, queue) => broker.parents(await newTask(queue), 0)],
  ['state of a task', ['produce', 'work', 'read'], async ({ broker }, queue) => broker.taskState(await newTask(queue))],
  ['look at a task', ['read'], async ({ client }, queue) => client.tasks.get(await newTask(queue))],
  ['list tasks', ['read'], ({ client }, queue) => client.tasks.list({ queue })],
  ['groups of dead tasks', ['read'], ({ client }, queue) => client.tasks.deadGroups({ queue })],
  ['watch a queue', ['read'], async ({ client }, queue) => (await client.events({ queue })).return?.()],
  [
    'watch a task',
    ['read'],
    async ({ client }, queue) => (await client.events({ task: await newTask(queue) })).return?.(),
  ],
  ['look at a schedule', ['read'], async ({ client }, queue) => client.schedules.get(await newSchedule(queue))],
  ['cancel', ['operate'], async ({ client }, queue) => client.task(await newTask(queue)).cancel()],
  ['retry', ['operate'], async ({ client }, queue) => client.tasks.retry(await newTask(queue)).catch(unlessRefused)],
  ['cancel many', ['operate'], ({ client }, queue) => client.tasks.cancelMany({ queue })],
  ['retry many', ['operate'], ({ client }, queue) => client.tasks.retryMany({ queue })],
  ['pause', ['operate'], ({ client }, queue) => client.queue(`${queue}.other`).pause()],
  ['resume', ['operate'], ({ client }, queue) => client.queue(`${queue}.other`).resume()],
  ['purge', ['operate'], ({ client }, queue) => client.queue(queue).purge()],
  ['redrive', ['operate'], ({ client }, queue) => client.queue(queue).redrive()],
  ['limit', ['operate'], ({ client }, queue) => client.queue(queue).limit({ concurrency: 5 })],
  ['retention', ['operate'], ({ broker }, queue) => broker.setRetention(queue, { deadCountMax: 5 })],
  [
    'schedule',
    ['operate'],
    ({ client }, queue) => client.schedule(newName(), { task: 'x', queue, everyMs: 3_600_000 }),
  ],
  ['pause a schedule', ['operate'], async ({ client }, queue) => client.schedules.pause(await newSchedule(queue))],
  ['resume a schedule', ['operate'], async ({ client }, queue) => client.schedules.resume(await newSchedule(queue))],
  ['run a schedule', ['operate'], async ({ client }, queue) => client.schedules.runNow(await newSchedule(queue))],
  ['remove a schedule', ['operate'], async ({ client }, queue) => client.schedules.remove(await newSchedule(queue))],
];

/** Of what is there and of what is not. */
function unseen(role: Role): object {
  const message = expect.stringMatching(
    new RegExp(`^\\w+ \\S+ does not exist, .* not for the credentials "${role}-mail": mail\\.\\* only$`),
  );
  return { code: 'NOT_FOUND', message };
}

/** `operate` implies the others. */
function allows(roles: readonly Role[], role: Role): boolean {
  return role === 'operate' || roles.includes(role);
}

describe.each(ACTS)('%s (%j)', (what, roles, act) => {
  test.each(ROLES)('as %s', async (role) => {
    const forbidden = { code: 'FORBIDDEN', message: expect.stringContaining(`needs the role ${roles.join(' or ')}`) };
    const outcomes = [act(whole[role], 'ads'), act(whole[role], 'mail.a'), act(mail[role], 'mail.a')];
    if (allows(roles, role)) await Promise.all(outcomes);
    else for (const outcome of outcomes) await expect(outcome).rejects.toMatchObject(forbidden);
    const ofOthers = await act(mail[role], 'ads').catch((error: unknown) => error);
    if (!allows(roles, role)) expect(ofOthers).toMatchObject(forbidden);
    else if (UNSEEN.includes(what)) expect(ofOthers).toMatchObject(unseen(role));
    else
      expect(ofOthers).toMatchObject({
        ...forbidden,
        message: expect.stringMatching(/for the queue "ads.*" have .* for mail\.\* only/),
      });
  });
});

describe('what concerns all queues', () => {
  test('is refused to who may see some', async () => {
    const { client } = mail.operate;
    const { client: reader } = mail.read;
    const whole = { code: 'FORBIDDEN', message: expect.stringContaining('concerns all queues') };
    await expect(reader.tasks.list({})).rejects.toMatchObject(whole);
    await expect(reader.tasks.deadGroups({})).rejects.toMatchObject(whole);
    await expect(reader.events()).rejects.toMatchObject(whole);
    await expect(client.tasks.cancelMany({ name: 'x' })).rejects.toMatchObject(whole);
    await expect(client.tasks.retryMany({ state: 'dead' })).rejects.toMatchObject(whole);
  });

  test('shows of the status, and of the schedules, the queues that one may see', async () => {
    await newTask('ads');
    await newTask('mail.a');
    const [mine, others] = await Promise.all([newSchedule('mail.a'), newSchedule('ads')]);
    const worker = await whole.work.client.work({ x: () => null }, { queues: ['ads.none', 'mail.none'] });
    const stranger = await whole.work.client.work({ x: () => null }, { queues: ['ads.none'] });
    const { queues, workers } = await mail.read.client.status();
    expect(queues.map(({ name }) => name)).toEqual(
      queues.map(({ name }) => name).filter((name) => name.startsWith('mail.')),
    );
    expect(queues.map(({ name }) => name)).toContain('mail.a');
    expect(workers.map((each) => each.queues)).toEqual([['mail.none']]);
    expect((await whole.read.client.status()).workers).toHaveLength(2);
    const names = (await mail.read.client.schedules.list()).map(({ name }) => name);
    expect(names).toContain(mine);
    expect(names).not.toContain(others);
    await Promise.all([worker.stop(), stranger.stop()]);
  });
});

test('who works sees how his queues are doing, and who only produces does not', async () => {
  expect((await whole.work.client.status()).queues.length).toBeGreaterThan(0);
  await expect(whole.produce.client.status()).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

test('a batch with one task for a queue that is not allowed enqueues nothing', async () => {
  const { client } = mail.produce;
  const flow = client.flow((builder) => {
    const first = builder.add('x', null, { queue: 'mail.flow' });
    builder.add('x', null, { queue: 'ads', dependsOn: [first] });
  });
  await expect(flow).rejects.toMatchObject({ code: 'FORBIDDEN', message: expect.stringContaining('"ads"') });
  expect((await whole.read.client.tasks.list({ queue: 'mail.flow' })).tasks).toEqual([]);
});

test('depending on a task needs the right to produce in its queue', async () => {
  const { client } = mail.produce;
  const [mine, others] = await Promise.all([newTask('mail.a'), newTask('ads')]);
  await client.enqueue('x', null, { queue: 'mail.a', dependsOn: [mine] });
  const refused = client.enqueue('x', null, { queue: 'mail.a', dependsOn: [others] });
  await expect(refused).rejects.toMatchObject(unseen('produce'));
});

/** A task and a schedule of others, and of nobody: what is said of them differs by what was asked for. */
test.each([
  ['a task', ({ client }: Opened, { id }: Named) => client.tasks.get(id)],
  ['a result', ({ client }: Opened, { id }: Named) => client.task(id).result()],
  ['a cancel', ({ client }: Opened, { id }: Named) => client.task(id).cancel()],
  ['events', ({ client }: Opened, { id }: Named) => client.events({ task: id })],
  ['a parent', ({ client }: Opened, { id }: Named) => client.enqueue('x', 1, { queue: 'mail.a', dependsOn: [id] })],
  ['a schedule', ({ client }: Opened, { name }: Named) => client.schedules.get(name)],
  ['a run', ({ client }: Opened, { name }: Named) => client.schedules.runNow(name)],
])('%s of others is refused in the words in which one that does not exist is', async (_what, act) => {
  const theirs = { id: await newTask('ads.secret'), name: await newSchedule('ads.secret') };
  const nobodys = { id: theirs.id.replace(/-.*/, '-zzzz'), name: newName() };
  const said = async (named: Named): Promise<string> => {
    const error: Error = await act(mail.operate, named).then(
      () => new Error('it was allowed'),
      (error: Error) => error,
    );
    return error.message.replace(named.id, 'ID').replace(named.name, 'NAME');
  };
  expect(await said(theirs)).toBe(await said(nobodys));
  expect(await said(theirs)).not.toContain('ads');
});

interface Named {
  readonly id: string;
  readonly name: string;
}

test('a queue that was never used is said to be so without a word of the others', async () => {
  await newTask('ads.secret');
  const refused = mail.operate.client.queue('mail.never').purge();
  await expect(refused).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.not.stringContaining('ads') });
});

test('a schedule is not moved out of a queue, nor into one, that is not allowed', async () => {
  const name = await newSchedule('ads');
  await expect(
    mail.operate.client.schedule(name, { task: 'x', queue: 'mail.a', everyMs: 3_600_000 }),
  ).rejects.toMatchObject({ code: 'FORBIDDEN', message: expect.not.stringContaining('ads') });
});

test('results of several queues that are waited for together are refused one by one', async () => {
  const mine = await newTask('mail.results');
  const others = await newTask('ads.results');
  const worker = await whole.work.client.work({ x: () => 7 }, { queues: ['mail.results', 'ads.results'] });
  const waits = [mine, others].map((id) => mail.produce.client.task(id).result());
  expect(await waits[0]).toBe(7);
  await expect(waits[1]).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await worker.stop();
});

describe('a token that is none', () => {
  test.each([
    [undefined, /asks for a token: .*MILLRACE_TOKEN.*--token-file/],
    ['wrong-token-of-some-length', /does not know this token/],
    [secretOf('read').slice(0, -1), /does not know this token/],
  ])('%s ends the attempt at once, and is shown to nobody', async (token, message) => {
    const beganMs = performance.now();
    const failure = await connect(server.url, { token, connectTimeoutMs: 60_000 }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'UNAUTHENTICATED', message: expect.stringMatching(message) });
    expect(performance.now() - beganMs).toBeLessThan(5000);
    if (token !== undefined) expect(JSON.stringify(failure) + (failure as Error).stack).not.toContain(token);
  });

  test.each(['', 'two words', 'x'.repeat(513), 5])(
    'what cannot be one is refused before it is sent: %.20j',
    async (token) => {
      const failure = await connect(server.url, { token: token as string }).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: 'INVALID_ARGUMENT' });
      if (typeof token === 'string' && token !== '') expect((failure as Error).message).not.toContain(token);
    },
  );

  test('is for servers only, and stands in no URL', async () => {
    await expect(connect('memory:', { token: secretOf('read') })).rejects.toThrow(
      'the option `token` is for tcp: and tls: URLs',
    );
    const { host } = new URL(server.url);
    const failure = connect(`tcp://:${secretOf('read')}@${host}`);
    await expect(failure).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.not.stringContaining(secretOf('read')),
    });
  });
});
