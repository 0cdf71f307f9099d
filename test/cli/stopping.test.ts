import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RunningCommand, runCommand } from '../support/command.ts';

// Each test starts several processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let directory: string;
let running: RunningCommand[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-stop-'));
});

afterEach(async () => {
  await Promise.all(running.map((command) => command.kill()));
  running = [];
  rmSync(directory, { recursive: true });
});

function start(...args: string[]): RunningCommand {
  return startWith({}, ...args);
}

function startWith(environment: Record<string, string>, ...args: string[]): RunningCommand {
  const command = new RunningCommand(args, { directory, environment });
  running.push(command);
  return command;
}

async function startServer(): Promise<{ server: RunningCommand; url: string }> {
  const server = start('server', '--port', '0', '--data', 'data', '--stop-timeout-ms', '600000');
  const [, url = ''] = await server.said(/listens on (tcp:\S+)/);
  return { server, url };
}

async function enqueue(url: string): Promise<void> {
  const { code, stderr } = await runCommand(['enqueue', 'x', '--url', url], { directory });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
}

test('SIGTERM stops a server in order, and the next start finds its tasks', async () => {
  const first = await startServer();
  await enqueue(first.url);
  first.server.signal('SIGTERM');
  const { code, stdout, stderr } = await first.server.exited;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(
    /data in data, fsync always: a confirmed task is on disk\n.*the journal is new; no tasks are waiting\n/,
  );
  expect(stdout).toMatch(/SIGTERM: stopping\n.*stopped\n$/);
  const second = await startServer();
  await second.server.said(/replayed \d+ records of 1 segment in \S+ ms; found 1 ready in 1 queue\n/);
});

test('one directory has one server, however long its path is and wherever temporary files go', async () => {
  const data = join('d'.repeat(120), 'data');
  const serverWith = (temporary: string): RunningCommand => {
    mkdirSync(join(directory, temporary));
    return startWith({ TMPDIR: join(directory, temporary) }, 'server', '--port', '0', '--data', data);
  };
  await serverWith('a').said(/listens on/);
  expect(await serverWith('b').exited).toMatchObject({ code: 1, stderr: expect.stringContaining('DIRECTORY_LOCKED') });
  const repair = await runCommand(['journal', 'repair', data], { directory, environment: { TMPDIR: directory } });
  expect(repair).toMatchObject({ code: 1, stderr: expect.stringContaining('DIRECTORY_LOCKED') });
});

test('a killed server says so at its next start', async () => {
  const { server, url } = await startServer();
  await enqueue(url);
  await server.kill();
  const second = await startServer();
  await second.server.said(/after a run that did not end in order; found 1 ready/);
});

test('a second signal ends a stop that waits for a task', async () => {
  const { server, url } = await startServer();
  const worker = start('worker', '--url', url, '--task-time-ms', '600000', '--log-file', 'off');
  await worker.said(/takes any task/);
  await enqueue(url);
  const watch = start('status', '--url', url, '--watch', '--json');
  await watch.said(/"running":1/);
  server.signal('SIGTERM');
  await server.said(/SIGTERM: stopping; up to 10 min for what runs \(1\)/);
  // The same signal at once would be one that was passed on twice.
  const again = setInterval(() => server.signal('SIGTERM'), 50);
  const { code, stdout } = await server.exited;
  clearInterval(again);
  expect(code).toBe(1);
  expect(stdout).toMatch(/SIGTERM again: ending at once\n$/);
});

/** Once there is a file `hang`, a write to the journal never comes back and takes its thread with it. */
const HANGING_DISK = `
import fs from 'node:fs';
for (const [name, positionAt] of [['write', 4], ['writev', 2]]) {
  const real = fs[name];
  fs[name] = (...args) => {
    if (typeof args[positionAt] !== 'number' || !fs.existsSync('hang')) return real.apply(fs, args);
    fs.open('pipe', 'r', () => {});
    console.log('a write hangs');
  };
}
`;

