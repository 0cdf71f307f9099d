import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openJournal } from '../../test/support/journal.ts';
import { NodeDisk } from './node-disk.ts';

const disk = new NodeDisk();
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-disk-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test.each([true, false])('a file gives back what was written, in one buffer or many (synced: %s)', async (synced) => {
  const path = join(directory, 'file');
  const file = await disk.open(path, { create: true, write: true, synced });
  await file.write([Buffer.from('one')], 0);
  await file.write(
    ['two', '', 'three'].map((text) => Buffer.from(text)),
    3,
  );
  await file.sync();
  expect(await file.size()).toBe(11);
  const into = Buffer.alloc(20);
  expect(await file.read(into, 0)).toBe(11);
  expect(into.toString('latin1', 0, 11)).toBe('onetwothree');
  expect(await file.read(into, 11)).toBe(0);
  await file.truncate(3);
  expect(await file.size()).toBe(3);
  await file.close();
});

test('directories are made with those above them; names come sorted', async () => {
  const deep = join(directory, 'a', 'b', 'c');
  await disk.makeDirectory(deep);
  await disk.makeDirectory(deep);
  for (const name of ['2', '10', '1']) await (await disk.open(join(deep, name), { create: true, write: true })).close();
  expect(await disk.list(deep)).toEqual(['1', '10', '2']);
  await disk.rename(join(deep, '10'), join(deep, '3'));
  await disk.remove(join(deep, '1'));
  await disk.syncDirectory(deep);
  expect(await disk.list(deep)).toEqual(['2', '3']);
});

test('a directory that cannot be made is refused at once, and one that is a file', async () => {
  const file = join(directory, 'file');
  await (await disk.open(file, { create: true, write: true })).close();
  await expect(disk.makeDirectory(file)).rejects.toMatchObject({ code: 'ENOTDIR' });
  await expect(disk.makeDirectory(join(file, 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  if (process.platform !== 'linux') return;
  await expect(disk.makeDirectory('/proc/x')).rejects.toMatchObject({ code: 'ENOENT', path: '/proc/x' });
  await expect(disk.makeDirectory('/proc/x/y')).rejects.toMatchObject({ code: 'ENOENT', path: '/proc/x' });
});

test('errors carry the system’s code', async () => {
  const path = join(directory, 'file');
  await expect(disk.open(path, {})).rejects.toMatchObject({ code: 'ENOENT' });
  await (await disk.open(path, { create: true, write: true })).close();
  await expect(disk.open(path, { create: true, write: true })).rejects.toMatchObject({ code: 'EEXIST' });
  const readOnly = await disk.open(path, {});
  await expect(readOnly.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'EBADF' });
  await readOnly.close();
});

test('a journal on it comes back after an end without close', async () => {
  const path = join(directory, 'data');
  const texts = Array.from({ length: 40 }, (_, i) => `text ${i}`.padEnd(1500, '.'));
  const first = await openJournal({ disk, directory: path });
  for (const text of texts) {
    first.journal.append(16, Buffer.from(text));
    first.journal.retain(first.journal.lastSegment, 1);
  }
  await first.journal.flush();
  await first.journal.close();
  const second = await openJournal({ disk, directory: path });
  expect(second.texts).toEqual(texts);
  await second.journal.close();
});

test('a directory that is a file is refused with its name', async () => {
  const path = join(directory, 'file');
  await (await disk.open(path, { create: true, write: true })).close();
  await expect(openJournal({ disk, directory: path })).rejects.toMatchObject({
    code: 'JOURNAL_UNUSABLE',
    message: expect.stringContaining(path),
  });
});
