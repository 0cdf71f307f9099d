import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';

const run = promisify(execFile);
const EXAMPLES = resolve(import.meta.dirname, '../../examples/node');

/** Examples that need nothing but Node, as they are, over what was built. */
async function output(name: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, MILLRACE_URL: 'memory:' };
  const { stdout, stderr } = await run(process.execPath, [resolve(EXAMPLES, name), ...args], { timeout: 20_000, env });
  expect(stderr).toBe('');
  return stdout;
}

describe('the example', () => {
  test('fair-tenants.js lets a small tenant pass a big one', async () => {
    expect(await output('fair-tenants.js')).toBe('the small tenant did not wait for the big one\n');
  });

  test('image-pipeline.js fans out, fans in, and prints the album', async () => {
    expect(await output('image-pipeline.js')).toBe(`7 tasks
{
  title: 'Pets',
  images: [
    'cat.png at 200 of 4000 px',
    'cat.png at 800 of 4000 px',
    'dog.png at 200 of 4000 px',
    'dog.png at 800 of 4000 px'
  ]
}
`);
  });

  test('nightly-report.js is scheduled, and made when asked for', async () => {
    expect(await output('nightly-report.js', 'now')).toMatch(
      /^next report: .*:30:00.000Z\nSales of the day, begun .*\nmade: \{ pages: 16 \}\n$/,
    );
  });

  test('traced-order.js prints the spans of an order, those of a failed attempt too', async () => {
    expect(await output('traced-order.js')).toBe(`told the customer of a about order 17
enqueue order.place
  run order.place
    enqueue mail.send
      run mail.send: the mail server is busy
      run mail.send
`);
  });

  test('rate-limited-api.js calls no more often than it may', async () => {
    expect(await output('rate-limited-api.js')).toBe('10 calls, at most 2 at a time, no faster than allowed\n');
  });

  test('primes.js counts in threads, and stops what does not end', async () => {
    expect(await output('primes.js')).toBe('17984 primes below 200,000\nthe endless one: TASK_TIMEOUT\n');
  });
});
