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
  'a quick run fills every row, with each task processed exactly once, and leaves nothing behind',
  async () => {
    const { stdout } = await bench('--json');
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      machine: { cores: expect.any(Number) },
      versions: { node: process.versions.node },
      durability: 'fsync always',
      disk: { fdatasyncP50Us: expect.any(Number) },
    });
    expect([...new Set(report.rows.map((row: { row: number }) => row.row))]).toEqual([1, 2, 3, 4, 5, 6, 7]);
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
      expect(row.fsyncs).toBeGreaterThan(0);
    }
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

test('a row that there is not is wrong usage', async () => {
  const failure = await bench('--rows', '1,12').catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 2, stderr: expect.stringContaining('--rows has "12"') });
});
