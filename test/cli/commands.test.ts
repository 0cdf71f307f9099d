import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { DeadGroups, QueueStatus, ScheduleInfo, Status, TaskInfo, TaskPage } from '../../src/index.ts';
import { callCommand } from '../support/called-command.ts';
import { type Finished, RunningCommand, runCommand } from '../support/command.ts';

// Each test starts several processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** One server for all; each test has queues of its own. */
let directory: string;
let server: RunningCommand;
let url: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-cli-'));
  server = new RunningCommand(['server', '--port', '0', '--data', 'data', '--stats-interval-ms', '100'], { directory });
  [, url = ''] = await server.said(/listens on (tcp:\S+)/);
});

afterAll(async () => {
  await server.kill();
  rmSync(directory, { recursive: true });
});

async function millrace(...args: string[]): Promise<Finished> {
  return await callCommand(args, { directory, environment: { MILLRACE_URL: url } });
}

/** The output of a command that must do. */
async function outputOf(args: readonly string[], input = ''): Promise<string> {
  const finished = await callCommand(args, { directory, environment: { MILLRACE_URL: url }, input });
  expect(finished, args.join(' ')).toMatchObject({ code: 0, stderr: '' });
  return finished.stdout.trim();
}

async function jsonOf<T>(...args: string[]): Promise<T> {
  return JSON.parse(await outputOf([...args, '--json'])) as T;
}

async function queueOf(name: string): Promise<QueueStatus | undefined> {
  return (await jsonOf<QueueStatus[]>('queue', 'list')).find((queue) => queue.name === name);
}

function work(...args: string[]): RunningCommand {
  return new RunningCommand(['worker', '--log-file', 'worker.log', ...args], {
    directory,
    environment: { MILLRACE_URL: url },
  });
}

test('commands are processes that end by themselves and say in their exit code how', async () => {
  const commands = [
    ['enqueue', 'x', '-', '--queue', 'processes'],
    ['schedule', 'list', '--json'],
    ['task', 'get', '1-zzzz'],
    ['queue', 'purge', 'processes'],
  ];
  const options = { directory, environment: { MILLRACE_URL: url }, input: '1\n' };
  const ended = await Promise.all(commands.map((args) => runCommand(args, options)));
  expect(ended.map(({ code }) => code)).toEqual([0, 0, 1, 2]);
  expect(ended[1]).toEqual({ code: 0, stdout: '[]\n', stderr: '' });
});

test('a task is enqueued, run, waited for and looked at', async () => {
  const worker = work('--queues', 'e2e', '--name', 'w1', '--stats-interval-ms', '100');
  await worker.said(/worker w1 at tcp:\S+ takes any task \(built-in handler\) from e2e, 50 at a time/);
  expect(await outputOf(['enqueue', 'job', '{"n": 12345678901234567890}', '--queue', 'e2e', '--wait'])).toBe('null');
  const id = await outputOf(['enqueue', 'job', '{"fail": "always"}', '--queue', 'e2e', '--max-attempts', '1']);
  expect(id).toMatch(/^[0-9a-z]+-[0-9a-z]+$/);
  await worker.said(/1 done, 1 failed/);
  const task = await jsonOf<TaskInfo>('task', 'get', id);
  expect(task).toMatchObject({ id, queue: 'e2e', name: 'job', state: 'dead', attempt: 1, maxAttempts: 1 });
  expect(task.payload).toEqual({ encoding: 'utf8', data: '{"fail": "always"}' });
  expect(task.failures[0]?.error).toMatchObject({ name: 'SimulatedFailure', code: 'HANDLER_FAILED' });
  expect(await outputOf(['task', 'get', id])).toMatch(/^State +dead$/m);
  const page = await jsonOf<TaskPage>('task', 'list', '--queue', 'e2e', '--state', 'completed');
  expect(page.tasks.map(({ state }) => state)).toEqual(['completed']);
  const status = await jsonOf<Status>('status');
  expect(status.workers.map(({ name, concurrency }) => [name, concurrency])).toEqual([['w1', 50]]);
  expect(status).toMatchObject({
    server: { durability: 'always', stopping: false },
    throughput: { enqueued: expect.any(Number), completed: expect.any(Number), failed: expect.any(Number) },
    latencyMs: { start: { p50: expect.any(Number), p95: expect.any(Number), p99: expect.any(Number) } },
  });
  expect(await outputOf(['status'])).toMatch(/^w1 +[█░]+ +\d+ % +0\/50/m);
  worker.signal('SIGTERM');
  expect(await worker.exited).toMatchObject({ code: 0, stderr: '' });
  await worker.said(/stopped: 1 done, 1 failed/);
  expect(readFileSync(join(directory, 'worker.log'), 'utf8')).toMatch(/"completed":1,"failed":1,"abandoned":0/);
});

