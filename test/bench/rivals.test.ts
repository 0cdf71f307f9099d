import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { orderOf } from '../../bench/lib/order.mjs';
import { renderLosses, renderTables, type Standing } from '../../bench/lib/tables.mjs';
import { atLeastOnce, atMostThose, exactlyOnce } from '../../bench/lib/verdict.mjs';

const at = (median: number, min = median, max = median) => ({ median, min, max });

const OURS: Standing = {
  name: 'millrace',
  title: 'Millrace',
  syncs: true,
  figures: {
    'enqueue-bulk': at(900_000, 800_000, 950_000),
    drain: at(150_000),
    'latency-500-p99': at(1.234),
    half: at(200_000),
  },
};
const SYNCING: Standing = {
  name: 'careful',
  title: 'Careful',
  syncs: true,
  figures: { 'enqueue-bulk': at(60_000), drain: at(152_000), 'latency-500-p99': at(9.8) },
};
const LAX: Standing = {
  name: 'lax',
  title: 'Lax',
  syncs: false,
  figures: { 'enqueue-bulk': at(81_000), drain: at(186_000), 'latency-500-p99': at(0.5) },
};

describe('the comparison with other queues', () => {
  test('marks the best of those that sync and the best of all, also where that is not Millrace', () => {
    const [throughput, latency] = renderTables([LAX, OURS, SYNCING]);
    expect(throughput?.split('\n').slice(-3)).toEqual([
      '| Millrace | **900,000** \\* (800,000–950,000) | – | 150,000 | – |',
      '| Careful | 60,000 | – | **152,000** | – |',
      '| Lax ¹ | 81,000 | – | 186,000 \\* | – |',
    ]);
    expect(latency).toContain('| Millrace | – | – | **1.23** | 200,000 | – | – |');
    expect(latency).toContain('| Lax ¹ | – | – | 0.50 \\* | – | – | – |');
  });

  test('names each figure in which another is better, the best of them first', () => {
    expect(renderLosses([OURS, SYNCING, LAX])).toEqual([
      '- drain: Millrace 150,000 tasks/s; Lax ¹ 186,000, Careful 152,000',
      '- to the handler at 500/s, p99: Millrace 1.23 ms; Lax ¹ 0.50',
    ]);
  });

  test('finds tasks that were lost, repeated, or that nobody enqueued', () => {
    const whole = { seen: 10, duplicated: 0, foreign: 0, last: 9 };
    expect(exactlyOnce(10, whole)).toBeUndefined();
    expect(exactlyOnce(10, { ...whole, seen: 8 })).toBe('2 of 10 tasks were lost');
    expect(exactlyOnce(10, { ...whole, duplicated: 3 })).toBe('3 times a task was processed again');
    expect(exactlyOnce(10, { ...whole, last: 10 })).toContain('nobody enqueued');
    expect(exactlyOnce(10, { ...whole, foreign: 1 })).toContain('nobody enqueued');
    expect(atLeastOnce(10, { ...whole, duplicated: 3 })).toBeUndefined();
    expect(atLeastOnce(10, { ...whole, seen: 9, duplicated: 3 })).toBe('1 of 10 tasks were lost');
    expect(atMostThose(10, { ...whole, seen: 4 })).toBeUndefined();
    expect(atMostThose(10, { ...whole, seen: 4, last: 12 })).toContain('nobody enqueued');
  });

  test('begins each run at another system, and goes every second one backwards', () => {
    const systems = ['a', 'b', 'c', 'd', 'e', 'f'];
    const runs = [0, 1, 2].map((run) => orderOf(systems, run, 3).join(''));
    expect(runs).toEqual(['abcdef', 'bafedc', 'efabcd']);
    expect(new Set(runs.map((run) => run[0])).size).toBe(3);
  });
});

describe('the command', () => {
  let directory = '';
  let page = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-test-'));
    page = join(directory, 'page.md');
  });
  afterEach(() => rm(directory, { recursive: true }));

  /** As it is kept, with what went wrong in its only run. */
  async function sittingWith(notes: Record<string, number>, problems: readonly string[]): Promise<string> {
    const file = join(directory, 'results.json');
    const system = { name: 'millrace', title: 'Millrace', syncs: true, durability: 'd', settings: ['s'], versions: {} };
    const sitting = {
      ...{ startedAt: '2026-01-02T03:04:05Z', quick: false, runs: 1, rows: ['bulk', 'backlog'], payloadBytes: 100 },
      sizes: { backlogTasks: 1000, backlogBoundMs: 1000 },
      machine: { cpu: 'c', cores: 2, memoryBytes: 2 ** 30, os: 'o', fileSystem: 'ext4' },
      ...{ disk: { fdatasyncP50Us: 100, zeroedDsyncP50Us: null }, node: '24.0.0', systems: [system], leftOut: [] },
      done: [{ system: 'millrace', run: 0, tookMs: 1, figures: { drain: 1000 }, notes, problems }],
    };
    await writeFile(file, JSON.stringify(sitting));
    return file;
  }

  function rivals(...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
    return new Promise((done) => {
      const main = resolve(import.meta.dirname, '../../bench/rivals.mjs');
      execFile(process.execPath, [main, ...args], (error, stdout, stderr) => {
        done({ code: error === null ? 0 : error.code, stdout, stderr });
      });
    });
  }

  const DRAINED = { backlogTasks: 1000, backlogDrained: 1000, backlogRepeated: 0 };

  test('puts what was measured between the marks of the page', async () => {
    await writeFile(page, '# Page\n\n<!-- rivals:begin: by it -->\n\nold\n\n<!-- rivals:end -->\n\n## After\n');
    const file = await sittingWith(DRAINED, []);
    expect(await rivals('--render', file, '--write', page)).toMatchObject({ code: 0 });
    const written = await readFile(page, 'utf8');
    expect(written).toMatch(/^# Page\n\n<!-- rivals:begin: by it -->\n\n## Against other queues\n/);
    expect(written).toMatch(/\n\n<!-- rivals:end -->\n\n## After\n$/);
    expect(written).toContain('every task was processed exactly once.\n- After the crash none was lost.');
  });

  test('fails when a ledger was not right, and says so in what it writes', async () => {
    const file = await sittingWith(DRAINED, ['bulk: 2 of 10 tasks were lost']);
    const { code, stdout, stderr } = await rivals('--render', file);
    expect(code).toBe(1);
    expect(stderr).toContain('millrace, run 1: bulk: 2 of 10 tasks were lost');
    expect(stdout).toContain('- **Wrong**: millrace, run 1: bulk: 2 of 10 tasks were lost');
    expect(stdout).not.toContain('exactly once.');
  });

  test('promises nothing of tasks that nobody waited for', async () => {
    const file = await sittingWith({ ...DRAINED, backlogDrained: 400, backlogRepeated: 3 }, []);
    const { code, stdout } = await rivals('--render', file);
    expect(code).toBe(0);
    expect(stdout).toContain('Millrace 1 k (400 drained)');
    expect(stdout).toContain('Millrace: after the crash 3 times a task was processed again');
    expect(stdout).toContain('none was lost of a backlog that was drained whole; of the others nobody knows');
  });

  test('refuses a page that has no place for it, before it measures', async () => {
    await writeFile(page, '# Page\n');
    const { code, stderr } = await rivals('--write', page);
    expect(code).toBe(2);
    expect(stderr).toContain(`${page} cannot take the part "rivals"`);
    expect(await readFile(page, 'utf8')).toBe('# Page\n');
  });
});
