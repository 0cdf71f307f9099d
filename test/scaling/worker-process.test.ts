import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { SystemClock } from '../../src/io/clock.ts';
import { LIMITS } from '../../src/limits.ts';
import { WorkerProcess } from '../../src/scaling/worker-process.ts';

/** What is built: a process is started from a file that Node can load as it is. */
const MODULE = fileURLToPath(new URL('../../dist/cli/worker-process.js', import.meta.url));
const ENDLESS = fileURLToPath(new URL('./modules/endless.js', import.meta.url));
const UNENDING = fileURLToPath(new URL('./modules/unending.js', import.meta.url));

test.each(['its supervisor is gone', 'it is told to'])(
  'a process that still waits for its handlers ends when %s',
  async (why) => {
    const child = fork(MODULE, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
    const exited = once(child, 'exit');
    onTestFinished(() => void child.kill('SIGKILL'));
    child.send({ type: 'start', values: { handlers: ENDLESS, logFile: 'off', logLevel: 'info', json: true } });
    const [said] = await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
    expect(String(said)).toBe('loading\n');
    if (why === 'it is told to') child.send({ type: 'stop' });
    else child.disconnect();
    expect(await exited).toEqual([0, null]);
  },
);

test('a line that a process never ends is passed on cut, and not kept until it does', async () => {
  const said = await new Promise<string>((resolve) => {
    const options = { clock: new SystemClock(), module: UNENDING, name: 'w/1', values: {} };
    const child = new WorkerProcess({ ...options, onLine: (stream, line) => resolve(`${stream} ${line}`) });
    onTestFinished(() => child.kill());
  });
  const max = LIMITS.workerLineCharactersMax;
  expect(said.replaceAll(/x+/g, ({ length }) => `${length} x`)).toBe(
    `stdout ${max} x… (a line of more than ${max} characters: the rest is left out)`,
  );
});
