import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect } from '../../src/index.ts';

const main = resolve(import.meta.dirname, '../../dist/cli/main.js');
const TIMEOUT_MS = 60_000;
const FREE_PORT = ['--port', '0'];

/** Where the demo puts its directories: what is in there afterwards was left behind. */
let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-test-'));
});
afterEach(() => rm(directory, { recursive: true }));

const environment = (): NodeJS.ProcessEnv => ({ ...process.env, TMPDIR: directory, TEMP: directory, TMP: directory });

function demo(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const options = { timeout: TIMEOUT_MS, env: environment() };
  return promisify(execFile)(process.execPath, [main, 'demo', ...args], options);
}

/** Runs with `--keep`; resolves with the server's URL once everything is up and done. */
async function demoThatStays(...args: string[]): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(process.execPath, [main, 'demo', '--keep', '--json', ...args], { env: environment() });
  const [line] = await once(child.stdout?.setEncoding('utf8') as NodeJS.ReadableStream, 'data');
  return { child, url: (JSON.parse(line) as { url: string }).url };
}

test(
  'every task ends exactly once, also those that fail',
  async () => {
    const flags = ['--tasks', '200', '--fail-share', '0.2', '--dead-share', '0.02', '--task-time-ms', '1', '--json'];
    const { stdout } = await demo(...flags, ...FREE_PORT);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ clients: 4, enqueued: 800, lost: 0, duplicated: 0, durability: 'always' });
    expect(report.completed + report.dead).toBe(800);
    expect(report.dead).toBeGreaterThan(0);
    expect(report.retried).toBeGreaterThan(report.dead);
    // A dead task failed three times, each other that was retried once.
    expect(report.failedAttempts).toBe(report.retried + 2 * report.dead);
    expect(report.workers).toHaveLength(2);
    expect(await readdir(directory)).toEqual([]);
  },
  TIMEOUT_MS,
);

test(
  'a port that is taken is told, and another one used',
  async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as { port: number };
    const { stdout } = await demo('--tasks', '10', '--fail-share', '0', '--port', String(port));
    holder.close();
    expect(stdout).toContain(`port ${port} is taken`);
    expect(stdout).toContain('Every one of 40 acknowledged tasks ended exactly once');
  },
  TIMEOUT_MS,
);

test.skipIf(process.platform === 'win32')(
  'with --keep all stays up, another demo may use it, and Ctrl-C removes everything',
  async () => {
    const { child, url } = await demoThatStays('--tasks', '10', '--fail-share', '0', ...FREE_PORT);
    const second = JSON.parse((await demo('--tasks', '5', '--fail-share', '0', '--url', url, '--json')).stdout);
    expect(second).toMatchObject({ url, enqueued: 20, lost: 0, duplicated: 0 });
    const client = await connect(url);
    const { workers, server } = await client.status();
    await client.close();
    expect(workers.map(({ name }) => name).sort()).toEqual(['worker-1', 'worker-2']);
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([0, null]);
    for (const pid of [server.pid, ...workers.map((worker) => worker.pid)]) {
      expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    }
    expect(await readdir(directory)).toEqual([]);
  },
  TIMEOUT_MS,
);

test.skipIf(process.platform === 'win32')(
  'a demo that is interrupted says so and leaves nothing behind',
  async () => {
    const child = spawn(process.execPath, [main, 'demo', '--tasks', '100000', ...FREE_PORT], { env: environment() });
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(stderr).toContain('INTERRUPTED');
    expect(await readdir(directory)).toEqual([]);
  },
  TIMEOUT_MS,
);