test('what is enqueued with a key ring is read with it only', async () => {
  writeFileSync(join(directory, 'ring'), `2026-11 ${randomBytes(32).toString('base64')}\n`);
  const withRing = { MILLRACE_URL: url, MILLRACE_KEY_RING: 'ring' };
  const enqueued = await callCommand(['enqueue', 'job', '{"to": "ada"}', '--queue', 'sealed'], {
    directory,
    environment: withRing,
  });
  const id = enqueued.stdout.trim();
  expect(await outputOf(['task', 'get', id])).toMatch(
    /^Payload +\d+ B, encrypted with the key 2026-11: --key-ring reads it$/m,
  );
  expect(await outputOf(['task', 'get', id, '--key-ring', 'ring'])).toMatch(
    /^Payload +\{"to": "ada"\} \(encrypted with the key 2026-11\)$/m,
  );
  const worker = work('--queues', 'sealed', '--key-ring', 'ring', '--stats-interval-ms', '100');
  await worker.said(/1 done, 0 failed/);
  worker.signal('SIGTERM');
  await worker.exited;
});

test('limits of a queue are set, shown and lifted', async () => {
  expect((await millrace('queue', 'limit', 'limited')).stderr).toMatch(
    /^millrace: NOT_FOUND: .*or when it is paused, limited/,
  );
  await outputOf(['enqueue', 'job', '{}', '--queue', 'limited']);
  const args = ['queue', 'limit', 'limited'];
  const none = { concurrency: null, rate: null, concurrencyPerKey: null, length: null };
  expect(await jsonOf(...args)).toEqual(none);
  expect(await jsonOf(...args, '--concurrency', '3', '--rate', '100/1s', '--burst', '20')).toEqual({
    ...none,
    concurrency: 3,
    rate: { count: 100, periodMs: 1000, burst: 20 },
  });
  expect(await jsonOf(...args, '--concurrency', 'none')).toMatchObject({ concurrency: null, rate: { count: 100 } });
  expect(await outputOf(args)).toMatch(/^at one time +no limit\nrate +100 in /);
  expect(await jsonOf(...args, '--length', '1')).toMatchObject({ length: 1 });
  expect(await outputOf(args)).toMatch(/^length +1 unfinished tasks$/m);
  expect((await millrace('enqueue', 'job', '{}', '--queue', 'limited')).stderr).toMatch(
    /^millrace: QUEUE_FULL: the queue "limited" holds 1 of at most 1 .* room for 0, and 1 came together\. .*millrace queue limit/,
  );
  expect(await jsonOf(...args, '--length', 'none')).toMatchObject({ length: null });
  expect(await millrace(...args, '--rate', 'fast')).toMatchObject({ code: 2 });
  expect(await millrace(...args, '--burst', '5')).toMatchObject({ code: 2 });
});

test('events are printed as they come', async () => {
  const events = new RunningCommand(['events', '--queue', 'watched'], {
    directory,
    environment: { MILLRACE_URL: url },
  });
  await events.said(/watching/);
  const id = await outputOf(['enqueue', 'job', '{}', '--queue', 'watched']);
  await events.said(new RegExp(`enqueued +${id} +watched +job`));
  await outputOf(['task', 'cancel', id]);
  await events.said(new RegExp(`cancelled +${id}`));
  await events.kill();
});

