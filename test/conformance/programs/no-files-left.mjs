import { closeSync, openSync } from 'node:fs';
import { devNull } from 'node:os';
import { millrace } from './product.mjs';

// Opens a directory, then every file that the process may have open, and goes on asking for the status, enqueueing and
// working; then closes these files. Says how many tasks gave the right result.
const [directory] = process.argv.slice(2);
const MIB = 1024 * 1024;
const client = await millrace.connect(`file:${directory}`, { embedded: { segmentBytes: MIB, cacheBytes: MIB } });

const payloads = (count, letter) => Array.from({ length: count }, (_, i) => `${i} `.padEnd(100_000, letter));
const early = await client.enqueueMany('length', payloads(60, 'e'));

const files = [];
try {
  for (;;) files.push(openSync(devNull));
} catch (error) {
  process.stdout.write(`${error.code}\n`);
}
for (let i = 0; i < 20; i++) await client.status();
process.stdout.write('status\n');
await client.work({ length: (input) => input.length }, { concurrency: 5 });
const late = client.enqueueMany('length', payloads(60, 'l'));
// Work begins, and comes to where the journal needs files that it cannot have.
await new Promise((resolve) => setTimeout(resolve, 500));
for (const file of files) closeSync(file);

const results = [...(await early.results()), ...(await (await late).results())];
process.stdout.write(`${results.filter((result) => result === 100_000).length}\n`);
await client.close();
