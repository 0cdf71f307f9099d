import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { check, type Disturbance } from './check.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-books-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function book(name: string, lines: readonly string[]): string {
  const path = join(directory, name);
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
  return path;
}

async function problemsOf(
  producer: readonly string[],
  workers: Readonly<Record<string, readonly string[]>>,
  disturbances: readonly Disturbance[] = [],
): Promise<readonly string[]> {
  const workerBooks = Object.fromEntries(Object.entries(workers).map(([name, lines]) => [name, book(name, lines)]));
  return (await check({ producerBooks: [book('p', producer)], workerBooks, disturbances })).problems;
}

const ENQUEUED = ['a p.1 plain 100', 'k p.1'];

test('a run in order has no problems, and is counted', async () => {
  const producer = [
    ...['a p.1 plain 100', 'k p.1', 'r p.1 completed', 'a p.2 doomed 100', 'k p.2', 'r p.2 TASK_DEAD'],
    ...['a p.3 cancelled 100', 'k p.3', 'c p.3 cancelled', 'a p.4 flaky 100', 'k p.4'],
  ];
  const worker = [
    ...['s p.1 1 110 10', 'e p.1 120', 's p.2 1 110 10', 's p.2 2 300 200'],
    ...['s p.4 1 120 20', 's p.4 2 400 300', 'e p.4 410'],
  ];
  const verdict = await check({
    producerBooks: [book('p', producer)],
    workerBooks: { w: book('w', worker) },
    disturbances: [],
  });
  expect(verdict.problems).toEqual([]);
  expect(verdict.counts).toEqual({
    ...{ attempted: 4, acknowledged: 4, completed: 2, dead: 1, cancelled: 1, lost: 0, runs: 5, again: 0 },
  });
  expect(verdict.starts).toEqual([{ atMs: 110, latencyMs: 10 }]);
});

test.each([
  ['lost', ENQUEUED, [], /p\.1 \(plain\) was acknowledged, and no handler got through/],
  ['never answered', ['a p.1 plain 100'], [], /p\.1 was never answered/],
  ['refused', ['a p.1 plain 100', 'n p.1 DISK_FULL: no room'], [], /p\.1 was refused: DISK_FULL: no room/],
  ['unknown', [], ['s p.9 1 110 10'], /p\.9 ran, which nobody enqueued/],
  ['cancelled and run', ['a p.1 cancelled 1', 'k p.1', 'c p.1 cancelled'], ['s p.1 1 110 10'], /cancelled .* and ran/],
  ['too early', ['a p.1 delayed 100', 'k p.1'], ['s p.1 1 1099 10', 'e p.1 1100'], /999\.0 ms after .* too early/],
  ['run twice', ENQUEUED, ['s p.1 1 110 1', 'e p.1 120', 's p.1 1 130 1', 'e p.1 140'], /nothing had happened/],
  ['told wrongly', [...ENQUEUED, 'r p.1 TASK_DEAD'], ['s p.1 1 110 1', 'e p.1 120'], /was told TASK_DEAD/],
])('a task that is %s is found', async (_what, producer, worker, problem) => {
  const problems = await problemsOf(producer, { w: worker });
  expect(problems).toEqual([expect.stringMatching(problem)]);
});

test('a second run has a reason when the worker of the first was cut off meanwhile, and only then', async () => {
  const workers = { w1: ['s p.1 1 110 10'], w2: ['s p.1 2 200 100', 'e p.1 210'] };
  expect(await problemsOf(ENQUEUED, workers, [{ worker: 'w1', atMs: 150 }])).toEqual([]);
  expect(await problemsOf(ENQUEUED, workers, [{ worker: 'w2', atMs: 150 }])).toHaveLength(1);
  expect(await problemsOf(ENQUEUED, workers, [{ worker: 'w1', atMs: 250 }])).toHaveLength(1);
});

test('a task of a flow does not begin before those that it depends on, whatever stands before the flow', async () => {
  const keys = [2, 3, 4, 5].map((number) => `p.${number}`);
  const producer = [...ENQUEUED, ...keys.flatMap((key) => [`a ${key} flow 100`, `k ${key}`])];
  const runs = (lastMs: number): string[] => [
    ...['s p.1 1 110 1', 'e p.1 111', 's p.2 1 110 1', 'e p.2 120', 's p.3 1 110 1', 'e p.3 130'],
    ...['s p.4 1 131 1', 'e p.4 140', `s p.5 1 ${lastMs} 1`, `e p.5 ${lastMs + 1}`],
  ];
  expect(await problemsOf(producer, { w: runs(141) })).toEqual([]);
  expect(await problemsOf(producer, { w: runs(139) })).toEqual([
    'p.5 began before p.4, on which it depends, had ended',
  ]);
});

test('the last line of a book may be half a line', async () => {
  const path = join(directory, 'torn');
  writeFileSync(path, 's p.1 1 110 10\ne p.1 120\ns p.1 1 1');
  const { problems } = await check({
    producerBooks: [book('p', ENQUEUED)],
    workerBooks: { w: path },
    disturbances: [],
  });
  expect(problems).toEqual([]);
});