test('lines of standard input become tasks, in their order', async () => {
  const lines = Array.from({ length: 500 }, (_, index) => `{"line": ${index}}`);
  const ids = (await outputOf(['enqueue', 'line', '-', '--queue', 'lines'], `${lines.join('\n')}\n\n`)).split('\n');
  expect(new Set(ids).size).toBe(500);
  for (const [index, id] of [ids[0], ids[499]].entries()) {
    const { payload } = await jsonOf<TaskInfo>('task', 'get', id as string);
    expect(payload?.data).toBe(lines[index * 499]);
  }
});

test('a reader that goes away does not end an enqueue half way', async () => {
  const input = '{}\n'.repeat(20_000);
  const options = { directory, environment: { MILLRACE_URL: url }, input };
  const command = new RunningCommand(['enqueue', 'x', '-', '--queue', 'unread'], options);
  command.closeOutput();
  expect(await command.exited).toMatchObject({ code: 0, stderr: '' });
  expect(await queueOf('unread')).toMatchObject({ ready: 20_000 });
});

test('a line that is not JSON ends it with its number', async () => {
  const options = { directory, environment: { MILLRACE_URL: url }, input: '1\nnope\n3\n' };
  const { code, stdout, stderr } = await callCommand(['enqueue', 'x', '-', '--queue', 'bad-lines'], options);
  expect(code).toBe(1);
  expect(stdout.trim().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^millrace: NOT_JSON: line 2 is not JSON: .*; 1 task before it was enqueued\n$/);
});

test('a task depends on those that are listed, with spaces or without', async () => {
  const parents = [
    await outputOf(['enqueue', 'x', '--queue', 'kin']),
    await outputOf(['enqueue', 'x', '--queue', 'kin']),
  ];
  const child = await outputOf(['enqueue', 'x', '--queue', 'kin', '--depends-on', ` ${parents.join(' , ')} `]);
  expect(await jsonOf<TaskInfo>('task', 'get', child)).toMatchObject({ state: 'blocked', dependencies: { total: 2 } });
  const twice = await millrace('enqueue', 'x', '--depends-on', `${child}, ${child}`);
  expect(twice).toMatchObject({ code: 2, stderr: expect.stringContaining(`names task "${child}" twice`) });
});

test('headers are given one by one, and seen when the task is looked at', async () => {
  const id = await outputOf(['enqueue', 'x', '--queue', 'headed', '--header', 'tenant=a', '--header', 'q=a=b,c']);
  const { stdout } = await millrace('task', 'get', id, '--json');
  expect(JSON.parse(stdout)).toMatchObject({ headers: { tenant: 'a', q: 'a=b,c' } });
  expect((await millrace('task', 'get', id)).stdout).toContain('Header    tenant: a\n');
  const wrong = await millrace('enqueue', 'x', '--header', 'tenant');
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('such as tenant=a') });
});

test('an enqueue that meets its unique key prints the task that has it, and says that it is another', async () => {
  const args = ['enqueue', 'x', '1', '--queue', 'once', '--unique-key', 'k'];
  const id = await outputOf(args);
  expect(await millrace(...args)).toEqual({
    code: 0,
    stdout: `${id}\n`,
    stderr: `${id} was there already; this payload was not enqueued\n`,
  });
  expect(await jsonOf(...args)).toEqual({ id, isNew: false });
});

test('a task that depends on one that is not there is refused, naming that one and no other', async () => {
  const { code, stderr } = await millrace('enqueue', 'x', '--depends-on', '1-zzzz');
  expect(stderr).toMatch(/^millrace: NOT_FOUND: task 1-zzzz is to be depended on, and does not exist[^\n]*\n$/);
  expect(code).toBe(1);
});