test('a server whose disk hangs ends all the same, and says in one line what it could not do', async () => {
  execFileSync('mkfifo', [join(directory, 'pipe')]);
  writeFileSync(join(directory, 'hanging-disk.mjs'), HANGING_DISK);
  const environment = { NODE_OPTIONS: `--import=${join(directory, 'hanging-disk.mjs')}` };
  const server = startWith(environment, 'server', '--port', '0', '--stop-timeout-ms', '0');
  const [, url = ''] = await server.said(/listens on (tcp:\S+)/);
  writeFileSync(join(directory, 'hang'), '');
  start('enqueue', 'x', '--url', url);
  await server.said(/a write hangs/);
  server.signal('SIGTERM');
  const { code, stderr } = await server.exited;
  // It had to be killed, because of the thread.
  expect(code).toBe('SIGKILL');
  expect(stderr).toMatch(/^millrace: [^\n]*\d+ bytes, of which nothing was confirmed, are not written[^\n]*\n$/);
});

/** Once there is a file `fail`, no write to the journal succeeds. */
const FAILING_DISK = `
import fs from 'node:fs';
for (const [name, positionAt] of [['write', 4], ['writev', 2]]) {
  const real = fs[name];
  fs[name] = (...args) => {
    if (typeof args[positionAt] !== 'number' || !fs.existsSync('fail')) return real.apply(fs, args);
    setImmediate(args.at(-1), Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' }));
  };
}
`;

test('a server whose disk fails says why it ends, whoever does not end a request over HTTP', async () => {
  writeFileSync(join(directory, 'failing-disk.mjs'), FAILING_DISK);
  const environment = { NODE_OPTIONS: `--import=${join(directory, 'failing-disk.mjs')}` };
  const server = startWith(environment, 'server', '--port', '0', '--http-port', '0');
  const [, url = ''] = await server.said(/listens on (tcp:\S+)/);
  const [, httpPort] = await server.said(/HTTP API on http:\S+:(\d+)/);
  const socket = connectSocket(Number(httpPort), '127.0.0.1').on('error', () => {});
  const head = 'POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n';
  await new Promise((resolve) => socket.once('data', resolve).write(head));
  writeFileSync(join(directory, 'fail'), '');
  start('enqueue', 'x', '--url', url);
  const { code, stderr } = await server.exited;
  socket.destroy();
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^millrace: [^\n]*EIO[^\n]*\n$/) });
  const lines = readFileSync(join(directory, 'server.log'), 'utf8').trim().split('\n');
  const said = lines.map((line) => JSON.parse(line) as { level: number; msg: string });
  expect(said.filter(({ level }) => level >= 50).map(({ msg }) => msg)).toEqual([
    'storage has failed: cutting off who is connected',
    'the server ends',
  ]);
});

test('status --watch and a worker survive a restart of the server', async () => {
  const first = await startServer();
  const port = new URL(first.url).port;
  const watch = start('status', '--url', first.url, '--watch', '--json');
  const worker = start('worker', '--url', first.url, '--stats-interval-ms', '100', '--log-file', 'off');
  const [, pid] = await watch.said(/"pid":(\d+)/);
  await worker.said(/takes any task/);
  first.server.signal('SIGTERM');
  await first.server.exited;
  const second = start('server', '--port', port, '--data', 'data');
  await second.said(/listens on/);
  await watch.said(new RegExp(`"pid":(?!${pid}\\b)\\d+`));
  await worker.said(/the connection is back/);
  await enqueue(first.url);
  await worker.said(/1 done, 0 failed/);
});

test('the log file has each line as JSON, and the reason of a failed start', async () => {
  const { server } = await startServer();
  const refused = await runCommand(['server', '--port', '0', '--data', 'data'], { directory });
  expect(refused.code).toBe(1);
  server.signal('SIGTERM');
  await server.exited;
  const lines = readFileSync(join(directory, 'server.log'), 'utf8').trim().split('\n');
  const parsed = lines.map((line) => JSON.parse(line) as { level: number; msg: string; err?: { code: string } });
  expect(parsed[0]).toMatchObject({ level: 30, data: 'data', fsync: 'always' });
  expect(parsed.find(({ level }) => level === 60)?.err?.code).toBe('DIRECTORY_LOCKED');
  expect(parsed.at(-1)?.msg).toBe('stopped');
});
