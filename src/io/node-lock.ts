import { createHash } from 'node:crypto';
import { type FileHandle, lstat, mkdir, open, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { join, resolve as resolvePath } from 'node:path';
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
 * The socket is always in the directory itself: what is elsewhere, in the system's directory for temporary files for
 * example, another process may see elsewhere.
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

/** Rejects with DIRECTORY_LOCKED, JOURNAL_UNUSABLE where no lock can be, or the system's error. */
export async function lockDirectory(directory: string): Promise<DiskLock> {
  const { path, handle } = await socketPlace(directory);
  try {
    const server = await takeSocket(path, directory);
    const identity = await identityOf(path);
    const isHeld = async (): Promise<boolean> => (await identityOf(path)) === identity;
    return {
      isHeld,
      release: async () => {
        // Closing would remove the socket of whoever has the place now.
        if (!(await isHeld())) return;
        // Removes the socket, for which the directory's handle is needed still.
        await closeServer(server);
        await handle?.close();
      },
    };
  } catch (error) {
    await handle?.close();
    if (!NO_SOCKETS.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    throw new MillraceError(
      'JOURNAL_UNUSABLE',
      `data directory ${directory}: its file system takes no socket, which is what locks it (${(error as Error).message}); use a local file system`,
      { cause: error, details: { directory } },
    );
  }
}

async function takeSocket(path: string, directory: string): Promise<Server> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const server = await listen(path);
    if (server !== undefined) return server;
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

interface SocketPlace {
  path: string;
  /** Must stay open for as long as `path` is used. */
  handle: FileHandle | undefined;
}

/** A path of the socket in the directory that is short enough; Windows has pipes, whose names hold for all processes. */
async function socketPlace(directory: string): Promise<SocketPlace> {
  const real = await realpath(directory);
  if (process.platform === 'win32') {
    const name = createHash('sha256').update(real).digest('hex').slice(0, 32);
    return { path: `\\\\.\\pipe\\millrace-${name}`, handle: undefined };
  }
  const fitting = [real, resolvePath(directory)]
    .map((way) => join(way, SOCKET_NAME))
    .find((path) => Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX);
  if (fitting !== undefined) return { path: fitting, handle: undefined };
  if (process.platform === 'linux') {
    const handle = await open(real, 'r');
    const way = `/proc/self/fd/${handle.fd}`;
    // Where there is no /proc the directory has no shorter way.
    if ((await realpath(way).catch(() => undefined)) === real) return { path: join(way, SOCKET_NAME), handle };
    await handle.close();
  }
  const bytesMax = SOCKET_PATH_BYTES_MAX - SOCKET_NAME.length - 1;
  throw new MillraceError(
    'JOURNAL_UNUSABLE',
    `data directory ${directory}: its path has ${Buffer.byteLength(real)} bytes, too many for the socket that locks it; use a path of at most ${bytesMax} bytes, or a symbolic link with such a path`,
    { details: { directory, bound: bytesMax } },
  );
}

/** Tells a socket from one that was put in its place, also where the number of a removed file is used again. */
async function identityOf(path: string): Promise<string | undefined> {
  if (process.platform === 'win32') return path;
  try {
    const { dev, ino, mtimeNs } = await lstat(path, { bigint: true });
    return `${dev} ${ino} ${mtimeNs}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
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
    // Somebody else may have removed it meanwhile.
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