test('a queue is paused, purged and resumed', async () => {
  await outputOf(['queue', 'retention', 'q', '--dead-count-max', '7']);
  expect(await outputOf(['queue', 'pause', 'q'])).toBe('q: paused (no task has used this queue yet)');
  for (const delay of ['0', '60000']) await outputOf(['enqueue', 'x', '--queue', 'q', '--delay-ms', delay]);
  expect(await queueOf('q')).toMatchObject({ paused: true, ready: 1, scheduled: 1, retention: { deadCountMax: 7 } });
  expect(await outputOf(['queue', 'pause', 'q'])).toBe('q: paused');
  expect(await jsonOf('queue', 'pause', 'q')).toEqual({ queue: 'q', paused: true, isUsed: true });
  expect(await outputOf(['status'])).toMatch(/^q \(paused\) +1 +0 +1 /m);
  expect(await jsonOf('queue', 'purge', 'q', '--yes')).toEqual({ queue: 'q', count: 2 });
  expect(await outputOf(['queue', 'resume', 'q'])).toBe('q: resumed');
  expect(await queueOf('q')).toMatchObject({ paused: false, ready: 0, scheduled: 0 });
});

test('dead tasks are redriven, scheduled ones retried, waiting ones cancelled', async () => {
  const worker = work('--queues', 'r', '--dead-rate', '1', '--stats-interval-ms', '100', '--log-file', 'off');
  await outputOf(['enqueue', 'x', '--queue', 'r', '--max-attempts', '1']);
  await worker.said(/0 done, 1 failed/);
  worker.signal('SIGINT');
  expect((await worker.exited).code).toBe(0);
  expect(await outputOf(['queue', 'redrive', 'r'])).toBe('r: 1 dead task made ready again');
  const later = await outputOf(['enqueue', 'x', '--queue', 'r', '--run-at', '2100-01-01T00:00:00Z']);
  expect(await outputOf(['task', 'retry', later])).toBe(`${later}: ready`);
  expect(await queueOf('r')).toMatchObject({ ready: 2, dead: 0, scheduled: 0 });
  expect(await outputOf(['task', 'cancel', later])).toBe(`${later}: cancelled`);
  const { code, stderr } = await millrace('task', 'cancel', later);
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^millrace: CONFLICT: .*\n$/) });
});

test('many tasks are found, retried and cancelled by what they have in common', async () => {
  const worker = work(
    '--queues',
    's',
    '--dead-rate',
    '1',
    '--stats-interval-ms',
    '100',
    '--log-file',
    'off',
    '--name',
    'w',
  );
  for (const name of ['x', 'x', 'y']) await outputOf(['enqueue', name, '--queue', 's', '--max-attempts', '1']);
  await worker.said(/0 done, 3 failed/);
  worker.signal('SIGINT');
  expect((await worker.exited).code).toBe(0);
  const all = ['--queue', 's', '--state', 'dead'];
  const { tasks } = await jsonOf<TaskPage>('task', 'list', ...all, '--newest', '--from', '1h');
  expect(tasks.map(({ name }) => name)).toEqual(['y', 'x', 'x']);
  expect((await jsonOf<TaskPage>('task', 'list', ...all, '--to', '1h')).tasks).toEqual([]);
  expect((await jsonOf<TaskPage>('task', 'list', ...all, '--error', 'NO SUCH TEXT')).tasks).toEqual([]);
  expect(await outputOf(['task', 'get', tasks[0]?.id as string])).toMatch(/^Failure +attempt 1 by w, .* after \d/m);
  const { groups } = await jsonOf<DeadGroups>('task', 'dead', '--queue', 's');
  expect(groups).toMatchObject([
    { name: 'x', count: 2 },
    { name: 'y', count: 1 },
  ]);
  expect(await outputOf(['task', 'dead', '--queue', 's'])).toMatch(/^COUNT +QUEUE +NAME +ERROR .*\n +2 +s +x /);
  const [largest] = groups;
  const group = ['--error-group', largest?.group as string];
  const unasked = await millrace('task', 'retry', ...group);
  expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('add --yes') });
  expect(await outputOf(['task', 'retry', ...group, '--yes'])).toBe('2 tasks made ready');
  expect(await queueOf('s')).toMatchObject({ ready: 2, dead: 1 });
  expect(await jsonOf('task', 'cancel', '--queue', 's', '--name', 'x', '--yes')).toEqual({ count: 2 });
  expect(await queueOf('s')).toMatchObject({ ready: 0, dead: 1, cancelled: 2 });
});

