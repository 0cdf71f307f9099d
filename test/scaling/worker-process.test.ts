import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

/** What is built: a process is started from a file that Node can load as it is. */
const MODULE = fileURLToPath(new URL('../../dist/cli/worker-process.js', import.meta.url));
const ENDLESS = fileURLToPath(new URL('./modules/endless.js', import.meta.url));

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
