import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { WatchedFiles } from './watched-files.ts';

let directory: string;
let file: string;
let clock: ManualClock;
let files: WatchedFiles;
let told: number;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-watched-'));
  file = join(directory, 'file');
  writeFileSync(file, 'before\n');
  clock = new ManualClock();
  told = 0;
  files = new WatchedFiles([file, join(directory, 'missing')], clock, 1000, () => told++);
  await files.start();
});

afterEach(() => {
  files.stop();
  rmSync(directory, { recursive: true });
});

/** How often it was told until it has looked once more. */
async function look(): Promise<number> {
  clock.advance(1000);
  await expect.poll(() => clock.timerCount).toBe(1);
  return told;
}

test('a change is told once, when it has stayed for as long as there is between two looks', async () => {
  expect(await look()).toBe(0);
  writeFileSync(file, 'after, and longer\n');
  expect(await look()).toBe(0);
  expect(await look()).toBe(1);
  expect(await look()).toBe(1);
});

test('a file that is still being written is not told of', async () => {
  for (let line = 0; line < 3; line++) {
    appendFileSync(file, 'one more\n');
    expect(await look()).toBe(0);
  }
  expect(await look()).toBe(1);
});

test('that a file is removed or replaced is told too', async () => {
  rmSync(file);
  await look();
  expect(await look()).toBe(1);
  writeFileSync(file, 'before\n');
  await look();
  expect(await look()).toBe(2);
});