test('ids stand for themselves, whatever the environment says of others', async () => {
  const id = await outputOf(['enqueue', 'x', '--queue', 'own', '--delay-ms', '60000']);
  const environment = { MILLRACE_URL: url, MILLRACE_QUEUE: 'other' };
  const none = await callCommand(['task', 'cancel', '--yes'], { directory, environment });
  expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('task cancel needs ids, or some of --queue') });
  const finished = await callCommand(['task', 'cancel', id], { directory, environment });
  expect(finished).toMatchObject({ code: 0, stdout: `${id}: cancelled\n` });
});

test('producers report what was acknowledged', async () => {
  const args = ['clients', '--clients', '3', '--tasks', '250', '--batch', '100', '--queue', 'many', '--json'];
  const { code, stdout } = await millrace(...args, '--payload-bytes', '200', '--fail-share', '0.1');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ acknowledged: 750, notAcknowledged: 0, confirmMs: { count: 9 } });
  const { tasks } = await jsonOf<TaskPage>('task', 'list', '--queue', 'many', '--limit', '1000');
  expect(new Set(tasks.map(({ payloadBytes }) => payloadBytes))).toEqual(new Set([200]));
  expect(existsSync(join(directory, 'multi_client.log'))).toBe(true);
});

test('a journal is backed up while the server runs, and the copy verified and shown', async () => {
  await outputOf(['enqueue', 'kept', '--queue', 'backup']);
  const locked = await millrace('journal', 'verify', 'data');
  expect(locked).toMatchObject({ code: 1, stderr: expect.stringMatching(/^millrace: DIRECTORY_LOCKED: .*\n$/) });
  expect(await outputOf(['journal', 'backup', 'data', 'copy'])).toMatch(
    /^Copied 1 segment with \d+ records .*; verified$/,
  );
  expect(await jsonOf('journal', 'verify', 'copy')).toMatchObject({ intact: true, damage: [] });
  expect(await outputOf(['journal', 'dump', 'copy'])).toMatch(
    / enqueue \S+ at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/,
  );
  const again = await millrace('journal', 'backup', 'data', 'copy');
  expect(again.stderr).toMatch(/^millrace: INVALID_ARGUMENT: backup target copy is not empty/);
});

test('a handlers file takes its own tasks, and --json logs in JSON', async () => {
  const file = join(import.meta.dirname, 'plain-handlers.js');
  const worker = work('--handlers', file, '--queues', 'h', '--json');
  const [line] = await worker.said(/^\{.*\}$/m);
  expect(JSON.parse(line)).toMatchObject({ level: 30, queues: ['h'], handlers: ['add'] });
  expect(await outputOf(['enqueue', 'add', '{"a": 1, "b": 2}', '--queue', 'h', '--wait'])).toBe('3');
  worker.signal('SIGTERM');
  expect((await worker.exited).code).toBe(0);
});

