import fs from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Disk, DiskFile, DiskLock } from './disk.ts';
import { lockDirectory } from './node-lock.ts';

const O_DSYNC: number | undefined = fs.constants.O_DSYNC;
const DIRECTORY_SYNC_UNSUPPORTED = ['EISDIR', 'EPERM', 'EINVAL', 'ENOTSUP', 'EBADF'];

/** Files of this machine. */
export class NodeDisk implements Disk {
  async makeDirectory(path: string): Promise<void> {
    const missing: string[] = [];
    let above = resolve(path);
    for (; !(await isThere(above)); above = dirname(above)) missing.push(above);
    // Not `recursive`: where nothing can be made although all above is there, as in /proc, that tries for ever.
    for (const directory of missing.reverse()) {
      await mkdir(directory, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    }
    if (!(await stat(resolve(path))).isDirectory()) throw notADirectory(path);
    // The entry of each directory that was made lies in the one above.
    for (const directory of missing) await this.syncDirectory(dirname(directory));
  }

  async list(path: string): Promise<string[]> {
    return (await readdir(path)).sort();
  }

  async open(path: string, options: { create?: boolean; write?: boolean; synced?: boolean }): Promise<DiskFile> {
    const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = fs.constants;
    const synced = options.synced === true;
    const flags =
      (options.write === true ? O_RDWR : O_RDONLY) |
      (options.create === true ? O_CREAT | O_EXCL : 0) |
      (synced ? (O_DSYNC ?? 0) : 0);
    return await new Promise((resolve, reject) => {
      fs.open(path, flags, 0o600, (error, fd) => {
        if (error === null) resolve(new NodeFile(fd, synced && O_DSYNC === undefined));
        else reject(error);
      });
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await rename(from, to);
  }

  async remove(path: string): Promise<void> {
    await rm(path);
  }

  async syncDirectory(path: string): Promise<void> {
    if (process.platform === 'win32') return;
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } catch (error) {
      if (!DIRECTORY_SYNC_UNSUPPORTED.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    } finally {
      await handle.close();
    }
  }

  lock(path: string): Promise<DiskLock> {
    return lockDirectory(path);
  }
}

/** Callbacks, because a write through `FileHandle` takes a fifth longer (MEASURED: 150 against 190 µs). */
class NodeFile implements DiskFile {
  readonly #fd: number;
  /** The system cannot do it while writing. */
  readonly #syncsAfterWrite: boolean;

  constructor(fd: number, syncsAfterWrite: boolean) {
    this.#fd = fd;
    this.#syncsAfterWrite = syncsAfterWrite;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      const count = await new Promise<number>((resolve, reject) => {
        fs.read(this.#fd, into, filled, into.length - filled, position + filled, (error, bytesRead) => {
          if (error === null) resolve(bytesRead);
          else reject(error);
        });
      });
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let rest = buffers;
    let at = position;
    while (rest.length > 0) {
      const written = await (rest.length === 1 ? this.#writeOne(rest[0], at) : this.#writeMany(rest, at));
      at += written;
      rest = behind(rest, written);
    }
    if (this.#syncsAfterWrite) await this.sync();
  }

  #writeOne(buffer: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(this.#fd, buffer, 0, buffer.length, position, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }

  #writeMany(buffers: readonly Uint8Array[], position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.writev(this.#fd, buffers as Uint8Array[], position, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.fstat(this.#fd, (error, stats) => {
        if (error === null) resolve(stats.size);
        else reject(error);
      });
    });
  }

  truncate(bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.#fd, bytes, (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.close(this.#fd, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(error);
      });
    });
  }
}

/** Throws when it cannot be told, and when not even the root is there. */
async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error;
    return false;
  }
}

function notADirectory(path: string): Error {
  return Object.assign(new Error(`ENOTDIR: not a directory, '${path}'`), { code: 'ENOTDIR', path });
}

/** What a short write left. */
function behind(buffers: readonly Uint8Array[], written: number): readonly Uint8Array[] {
  let skip = written;
  const rest: Uint8Array[] = [];
  for (const buffer of buffers) {
    if (skip >= buffer.length) skip -= buffer.length;
    else {
      rest.push(buffer.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
