import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { connect } from '../../src/index.ts';
import { ask } from '../http/ask.ts';
import { RunningCommand, runCommand } from '../support/command.ts';

// Each test starts processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const PEM = join(import.meta.dirname, '../access/tls');
const OPS = 'ops-secret-0123456789';
const WEB = 'web-secret-0123456789';
const LINES = `operate ops ${OPS}\nproduce web ${WEB} mail\n`;

let directory: string;
let running: RunningCommand[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-access-'));
  for (const name of ['ca.pem', 'server.pem', 'server.key']) copyFileSync(join(PEM, name), join(directory, name));
  write('credentials', LINES);
  write('token', `${OPS}\n`);
});

afterEach(async () => {
  await Promise.all(running.map((command) => command.kill()));
  running = [];
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string): void {
  writeFileSync(join(directory, name), text, { mode: 0o600 });
}

function start(args: readonly string[], environment: Record<string, string> = {}): RunningCommand {
  const command = new RunningCommand(args, { directory, environment });
  running.push(command);
  return command;
}

/** What a new connection is shown. */
function certificateAt(url: string): Promise<string> {
  const { hostname: host, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host, port: Number(port), ca: readFileSync(join(PEM, 'ca.pem')) }, () => {
      resolve(socket.getPeerX509Certificate()?.toString().trim() ?? '');
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test('one file lets in over TCP and HTTP, both encrypted; it is read again when it changes, or at SIGHUP, and so are certificates', async () => {
  chmodSync(join(directory, 'server.key'), 0o644);
  const certificate = ['--tls-cert', 'server.pem', '--tls-key', 'server.key'];
  const server = start(['server', '--port', '0', '--http-port', '0', '--credentials', 'credentials', ...certificate]);
  const [, url = ''] = await server.said(/listens on (tls:\S+)/);
  const [, http = ''] = await server.said(/HTTP API on (https:\S+)/);
  await server.said(/server\.key can be read by other users of this machine: chmod 600 server\.key/);
  const tls = { ca: join(directory, 'ca.pem') };
  const web = await connect(url, { token: WEB, tls });
  await web.enqueue('x', null, { queue: 'mail' });
  const asked = await runCommand(['status', '--json', '--url', url, '--token-file', 'token', '--tls-ca', 'ca.pem'], {
    directory,
  });
  expect(JSON.parse(asked.stdout).queues).toMatchObject([{ name: 'mail', ready: 1 }]);

  write('credentials', `operate ops ${OPS}\nproduce web short\n`);
  await server.said(
    /credentials not taken over, those before stay in force: INVALID_ARGUMENT: credentials, line 2: the secret has 5/,
  );
  await web.enqueue('x', null, { queue: 'mail' });

  copyFileSync(join(PEM, 'renewed.pem'), join(directory, 'server.pem'));
  copyFileSync(join(PEM, 'renewed.key'), join(directory, 'server.key'));
  write('credentials', `operate ops ${OPS}\n`);
  server.signal('SIGHUP');
  await server.said(/credentials read again from credentials: 1/);
  await expect(web.enqueue('x', null, { queue: 'mail' })).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  await server.said(/certificate for HTTP read again from server\.pem/);
  for (const shown of [await certificateAt(url), await certificateAt(http)]) {
    expect(readFileSync(join(PEM, 'renewed.pem'), 'utf8')).toContain(shown);
  }
  await web.close();
  server.signal('SIGTERM');
  const { code, stdout, stderr } = await server.exited;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const log = readFileSync(join(directory, 'server.log'), 'utf8');
  for (const text of [stdout, log, asked.stdout]) for (const secret of [OPS, WEB]) expect(text).not.toContain(secret);
});

test('credentials and the token may stand in the environment', async () => {
  const server = start(['server', '--port', '0', '--http-port', '0'], { MILLRACE_CREDENTIALS: LINES });
  const [, url = ''] = await server.said(/listens on (tcp:\S+)/);
  const [, http = ''] = await server.said(/HTTP API on (http:\S+)/);
  expect((await ask(`${http}/v1/stats`)).status).toBe(401);
  const commands = await Promise.all([
    runCommand(['status', '--url', url], { directory }),
    runCommand(['status', '--url', url], { directory, environment: { MILLRACE_TOKEN: WEB } }),
    runCommand(['enqueue', 'x', '--queue', 'mail', '--url', url], { directory, environment: { MILLRACE_TOKEN: WEB } }),
  ]);
  expect(commands.map(({ code }) => code)).toEqual([1, 1, 0]);
  expect(commands[0]?.stderr).toMatch(/^millrace: UNAUTHENTICATED: the server asks for a token: [^\n]+\n$/);
  expect(commands[1]?.stderr).toMatch(
    /^millrace: FORBIDDEN: status needs the role read or work; the credentials "web" have produce\n$/,
  );
  for (const { stdout, stderr } of commands) expect(stdout + stderr).not.toContain(WEB);
});

test.skipIf(process.platform !== 'linux')(
  'a password in a URL is in no output, log, or list of processes',
  async () => {
    const url = 'amqp://me:hush@127.0.0.1:1';
    const args = ['--url', url, '--store', 'postgres://me:hush@127.0.0.1:1/x', '--connect-timeout-ms', '1500'];
    const worker = start(['worker', ...args, '--debug']);
    await expect.poll(() => readFileSync(`/proc/${worker.pid}/cmdline`, 'utf8')).toContain('amqp://me:***@127.0.0.1:1');
    expect(readFileSync(`/proc/${worker.pid}/cmdline`, 'utf8')).not.toContain('hush');
    const { stdout, stderr } = await worker.exited;
    expect(stderr).toMatch(/DISCONNECTED/);
    expect(stdout + stderr + readFileSync(join(directory, 'worker.log'), 'utf8')).not.toContain('hush');
  },
);
