import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { type Client, connect, type Status } from '../../src/index.ts';
import { until } from '../conformance/events.ts';
import { RunningCommand, runCommand } from '../support/command.ts';

// Each test starts several processes.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** The policy of docs/scaling-workers.md, some times faster. */
const FAST = [
  ...['--scale-interval-ms', '100', '--backlog-age-ms', '300', '--scale-up-pause-ms', '100'],
  ...['--scale-down-after-ms', '800', '--log-file', 'off', '--json'],
];

/** `hold` runs until there is a file `go`. */
const HANDLERS = `
import { existsSync } from 'node:fs';
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export default {
  work: (ms) => pause(ms),
  hold: async () => {
    while (!existsSync('go')) await pause(20);
  },
};
`;

let directory: string;
let server: RunningCommand;
let url: string;
let client: Client;
let running: RunningCommand | undefined;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-scaling-'));
  writeFileSync(join(directory, 'handlers.js'), HANDLERS);
  writeFileSync(join(directory, 'broken.js'), `import './missing.js';\n`);
  server = new RunningCommand(['server', '--port', '0', '--data', 'data', '--log-file', 'off'], { directory });
  [, url = ''] = await server.said(/listens on (tcp:\S+?)["\s]/);
  client = await connect(url);
});

afterAll(async () => {
  await client?.close({ timeoutMs: 0 });
  await server?.kill();
  rmSync(directory, { recursive: true });
});

afterEach(async () => {
  await running?.kill();
});

function supervise(...args: string[]): RunningCommand {
  running = new RunningCommand(['worker', '--url', url, '--handlers', 'handlers.js', ...FAST, ...args], { directory });
  return running;
}

function status(holds: (status: Status) => boolean, what: string): Promise<Status> {
  return until(() => client.status(), holds, what);
}

test('processes come with a backlog and go without, no task is interrupted, and each decision says why', async () => {
  const crew = ['--min', '1', '--max', '2', '--concurrency', '10', '--name', 'crew', '--stop-timeout-ms', '100'];
  const supervisor = supervise(...crew);
  await supervisor.said(/"msg":"worker crew\/1 .*takes work/);
  await client.enqueueMany('work', Array(120).fill(100));
  await supervisor.said(
    /scaling from 1 to 2 worker processes: \d+ tasks wait.* longer than 300 ms; handlers are \d+ % busy/,
  );
  await status(
    ({ workers, queues: [queue] }) => workers.length === 2 && queue?.completed === 120,
    'two workers and no backlog',
  );
  // One for each: the process that retires runs it to its end, which its stop timeout would not let it.
  const held = await client.enqueueMany('hold', [1, 2]);
  const retiring = await status(({ supervisors }) => supervisors?.[0]?.retiring === 1, 'one retires');
  expect(retiring.workers.map(({ running }) => running)).toEqual([1, 1]);
  writeFileSync(join(directory, 'go'), '');
  await Promise.all([...held].map((task) => task.result()));
  const { supervisors } = await status(
    (now) => now.workers.length === 1 && now.supervisors?.[0]?.retiring === 0,
    'one worker',
  );
  expect(supervisors).toMatchObject([{ name: 'crew', min: 1, max: 2, current: 1, queues: ['default'] }]);
  const decisions = supervisors?.[0]?.decisions.map(({ from, to, reason }) => `${from} → ${to}: ${reason}`) ?? [];
  // Where the second process comes soon, tasks that wait all the same say that there may be no third.
  const atMost = decisions.filter((decision) => decision.startsWith('2 → 2: '));
  for (const decision of atMost)
    expect(decision).toMatch(/ tasks wait.*, but there are 2 processes, as many as may be$/);
  expect(decisions.filter((decision) => !atMost.includes(decision))).toEqual([
    expect.stringMatching(/^2 → 1: fewer have been enough for \d+ ms: no task waits, handlers are \d+ % busy$/),
    expect.stringMatching(/^1 → 2: \d+ tasks wait/),
    '0 → 1: the start, with the least that there may be',
  ]);
  const { tasks } = await client.tasks.list({ limit: 1000 });
  expect(tasks.map(({ state, attempt, failures }) => ({ state, attempt, failed: failures.length }))).toEqual(
    Array(122).fill({ state: 'completed', attempt: 1, failed: 0 }),
  );

  const { pid, name } = (await client.status()).workers[0] as Status['workers'][number];
  process.kill(pid, 'SIGKILL');
  await supervisor.said(
    new RegExp(`worker process ${name} \\(${pid}\\) ended with SIGKILL; another is started in 0\\.5 s`),
  );
  await status(({ workers: [worker] }) => worker !== undefined && worker.pid !== pid, 'another worker');
  // Nobody tells the processes.
  await supervisor.kill();
  await status(({ workers }) => workers.length === 0, 'no worker outlives its supervisor');
});

test('a supervisor stops its processes in order', async () => {
  const supervisor = supervise('--max', '2');
  await status(({ workers }) => workers.length === 1, 'a worker');
  supervisor.signal('SIGTERM');
  const { code, stderr, stdout } = await supervisor.exited;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/scaling from 1 to 0 worker processes: SIGTERM: stopping/);
  expect(stdout).toMatch(/"msg":"stopped"}\n$/);
  expect((await client.status()).workers).toEqual([]);
});

test('handlers that cannot be loaded end the supervisor with what is wrong', async () => {
  const { code, stderr } = await runCommand(
    ['worker', '--url', url, '--handlers', 'broken.js', ...FAST, '--max', '2'],
    { directory },
  );
  expect(code).toBe(1);
  expect(stderr).toMatch(/^millrace: HANDLERS: \S*broken\.js cannot be loaded: .*missing\.js/);
});
