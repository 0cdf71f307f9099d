import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { nowNs, percentile } from './numbers.ts';

const WRITE_BYTES = 4096;

export interface DiskProbe {
  /** Write 4 KiB, fdatasync; the file's blocks are allocated beforehand. Median, microseconds. */
  fdatasyncP50Us: number;
  /** Write 4 KiB to a file opened with O_DSYNC whose blocks were filled with zeros beforehand; null where there is no O_DSYNC. */
  zeroedDsyncP50Us: number | null;
}

/** Gives a directory within this one, which is removed afterwards. */
export function inScratch<T>(directory: string, use: (own: string) => T): T {
  const own = fs.mkdtempSync(join(directory, 'millrace-bench-'));
  try {
    return use(own);
  } finally {
    fs.rmSync(own, { recursive: true, force: true });
  }
}

/** What the disk under `directory` takes to make 4 KiB durable, without Millrace. Blocks this process. */
export function probeDisk(directory: string, writes: number): DiskProbe {
  const file = join(directory, 'disk-probe');
  const bytes = writes * WRITE_BYTES;
  const { O_RDWR, O_DSYNC } = fs.constants;
  preallocate(file, bytes);
  const fdatasyncP50Us = timeWrites(file, O_RDWR, writes, true);
  let zeroedDsyncP50Us: number | null = null;
  if (O_DSYNC !== undefined) {
    fillWithZeros(file, bytes);
    zeroedDsyncP50Us = timeWrites(file, O_RDWR | O_DSYNC, writes, false);
  }
  fs.rmSync(file);
  return { fdatasyncP50Us, zeroedDsyncP50Us };
}

const STREAM_WRITE_BYTES = 1024 * 1024;

/** Bytes a second of writes of 1 MiB that are durable before the next begins, as a journal under load makes them. */
export function probeStream(directory: string, writes: number): number {
  const file = join(directory, 'disk-probe');
  const bytes = writes * STREAM_WRITE_BYTES;
  const { O_RDWR, O_DSYNC } = fs.constants;
  fillWithZeros(file, bytes);
  const buffer = Buffer.alloc(STREAM_WRITE_BYTES, 'millrace');
  const fd = fs.openSync(file, O_RDWR | (O_DSYNC ?? 0));
  const startNs = nowNs();
  for (let at = 0; at < bytes; at += STREAM_WRITE_BYTES) {
    fs.writeSync(fd, buffer, 0, STREAM_WRITE_BYTES, at);
    if (O_DSYNC === undefined) fs.fdatasyncSync(fd);
  }
  const tookNs = nowNs() - startNs;
  fs.closeSync(fd);
  fs.rmSync(file);
  return bytes / (tookNs / 1e9);
}

function timeWrites(file: string, flags: number, writes: number, sync: boolean): number {
  const buffer = Buffer.alloc(WRITE_BYTES, 'millrace');
  const tookNs = new Float64Array(writes);
  const fd = fs.openSync(file, flags);
  for (let index = 0; index < writes; index++) {
    const startNs = nowNs();
    fs.writeSync(fd, buffer, 0, WRITE_BYTES, index * WRITE_BYTES);
    if (sync) fs.fdatasyncSync(fd);
    tookNs[index] = nowNs() - startNs;
  }
  fs.closeSync(fd);
  return percentile(tookNs, 0.5) / 1000;
}

/** Node has no fallocate: the command where there is one, else the length alone (a write then also allocates its block). */
function preallocate(file: string, bytes: number): void {
  const fd = fs.openSync(file, 'w');
  try {
    execFileSync('fallocate', ['--length', String(bytes), file], { stdio: 'ignore' });
  } catch {
    fs.ftruncateSync(fd, bytes);
  }
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function fillWithZeros(file: string, bytes: number): void {
  const fd = fs.openSync(file, 'w');
  fs.writeSync(fd, Buffer.alloc(bytes));
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}
