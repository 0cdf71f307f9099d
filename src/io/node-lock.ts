import { createHash } from 'node:crypto';
import { mkdir, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MillraceError } from '../errors.ts';
import type { DiskLock } from './disk.ts';

/**
 * Holds a directory by listening on a socket in it: Node has no flock, and a process id in a file proves nothing across
 * containers or after a restart. The kernel refuses connections as soon as the holder is dead, however it died.
 *
 * free ── listen ──► held ── release ──► free
 *                      └── holder died ──► stale ── found refused, under the guard: removed, listened ──► held
 *
 * Two that find it stale must not remove each other's socket: that is done only by who made the guard directory. A
 * guard as old as GUARD_STALE_MS was left by a process that died in those few milliseconds.
 */
interface Holder {
  pid: number;
  startedAt: string;
}

const SOCKET_NAME = 'lock.sock';
/** `sun_path` has 104 bytes on macOS and 108 on Linux, with the zero at the end. */
const SOCKET_PATH_BYTES_MAX = 100;
const ANSWER_TIMEOUT_MS = 1000;
const GUARD_STALE_MS = 10_000;
const GUARD_PAUSE_MS = 50;
const ATTEMPTS_MAX = 250;
/** What file systems say that cannot hold a socket. */
const NO_SOCKETS = ['ENOTSUP', 'EOPNOTSUPP', 'EPERM'];

export async function lockDirectory(directory: string): Promise<DiskLock> {
  const real = await realpath(directory);
  try {
    return await lockAt(socketPath(real), directory);
  } catch (error) {
    if (!NO_SOCKETS.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return await lockAt(systemPath(real), directory);
  }
}

async function lockAt(path: string, directory: string): Promise<DiskLock> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const server = await listen(path);
    if (server !== undefined) return { release: () => closeServer(server) };
    const holder = await askHolder(path);
    if (holder === 'unclear') await sleep(GUARD_PAUSE_MS);
    else if (holder !== 'nobody') throw lockedBy(directory, holder);
    else if (process.platform !== 'win32') await removeStale(path);
  }
  throw new MillraceError(
    'DIRECTORY_LOCKED',
    `cannot take the lock of ${directory}: ${path} changes hands all the time`,
  );
}

/** Inside the directory, unless that path is too long for a socket. */
function socketPath(directory: string): string {
  const path = join(directory, SOCKET_NAME);
  const fits = Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX && process.platform !== 'win32';
  return fits ? path : systemPath(directory);
}

function systemPath(directory: string): string {
  const name = `millrace-${createHash('sha256').update(directory).digest('hex').slice(0, 32)}`;
  return process.platform === 'win32' ? `\\\\.\\pipe\\${name}` : join(tmpdir(), `${name}.sock`);
}

/** Undefined when something is at that path already. */
function listen(path: string): Promise<Server | undefined> {
  const holder: Holder = { pid: process.pid, startedAt: new Date().toISOString() };
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(JSON.stringify(holder));
    socket.unref();
  });
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen({ path, readableAll: true, writableAll: true }, () => resolve(server));
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

/** `undefined`: somebody holds it and does not say who (its event loop is busy). */
function askHolder(path: string): Promise<Holder | undefined | 'nobody' | 'unclear'> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    let text = '';
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => {
      text += part;
    });
    socket.once('end', () => resolve(parseHolder(text)));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve('nobody');
      // It accepted and died, or its queue of connections is full: the next attempt tells.
      else if (error.code === 'ECONNRESET' || error.code === 'EPIPE' || error.code === 'EAGAIN') resolve('unclear');
      else reject(error);
    });
  });
}

function parseHolder(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return undefined;
  }
}

function lockedBy(directory: string, holder: Holder | undefined): MillraceError {
  const who =
    holder === undefined
      ? 'a process that does not answer'
      : `${holder.pid === process.pid ? 'this process' : 'process'} ${holder.pid}, since ${holder.startedAt}`;
  return new MillraceError(
    'DIRECTORY_LOCKED',
    `data directory ${directory} is in use by ${who}: stop it, or use another directory`,
    {
      details: { directory, ...holder },
    },
  );
}

async function removeStale(path: string): Promise<void> {
  const guard = `${path}.takeover`;
  try {
    await mkdir(guard);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const age = await stat(guard).then(
      (stats) => Date.now() - stats.mtimeMs,
      () => 0,
    );
    if (age > GUARD_STALE_MS) await rmdir(guard).catch(() => undefined);
    else await sleep(GUARD_PAUSE_MS);
    return;
  }
  try {
    // Somebody may have taken over between our question and our guard.
    if ((await askHolder(path)) === 'nobody') await rm(path, { force: true });
  } finally {
    await rmdir(guard);
  }
}
