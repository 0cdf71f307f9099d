import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const RUN = fileURLToPath(new URL('./full.mjs', import.meta.url));
const NOT_ALLOWED = '3';

test('a full file system refuses tasks, loses none, and takes more when there is room', {
  timeout: 120_000,
}, async (context) => {
  const child = spawn(process.execPath, [RUN, '--json'], { stdio: 'pipe' });
  const ended = new Promise<string>((resolve) =>
    child.once('close', (code, signal) => resolve(String(signal ?? code))),
  );
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  // Mounting takes rights that not everybody has.
  if ((await ended) === NOT_ALLOWED) context.skip(stderr.trim());
  const report = stdout === '' ? {} : JSON.parse(stdout);
  expect(report, stderr).toMatchObject({ lost: 0, unexpected: 0, completed: report.acknowledged });
  expect(report.refused).toBeGreaterThan(0);
  expect(report.acknowledged).toBeGreaterThan(report.whileFull);
});
