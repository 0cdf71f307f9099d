import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServerActor } from './processes.mjs';
import { millrace } from './product.mjs';

// npm run test:full [-- --json]: a server on a file system that fills up. Exit code 3: no file system could be mounted.
const DISK_MIB = 300;
const PAYLOAD = 'x'.repeat(50_000);
const KILLS = 5;
const LATER = 200;

const directory = await mkdtemp(join(tmpdir(), 'millrace-full-'));
try {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tmpfs', directory], { stdio: 'pipe' });
} catch (error) {
  await rm(directory, { recursive: true });
  process.stderr.write(`no file system of ${DISK_MIB} MiB could be mounted: ${String(error).split('\n')[0]}\n`);
  process.exit(3);
}
try {
  const report = await fill(new ServerActor(directory));
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(report)}\n`);
  else for (const [name, count] of Object.entries(report)) process.stdout.write(`${name.padEnd(16)} ${count}\n`);
  const { lost, unexpected, refused, acknowledged, completed } = report;
  process.exitCode = lost + unexpected > 0 || refused === 0 || completed !== acknowledged ? 1 : 0;
} finally {
  execFileSync('umount', ['--lazy', directory]);
  await rm(directory, { recursive: true, force: true });
}

/** @param {ServerActor} server */
async function fill(server) {
  await server.start();
  const client = await millrace.connect(server.url, { reconnect: { initialDelayMs: 10, maxDelayMs: 100 } });
  /** Keys by id. @type {Map<string, string>} */
  const acknowledged = new Map();
  /** @type {Set<string>} */
  const refused = new Set();
  /** @type {string[]} */
  const unexpected = [];
  let count = 0;
  const enqueue = async () => {
    const key = `k${++count}`;
    try {
      const { id } = await client.enqueue('full', { key, PAYLOAD });
      acknowledged.set(id, key);
      return true;
    } catch (error) {
      if (error instanceof millrace.MillraceError && error.code === 'DISK_FULL') refused.add(key);
      else unexpected.push(String(error));
      return false;
    }
  };
  while (await enqueue());
  // Full, and killed again and again: it starts, refuses, and has everything.
  for (let kill = 0; kill < KILLS; kill++) {
    await server.end('SIGKILL');
    await server.start();
    await enqueue();
  }
  const whileFull = acknowledged.size;
  /** @type {Set<string>} */
  const ran = new Set();
  await client.work(
    {
      full: (input) => {
        const { key } = /** @type {{ key: string }} */ (input);
        ran.add(key);
        return key;
      },
    },
    { concurrency: 4 },
  );
  const queue = client.queue('default');
  const finished = async () => {
    while ((await queue.status()).totals.completed < acknowledged.size) await sleep(20);
  };
  await finished();
  // What is retained takes the disk too. When there is less of it, the server goes on by itself.
  await queue.retention({ completedCountMax: 100 });
  while (acknowledged.size < whileFull + LATER) if (!(await enqueue())) await sleep(20);
  await finished();
  const lost = [...acknowledged.values()].filter((key) => !ran.has(key)).length;
  for (const key of refused) if (ran.has(key)) unexpected.push(`${key} was refused and ran`);
  const { totals } = await queue.status();
  if (totals.enqueued !== acknowledged.size)
    unexpected.push(`${totals.enqueued} tasks, ${acknowledged.size} acknowledged`);
  await client.close();
  await server.end('SIGTERM');
  for (const line of unexpected.slice(0, 20)) process.stderr.write(`${line}\n`);
  return {
    ...{ attempted: count, acknowledged: acknowledged.size, whileFull, refused: refused.size },
    ...{ completed: totals.completed, lost, kills: KILLS, unexpected: unexpected.length },
  };
}