test('a schedule is set, looked at, steered and removed', async () => {
  const set = ['schedule', 'set', 'nightly', 'report', '{"big": 12345678901234567890}'];
  const when = ['--cron', '30 2 * * *', '--time-zone', 'Europe/Berlin', '--queue', 'reports', '--misfire', 'skip'];
  expect(await outputOf([...set, ...when])).toMatch(/^nightly: set, next at \d{4}-\d\d-\d\d \d\d:30:00$/);
  const schedule = await jsonOf<ScheduleInfo>('schedule', 'get', 'nightly');
  expect(schedule).toMatchObject({ cron: '30 2 * * *', timeZone: 'Europe/Berlin', misfire: 'skip', queue: 'reports' });
  expect(schedule.payload).toEqual({ encoding: 'utf8', data: '{"big": 12345678901234567890}' });
  expect(await outputOf(['schedule', 'get', 'nightly'])).toMatch(/^When +30 2 \* \* \* \(Europe\/Berlin\)$/m);
  expect(await outputOf(['schedule', 'list'])).toMatch(/^nightly +30 2 \* \* \* \(Europe\/Berlin\) +report +reports /m);
  const { id } = await jsonOf<{ id: string }>('schedule', 'run', 'nightly');
  expect(await jsonOf<TaskInfo>('task', 'get', id)).toMatchObject({ name: 'report', queue: 'reports' });
  expect(await outputOf(['schedule', 'pause', 'nightly'])).toBe('nightly: paused');
  const [paused] = await jsonOf<ScheduleInfo[]>('schedule', 'list');
  expect(paused).toMatchObject({ name: 'nightly', paused: true, firedCount: 1, lastTaskId: id });
  expect(await outputOf(['schedule', 'resume', 'nightly'])).toMatch(/^nightly: resumed, next at /);
  expect(await outputOf(['schedule', 'delete', 'nightly'])).toBe('nightly: removed');
  expect(await outputOf(['schedule', 'list'])).toBe('There are no schedules yet.');
  expect(await millrace('schedule', 'delete', 'nightly')).toMatchObject({ code: 1 });
  expect(await millrace('schedule', 'set', 'a', 'b', '--cron', '* *')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('2 fields'),
  });
  expect(await millrace('schedule', 'set', 'a', 'b')).toMatchObject({ code: 2 });
});

test('the tasks of a schedule have the options of an enqueue', async () => {
  const options = ['--backoff', 'fixed', '--backoff-delay-ms', '1_000_000', '--backoff-jitter', 'off'];
  const args = [...options, '--concurrency-key', 'tenant', '--max-attempts', '7', '--priority', '9'];
  await outputOf(['schedule', 'set', 'with-options', 'x', '--every-ms', '3600000', ...args]);
  expect(await jsonOf<ScheduleInfo>('schedule', 'get', 'with-options')).toMatchObject({
    backoff: { type: 'fixed', delayMs: 1_000_000, maxDelayMs: 1_000_000, jitter: false },
    ...{ concurrencyKey: 'tenant', maxAttempts: 7, priority: 9 },
  });
  const shown = await outputOf(['schedule', 'get', 'with-options']);
  expect(shown).toMatch(/^Pauses +16 min 40 s$/m);
  expect(shown).toMatch(/^Turns +by the key tenant$/m);
  await outputOf(['schedule', 'delete', 'with-options']);
  expect(await millrace('enqueue', 'x', ...args, '--backoff-delay-ms', '-1')).toMatchObject({ code: 2 });
  await outputOf(['enqueue', 'x', '--queue', 'with-options', ...args]);
});

test('of several names all are tried, and the command fails when one could not be done', async () => {
  await outputOf(['schedule', 'set', 'there', 'report', '--every-ms', '3600000']);
  expect(await millrace('schedule', 'pause', 'gone', 'there')).toEqual({
    code: 1,
    stdout: 'there: paused\n',
    stderr: expect.stringMatching(
      /^gone: NOT_FOUND: [^\n]*\nmillrace: REFUSED: 1 of 2 schedules were left as they are\n$/,
    ),
  });
  await outputOf(['enqueue', 'x', '--queue', 'used']);
  const resumed = await millrace('queue', 'resume', 'gone', 'used', '--json');
  expect(resumed).toMatchObject({ code: 1, stderr: expect.stringContaining('1 of 2 queues') });
  expect(
    resumed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([
    { queue: 'gone', error: expect.objectContaining({ code: 'NOT_FOUND' }) },
    { queue: 'used', paused: false, isUsed: true },
  ]);
  const id = await outputOf(['enqueue', 'x', '--queue', 'used']);
  expect(await millrace('task', 'cancel', '1-zzzz', id)).toMatchObject({ code: 1, stdout: `${id}: cancelled\n` });
  await outputOf(['schedule', 'delete', 'there']);
});
