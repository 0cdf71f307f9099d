import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { countLedger, ledgerLine } from './demo-ledger.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-ledger-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

test('puts together what several workers did with one task', () => {
  const first = file('1', ledgerLine('0/0', 1, 'failed') + ledgerLine('0/1', 1, 'done') + ledgerLine('1/0', 3, 'dead'));
  const second = file('2', ledgerLine('0/0', 2, 'done'));
  expect(countLedger([first, second], 2, 2)).toEqual({
    done: 2,
    dead: 1,
    lost: 1,
    retried: 2,
    failedAttempts: 2,
    duplicated: 0,
  });
});

test('a task that ended twice is a duplicate, and counts once', () => {
  const path = file('1', ledgerLine('0/0', 1, 'done') + ledgerLine('0/0', 1, 'done'));
  expect(countLedger([path], 1, 1)).toMatchObject({ done: 1, lost: 0, duplicated: 1 });
});

test('leaves half a line, and a file that is not there yet, for later', () => {
  const path = file('1', `${ledgerLine('0/0', 1, 'done')}0/1 1 do`);
  expect(countLedger([path, join(directory, 'later')], 1, 2)).toMatchObject({ done: 1, lost: 1 });
});

test('a task that nobody enqueued is a duplicate of something', () => {
  const path = file('1', ledgerLine('0/0', 1, 'done') + ledgerLine('7/7', 1, 'done'));
  expect(countLedger([path], 1, 1)).toMatchObject({ lost: 0, duplicated: 1 });
});
