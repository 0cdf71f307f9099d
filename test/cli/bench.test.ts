import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';

const main = resolve(import.meta.dirname, '../../dist/cli/main.js');
const TIMEOUT_MS = 120_000;

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-test-'));
});
afterEach(() => rm(directory, { recursive: true }));

function bench(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const all = [main, 'bench', '--quick', '--data', directory, ...args];
  return promisify(execFile)(process.execPath, all, { timeout: TIMEOUT_MS });
}

test(
  'a quick run fills its rows, with each task processed exactly once, and leaves nothing behind',
  async () => {
    // Row 13 is made of what rows 2 and 12 do; it would take six more processes.
    const rows = [1, 2, 3, 4, 5, 6, 7, 12, 14, 15];
    const { stdout } = await bench('--json', '--rows', rows.join(','));
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      machine: { cores: expect.any(Number) },
      versions: { node: process.versions.node },
      durability: 'fsync always',
      disk: { fdatasyncP50Us: expect.any(Number) },
    });
    expect([...new Set(report.rows.map((row: { row: number }) => row.row))]).toEqual(rows);
    for (const row of report.rows) {
      expect(row).toMatchObject({
        name: expect.any(String),
        unit: expect.any(String),
        runs: 1,
        lost: 0,
        duplicated: 0,
      });
      expect(row.median).toBeGreaterThan(0);
      expect(row.min).toBe(row.max);
      if (row.row === 14) expect(row.fsyncs).toBeNull();
      else expect(row.fsyncs).toBeGreaterThan(0);
    }
    expect(report.ledgers.length).toBeGreaterThan(rows.length - 2);
    for (const ledger of report.ledgers) expect(ledger).toMatchObject({ lost: 0, duplicated: 0 });
    expect(await readdir(directory)).toEqual([]);
  },
  TIMEOUT_MS,
);

test(
  'chosen rows, runs and profiles',
  async () => {
    const profiles = join(directory, 'profiles');
    const { stdout } = await bench('--rows', '1', '--runs', '2', '--tasks', '5000', '--profile', profiles);
    expect(stdout).toContain('end to end, batch handler');
    expect(stdout).toContain('0 lost, 0 duplicated');
    expect(stdout).toMatch(/row1-producer: busy/);
    expect(await readdir(profiles)).toEqual([
      'row1-producer.cpuprofile',
      'row1-server.cpuprofile',
      'row1-worker.cpuprofile',
    ]);
  },
  TIMEOUT_MS,
);

test(
  'growth gives a point for each size of what grows, and keeps nothing of a page that cannot take them',
  async () => {
    const { stdout } = await bench('--growth', '--series', 'queued,idle-queues', '--json');
    const { points } = JSON.parse(stdout);
    expect(points.map(({ series, size }: { series: string; size: number }) => [series, size])).toEqual([
      ['queued', 500],
      ['queued', 2000],
      ['idle-queues', 1],
      ['idle-queues', 10],
    ]);
    for (const point of points) {
      expect(point).toMatchObject({ lost: 0, duplicated: 0 });
      expect(point.tasksPerS).toBeGreaterThan(0);
      expect(point.serverCpuUs).toBeGreaterThan(0);
    }
    expect(await readdir(directory)).toEqual([]);
  },
  TIMEOUT_MS,
);

test.each([
  [['--growth', '--rows', '1'], '--rows does not go with --growth'],
  [['--document', 'docs'], '--series and --document go with --growth'],
])('%j is wrong usage', async (args, message) => {
  const failure = await bench(...args).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
});

test('a row that there is not is wrong usage', async () => {
  const failure = await bench('--rows', '1,99').catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 2, stderr: expect.stringContaining('--rows has "99"') });
});
