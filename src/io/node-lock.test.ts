import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DiskLock } from './disk.ts';
import { lockDirectory } from './node-lock.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** A process that listens as a holder does, and says when it does. */
async function holder(): Promise<ChildProcess> {
  const path = join(directory, 'lock.sock');
  const script = `
    const holder = { pid: process.pid, startedAt: '2026-01-01T00:00:00.000Z' };
    require('node:net').createServer((s) => s.end(JSON.stringify(holder))).listen(process.argv[1], () => console.log('held'));
  `;
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

test('a directory is held once in a process, and free after release', async () => {
  const lock = await lockDirectory(directory);
  await expect(lockDirectory(directory)).rejects.toMatchObject({
    code: 'DIRECTORY_LOCKED',
    message: expect.stringContaining(`this process ${process.pid}`),
  });
  await lock.release();
  await (await lockDirectory(directory)).release();
  expect(await readdir(directory)).toEqual([]);
});

test('another process that holds it is named', async () => {
  const child = await holder();
  await expect(lockDirectory(directory)).rejects.toMatchObject({
    code: 'DIRECTORY_LOCKED',
    details: { directory, pid: child.pid, startedAt: '2026-01-01T00:00:00.000Z' },
  });
  await kill(child);
});

test('what a killed process left is taken over', async () => {
  await kill(await holder());
  expect(await readdir(directory)).toEqual(['lock.sock']);
  const lock = await lockDirectory(directory);
  await expect(lockDirectory(directory)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  await lock.release();
});

test('of many that find it stale at the same time one gets it', async () => {
  await kill(await holder());
  const attempts = await Promise.allSettled(Array.from({ length: 20 }, () => lockDirectory(directory)));
  const got = attempts.filter((one) => one.status === 'fulfilled') as PromiseFulfilledResult<DiskLock>[];
  expect(got).toHaveLength(1);
  for (const one of attempts) {
    if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'DIRECTORY_LOCKED' });
  }
  await got[0].value.release();
});

test('a guard left by one that died while taking over is removed when it is old', async () => {
  await kill(await holder());
  const guard = join(directory, 'lock.sock.takeover');
  mkdirSync(guard);
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(guard, longAgo, longAgo);
  await (await lockDirectory(directory)).release();
});

test('a path too long for a socket is locked all the same', async () => {
  const long = join(directory, 'd'.repeat(100), 'e'.repeat(60));
  mkdirSync(long, { recursive: true });
  const lock = await lockDirectory(long);
  await expect(lockDirectory(long)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  expect(await readdir(long)).toEqual(['lock.sock']);
  expect(await lock.isHeld()).toBe(true);
  await lock.release();
  expect(await readdir(long)).toEqual([]);
});

test.runIf(process.platform === 'linux')('of a path too long for a socket no descriptor is left open', async () => {
  const long = join(directory, 'd'.repeat(100), 'e'.repeat(60));
  mkdirSync(long, { recursive: true });
  const descriptors = async () => (await readdir('/proc/self/fd')).length;
  const before = await descriptors();
  const lock = await lockDirectory(long);
  await expect(lockDirectory(long)).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  await lock.release();
  expect(await descriptors()).toBe(before);
});

test('it is known when it was removed, and when another has taken its place', async () => {
  const lock = await lockDirectory(directory);
  expect(await lock.isHeld()).toBe(true);
  rmSync(join(directory, 'lock.sock'));
  expect(await lock.isHeld()).toBe(false);
  const other = await lockDirectory(directory);
  expect(await lock.isHeld()).toBe(false);
  expect(await other.isHeld()).toBe(true);
  await lock.release();
  expect(await other.isHeld()).toBe(true);
  await other.release();
});

test('two ways to the same directory are the same lock', async () => {
  const lock = await lockDirectory(directory);
  await expect(lockDirectory(join(directory, '.', ''))).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' });
  await lock.release();
});

test('holding it does not keep a process alive', async () => {
  const before = process.getActiveResourcesInfo();
  const lock = await lockDirectory(directory);
  expect(process.getActiveResourcesInfo().filter((name) => name === 'PipeServerWrap')).toEqual(
    before.filter((name) => name === 'PipeServerWrap'),
  );
  await lock.release();
});
