import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

test('docs/testing.md shows the example that runs here', async () => {
  const example = await readFile(new URL('example.test.ts', import.meta.url), 'utf8');
  const documentation = await readFile(new URL('../../docs/testing.md', import.meta.url), 'utf8');
  const asShown = example
    .replace('../../src/index.ts', 'millrace')
    .replace('../../src/testing/test-queue.ts', 'millrace/testing');
  expect(documentation).toContain(`\`\`\`ts\n${asShown}\`\`\``);
});

test('the built package has millrace/testing, with the classes of millrace', async () => {
  const program = `
    import { MillraceError } from 'millrace';
    import { testQueue } from 'millrace/testing';
    const queue = await testQueue();
    const error = await queue.advance(-1).catch((reason) => reason);
    console.log(error instanceof MillraceError, queue.now().toISOString());
    await queue.close();`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: ROOT,
  });
  expect(stdout).toBe('true 2026-01-01T00:00:00.000Z\n');
});
