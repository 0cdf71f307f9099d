import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ask, askRaw } from '../http/ask.ts';
import { callCommand } from '../support/called-command.ts';
import { type Finished, RunningCommand, runCommand } from '../support/command.ts';
import { Gate } from '../support/embedded.ts';
import { sharedPostgres, sharedRabbit } from '../support/services.ts';

// Each test starts processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const SECRET = 'o'.repeat(24);
const TLS = ['--http-tls-cert', 'tls/cert.pem', '--http-tls-key', 'tls/key.pem'];
const CREDENTIALS = ['--credentials', 'credentials'];
const ROOT = resolve(import.meta.dirname, '../..');

let directory: string;
let running: RunningCommand[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-http-'));
  cpSync(join(ROOT, 'test/http/tls'), join(directory, 'tls'), { recursive: true });
  writeFileSync(join(directory, 'credentials'), `operate ops ${SECRET}\n`, { mode: 0o600 });
});

afterEach(async () => {
  await Promise.all(running.map((command) => command.kill()));
  running = [];
  rmSync(directory, { recursive: true });
});

function start(args: readonly string[], environment: Record<string, string> = {}): RunningCommand {
  const command = new RunningCommand(['server', '--http-port', '0', ...args], { directory, environment });
  running.push(command);
  return command;
}

async function startServer(...args: string[]): Promise<{ server: RunningCommand; url: string }> {
  const server = start(['--port', '0', ...args]);
  const [, url = ''] = await server.said(/HTTP API on (\S+)/);
  return { server, url };
}

function serverFailing(...args: string[]): Promise<Finished> {
  return runCommand(['server', '--port', '0', ...args], { directory });
}

test('a server says where it serves HTTP, and serves what is enqueued over TCP', async () => {
  const { server, url } = await startServer();
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  const [, tcp = ''] = await server.said(/listens on (tcp:\S+)/);
  const { stdout } = await runCommand(['enqueue', 'x', '--url', tcp], { directory });
  expect((await ask(`${url}/v1/tasks/${stdout.trim()}`)).json).toMatchObject({ name: 'x', state: 'ready' });
  // What HTTP uses itself is no connection.
  expect((await ask(`${url}/v1/stats`)).json.server.connections).toBe(0);
});

