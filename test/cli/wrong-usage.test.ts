import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LIMITS } from '../../src/limits.ts';
import { callCommand } from '../support/called-command.ts';
import { type Finished, RunningCommand, runCommand } from '../support/command.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-usage-'));
  writeFileSync(join(directory, 'a-file'), '');
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** A process of its own: commands that stay take over its signals as soon as they begin. */
function millrace(...args: string[]): Promise<Finished> {
  return runCommand(args, { directory });
}

test.each([
  [[], 'a command is missing'],
  [['serve'], "unknown command 'serve' (did you mean server?)"],
  [['server', '--prot', '1'], "unknown option '--prot' (did you mean --port?)"],
  [['server', '--port', 'abc'], '--port is "abc"; it must be a whole number from 0 to 65535'],
  [
    ['server', '--host', '0.0.0.0'],
    '`millrace server --host 0.0.0.0 --credentials FILE --tls-cert cert.pem --tls-key key.pem`',
  ],
  [
    ['server', '--host', '0.0.0.0', '--credentials', 'a-file'],
    'add --tls-cert cert.pem --tls-key key.pem, or --insecure-bind',
  ],
  [['server', '--tls-client-ca', 'a-file'], '--tls-client-ca asks clients for certificates, which needs TLS'],
  [['status', '--token-file', 'gone'], '--token-file gone cannot be read'],
  [['server', '--config', 'gone.json'], 'cannot read the configuration file gone.json'],
  [['task', 'gett'], 'did you mean "get"?'],
  [['task', 'get'], "missing required argument 'id'"],
  [['queue', 'purge', 'mail'], 'add --yes'],
  [['task', 'retry'], 'task retry needs ids, or some of --queue, --name, --state'],
  [['task', 'cancel', '--newest', '--yes'], 'task cancel needs ids, or some of'],
  [['task', 'cancel', '1-1', '--queue', 'mail'], 'task cancel takes ids or --queue and the like, not both'],
  [['task', 'cancel', '--queue', 'mail'], 'add --yes'],
  [['task', 'list', '--from', 'yesterday'], '--from is "yesterday"; it must be a time, such as 2026-08-01T12:00'],
  [['enqueue', 'x', '{nope'], 'the payload is not JSON'],
  [['enqueue', 'x', '--run-at', 'soon'], '--run-at is "soon"'],
  [['enqueue', 'x', '--on-parent-failure', 'run'], '--on-parent-failure belongs to --depends-on'],
  [
    ['queue', 'limit', 'mail', '--concurrency', '0'],
    `--concurrency is 0; it must be a whole number from 1 to ${LIMITS.queueConcurrencyMax}, or none`,
  ],
  [['worker', '--handlers', 'h.js', '--fail-rate', '0.1'], 'for the built-in handler'],
])('%j is told in one line and ends with 2', async (args, message) => {
  const { code, stdout, stderr } = await callCommand(args, { directory });
  expect(stderr).toMatch(/^millrace: USAGE: [^\n]+\n$/);
  expect(stderr).toContain(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});

test('a process that was called wrongly ends with 2', async () => {
  expect(await millrace()).toEqual({ code: 2, stdout: '', stderr: expect.stringMatching(/^millrace: USAGE: /) });
});

test.each([
  [['server', '--port', '0', '--data', 'a-file'], 'JOURNAL_UNUSABLE: data directory a-file'],
  [['server', '--port', '0', '--log-file', 'gone/x.log'], 'ENOENT: '],
  [
    ['server', '--port', '0', '--insecure-bind', '--host', '192.0.2.1'],
    'EADDRNOTAVAIL: --host 192.0.2.1 is no address',
  ],
  [['worker', '--handlers', 'gone.js'], 'HANDLERS: there is no file'],
  [['status', '--url', 'tcp://127.0.0.1:1', '--connect-timeout-ms', '100'], 'DISCONNECTED: no connection to'],
  [['journal', 'verify', 'gone'], 'NOT_FOUND: there is no directory gone'],
  [['journal', 'verify', '.'], 'NOT_FOUND: there is no journal in .'],
])('%j fails with one line and 1', async (args, message) => {
  const { code, stdout, stderr } = await millrace(...args);
  expect(stderr).toMatch(/^millrace: [A-Z_]+: [^\n]+\n$/);
  expect(stderr).toContain(message);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
});

test.skipIf(process.platform !== 'linux')('a data directory where none can be made is refused, and named', async () => {
  const { code, stderr } = await millrace('server', '--port', '0', '--data', '/proc/x');
  expect(stderr).toMatch(/^millrace: JOURNAL_UNUSABLE: data directory \/proc\/x: it cannot be made there[^\n]+\n$/);
  expect(code).toBe(1);
});

test('a port that is taken, and a directory that is in use', async () => {
  const taken = createServer();
  const port = await new Promise<number>((resolve) => {
    taken.listen(0, '127.0.0.1', () => resolve((taken.address() as { port: number }).port));
  });
  try {
    const { code, stderr } = await millrace('server', '--port', String(port), '--data', 'd1');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^millrace: ADDRESS_IN_USE: port .*\n$/),
    });
  } finally {
    taken.close();
  }
  const server = new RunningCommand(['server', '--port', '0', '--data', 'd2'], { directory });
  try {
    await server.said(/listens on/);
    const { code, stderr } = await millrace('server', '--port', '0', '--data', 'd2');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^millrace: DIRECTORY_LOCKED: data directory d2 is in use by process \d+.*\n$/),
    });
  } finally {
    await server.kill();
  }
});

test('--debug adds the stack, and passwords never show', async () => {
  const { stderr } = await millrace('status', '--url', 'tcp://me:secret@127.0.0.1:1', '--debug');
  expect(stderr).toContain('\n    at ');
  expect(stderr).toContain('a tcp: URL has no user and no password');
  expect(stderr).not.toContain('secret');
});
