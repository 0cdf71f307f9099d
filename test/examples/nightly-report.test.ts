import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const PROGRAM = fileURLToPath(new URL('../../examples/node/nightly-report.js', import.meta.url));

// Imports the package as it was built.
test('the nightly report is scheduled, made and ends', { timeout: 60_000 }, async () => {
  const environment = { ...process.env, MILLRACE_URL: 'memory:' };
  const { stdout, stderr } = await run(process.execPath, [PROGRAM, 'now'], { env: environment });
  expect(stderr).toBe('');
  expect(stdout).toMatch(/^next report: .*:30:00.000Z\nSales of the day, begun .*\nmade: \{ pages: 16 \}\n$/);
});