test.each([
  [
    ['--http-host', '0.0.0.0'],
    '`millrace server --http-host 0.0.0.0 --credentials FILE --tls-cert cert.pem --tls-key key.pem`',
  ],
  [['--http-host', '::', ...TLS], '--credentials FILE'],
  [['--http-host', '192.0.2.1', '--http-behind-proxy'], '--credentials FILE'],
  [['--http-host', '192.0.2.1', ...CREDENTIALS], 'add --tls-cert cert.pem --tls-key key.pem, or --http-behind-proxy'],
  [['--http-tls-client-ca', 'tls/cert.pem'], '--http-tls-client-ca asks clients for certificates, which needs HTTPS'],
  [TLS.slice(0, 2), '--http-tls-cert and --http-tls-key go together'],
  [['--http-port', '70000'], '--http-port is 70000; it must be a whole number from 0 to 65535, or off'],
  [['--http-port', 'on'], '--http-port is "on"'],
  [['--url', 'amqp://127.0.0.1', '--data', 'd'], '--data is for a server of one'],
  [['--url', 'amqp://127.0.0.1', '--http-port', 'off'], 'nothing is left to do'],
])('%j is told in one line, with the way out, and ends with 2', async (args, message) => {
  // Port 0 is not the default, which is refused with amqp:// too.
  const given = args.includes('--url') ? args : ['--port', '0', ...args];
  const { code, stdout, stderr } = await callCommand(['server', '--http-port', '0', ...given], { directory });
  expect(stderr).toMatch(/^millrace: USAGE: [^\n]+\n$/);
  expect(stderr).toContain(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});

test('credentials that are none end the start, naming the line and no secret', async () => {
  writeFileSync(join(directory, 'credentials'), `# these\noperate ${SECRET}\n`);
  const { code, stderr } = await serverFailing('--http-port', '0', ...CREDENTIALS);
  expect(stderr).toMatch(/^millrace: INVALID_ARGUMENT: credentials, line 2: [^\n]+\n$/);
  expect(stderr).not.toContain(SECRET);
  expect(code).toBe(2);
});

test('a key that is none ends the start', async () => {
  writeFileSync(join(directory, 'tls/key.pem'), 'no key');
  const { code, stderr } = await serverFailing('--http-port', '0', ...TLS);
  expect(stderr).toMatch(/^millrace: INVALID_ARGUMENT: the certificate and key for HTTPS cannot be used: [^\n]+\n$/);
  expect(code).toBe(2);
});

test('a port that is taken ends the start, and the data directory is free again', async () => {
  const taken = createServer();
  const port = await new Promise<number>((listening) => {
    taken.listen(0, '127.0.0.1', () => listening((taken.address() as { port: number }).port));
  });
  const { code, stderr } = await serverFailing('--http-port', String(port), '--data', 'd');
  taken.close();
  expect(stderr).toMatch(/^millrace: ADDRESS_IN_USE: port \d+ on 127\.0\.0\.1 is taken .*--http-port\n$/);
  expect(code).toBe(1);
  await startServer('--data', 'd');
});

test('with credentials and TLS a server answers over HTTPS to who has the secret', async () => {
  const { url } = await startServer(...TLS, ...CREDENTIALS);
  expect(url).toMatch(/^https:/);
  const statusWith = (headers: Record<string, string>): Promise<number | undefined> =>
    new Promise((answered, failed) => {
      const asked = request(`${url}/v1/stats`, { headers, rejectUnauthorized: false, agent: false }, (response) => {
        response.resume();
        answered(response.statusCode);
      });
      asked.on('error', failed);
      asked.end();
    });
  expect(await statusWith({})).toBe(401);
  expect(await statusWith({ authorization: `Bearer ${SECRET}` })).toBe(200);
});

test('a server of its own says that it does not use the URLs of clients', async () => {
  const environment = { MILLRACE_URL: 'tcp://me:hush@127.0.0.1:1', MILLRACE_STORE: 'postgres://me:hush@127.0.0.1/x' };
  const server = start(['--port', '0'], environment);
  await server.said(/--url tcp:\/\/me:\*\*\*@127\.0\.0\.1:1 is not used/);
  await server.said(/--store postgres:\/\/me:\*\*\*@127\.0\.0\.1\/x is not used/);
  await server.said(/HTTP API on/);
});

test('payloads can be hidden', async () => {
  const { url } = await startServer('--http-payloads', 'off');
  const { json } = await ask(`${url}/v1/tasks`, 'POST', { name: 'x', payload: 'hush' });
  expect((await ask(`${url}/v1/tasks/${json.id}`)).json).toMatchObject({ payloadHidden: true });
  expect((await ask(`${url}/v1/tasks/${json.id}`)).text).not.toContain('hush');
});

test('SIGTERM ends who waits over HTTP, and the server in order', async () => {
  const { server, url } = await startServer('--stop-timeout-ms', '600000');
  const { json } = await ask(`${url}/v1/tasks`, 'POST', { name: 'x' });
  const arrival = new Gate();
  const waiting = askRaw(`${url}/v1/tasks/${json.id}/result?waitMs=60000`, 'GET', { arrived: arrival.open });
  await arrival.opened;
  server.signal('SIGTERM');
  expect(await waiting).toMatchObject({ status: 503, json: { retryable: true } });
  expect(await server.exited).toMatchObject({ code: 0, stderr: '' });
});

test('a server that waits for what runs takes its end over HTTP, and no new tasks', async () => {
  const { server, url } = await startServer('--stop-timeout-ms', '600000');
  const headers = { 'content-type': 'application/json' };
  const { json } = await ask(`${url}/v1/tasks`, 'POST', { name: 'x' });
  const leased = await ask(`${url}/v1/leases`, 'POST', { waitMs: 10_000 });
  server.signal('SIGTERM');
  await server.said(/SIGTERM: stopping; up to 10 min for what runs \(1\)/);
  for (const path of ['/v1/tasks', '/v1/flows']) {
    const answer = await askRaw(`${url}${path}`, 'POST', { headers, body: '{"name": "y"}' });
    expect(answer, path).toMatchObject({ status: 503, json: { code: 'STOPPING' } });
  }
  expect(await ask(`${url}/readyz`)).toMatchObject({ status: 503, json: { code: 'STOPPING' } });
  expect((await ask(`${url}/v1/tasks/${json.id}`)).json.state).toBe('active');
  const [{ lease }] = leased.json.leases;
  expect((await ask(`${url}/v1/leases/${lease}/complete`, 'POST', { result: 1 })).status).toBe(204);
  expect(await server.exited).toMatchObject({ code: 0, stderr: '' });
});

const [rabbit, postgres] = await Promise.all([sharedRabbit(), sharedPostgres()]);

test.runIf(rabbit !== undefined && postgres !== undefined)(
  'with an amqp:// URL only HTTP is served, for what is there',
  async () => {
    const [vhost, database] = await Promise.all([rabbit?.vhost(), postgres?.database()]);
    const secrets = [vhost, database]
      .map((portion) => new URL(portion?.url ?? '').password)
      .filter((word) => word !== '');
    const environment = { MILLRACE_URL: vhost?.url ?? '', MILLRACE_STORE: database?.url ?? '' };
    const server = start(['--stop-timeout-ms', '600000'], environment);
    const [, url = ''] = await server.said(/HTTP API on (\S+)/);
    const { json } = await ask(`${url}/v1/tasks`, 'POST', { name: 'x', payload: 5 });
    expect((await ask(`${url}/v1/tasks/${json.id}`)).json).toMatchObject({ state: 'ready', payload: { data: '5' } });
    const info = await ask(`${url}/v1/info`);
    expect(info.json).toMatchObject({ backend: 'amqp', features: { tasks: true, limits: false } });
    const arrival = new Gate();
    const waiting = askRaw(`${url}/v1/tasks/${json.id}/result?waitMs=60000`, 'GET', { arrived: arrival.open });
    await arrival.opened;
    server.signal('SIGTERM');
    expect(await waiting).toMatchObject({ status: 503, json: { code: 'STOPPING' } });
    const { code, stdout, stderr } = await server.exited;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const text of [stdout, info.text]) for (const secret of secrets) expect(text).not.toContain(`:${secret}@`);
    await Promise.all([vhost?.drop(), database?.drop()]);
  },
);

test.each(['index.js', 'cli/main.js', 'testing/test-queue.js'])('%s loads no web server', async (file) => {
  // Of all that is here only the web server loads HTTP/2.
  const program = `await import(${JSON.stringify(join(ROOT, 'dist', file))});
    console.log(process.moduleLoadList.includes('NativeModule http2'));`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    program,
    'millrace',
    '--help',
  ]);
  expect(stdout.trim().split('\n').at(-1)).toBe('false');
});
