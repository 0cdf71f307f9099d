import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const RUN = fileURLToPath(new URL('./run.mjs', import.meta.url));
const KILLS = 5;

test('nothing acknowledged is lost or doubled while server and workers are killed', { timeout: 120_000 }, async () => {
  const child = spawn(process.execPath, [RUN, `--kills=${KILLS}`, '--freezes=0', '--json'], { stdio: 'pipe' });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  // The seed is in there.
  const report = stdout === '' ? {} : JSON.parse(stdout);
  expect(report, stderr).toMatchObject({ lost: 0, doubled: 0, refused: 0, unexpected: 0, problems: [] });
  expect([report.serverKills, report.workerKills]).toEqual([KILLS, KILLS]);
  expect(report.acknowledged).toBe(report.attempted);
  expect(report.completed + report.dead).toBe(report.attempted);
  expect(report.attempted).toBeGreaterThan(100);
});
