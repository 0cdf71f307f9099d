import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RunningCommand } from '../support/command.ts';

const run = promisify(execFile);
const EXAMPLES = resolve(import.meta.dirname, '../../examples');

/** Whether the machine has the program; with CI set it must. */
async function isHere(program: string): Promise<boolean> {
  try {
    await run(program, ['--version']);
    return true;
  } catch (error) {
    if (process.env.CI) throw error;
    process.stderr.write(`\nTESTS ARE SKIPPED: examples over HTTP need ${program}\n`);
    return false;
  }
}

const [hasPython, hasCurl] = await Promise.all([isHere('python3'), isHere('curl')]);

describe.runIf(hasPython || hasCurl)('the example over HTTP', () => {
  let directory: string;
  let server: RunningCommand;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-examples-'));
    server = new RunningCommand(['server', '--data', 'data', '--port', '0', '--http-port', '0'], { directory });
    const [, url] = await server.said(/HTTP API on (http:\S+)/);
    env = { ...process.env, MILLRACE_HTTP_URL: url, PYTHONDONTWRITEBYTECODE: '1' };
  });
  afterAll(async () => {
    await server.kill();
    await rm(directory, { recursive: true });
  });

  async function output(program: string, name: string, ...args: string[]): Promise<string> {
    const { stdout, stderr } = await run(program, [join(EXAMPLES, name), ...args], { timeout: 20_000, env });
    expect(stderr).toBe('');
    return stdout;
  }

  test.runIf(hasPython)('http_worker.py runs what http_enqueue.py enqueues, a failed attempt twice', async () => {
    const [worked, enqueued] = await Promise.all([
      output('python3', 'python/http_worker.py', '4'),
      output('python3', 'python/http_enqueue.py', '3'),
    ]);
    expect(enqueued).toBe(`completed {"report": "2026-01", "attempt": 1}
completed {"report": "2026-02", "attempt": 2}
completed {"report": "2026-03", "attempt": 1}
`);
    expect(worked.split('\n').sort()).toEqual([
      '',
      'report.build 2026-01 attempt 1: complete',
      'report.build 2026-02 attempt 1: fail',
      'report.build 2026-02 attempt 2: complete',
      'report.build 2026-03 attempt 1: complete',
    ]);
  });

  test.runIf(hasCurl)('http_cycle.sh completes one task and fails another', async () => {
    const [completed, dead] = (await output('sh', 'shell/http_cycle.sh')).trim().split('\n');
    expect(JSON.parse(completed as string)).toEqual({ state: 'completed', result: 'Hello, Ada' });
    expect(JSON.parse(dead as string)).toMatchObject({ state: 'dead', error: { message: 'nobody to greet' } });
  });

  test.runIf(hasCurl)('http_cycle.sh fails when there is no server', async () => {
    const unreachable = { ...env, MILLRACE_HTTP_URL: 'http://127.0.0.1:1' };
    await expect(run('sh', [join(EXAMPLES, 'shell/http_cycle.sh')], { env: unreachable })).rejects.toThrow();
  });
});
