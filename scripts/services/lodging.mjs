// @ts-check
import { spawn } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Daemon } from './processes.mjs';

const PREFIX = 'millrace-services-';

/**
 * A directory of its own and the processes that live in it: gone with `end`, and when this process dies in any way.
 */
export class Lodging {
  /** @type {string} */
  directory;
  #keeper;

  static async open() {
    await sweep();
    const directory = await mkdtemp(join(tmpdir(), PREFIX));
    // PostgreSQL runs as another user than root and must reach its own directory below.
    await chmod(directory, 0o711);
    const lodging = new Lodging(directory);
    await writeFile(join(directory, 'keeper.pid'), String(lodging.#keeper.pid));
    return lodging;
  }

  /** @param {string} directory */
  constructor(directory) {
    this.directory = directory;
    this.#keeper = spawn(process.execPath, [fileURLToPath(new URL('./keeper.mjs', import.meta.url))], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    // It must not hold its owner, and its end is told by what it was to keep.
    this.#keeper.unref();
    /** @type {import('node:net').Socket} */ (this.#keeper.stdin).unref();
    this.#keeper.stdin.on('error', () => {});
    this.#tell(`dir ${directory}`);
  }

  /**
   * @param {string} program
   * @param {readonly string[]} args
   * @param {{ env?: NodeJS.ProcessEnv, uid?: number, gid?: number, cwd?: string }} options
   */
  start(program, args, options) {
    const daemon = new Daemon(program, args, { cwd: this.directory, ...options });
    const { pid } = daemon;
    if (pid !== undefined) {
      this.#tell(`pid ${pid}`);
      void daemon.ended.then(() => this.#tell(`-pid ${pid}`));
    }
    return daemon;
  }

  /** When what was started in it has been stopped. */
  async end() {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    this.#tell(`-dir ${this.directory}`);
    this.#keeper.stdin.end();
  }

  /** @param {string} line */
  #tell(line) {
    if (this.#keeper.stdin.writable) this.#keeper.stdin.write(`${line}\n`);
  }
}

/** Removes what a keeper that was itself killed has left. */
async function sweep() {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(tmpdir(), name);
    try {
      const pid = Number(await readFile(join(directory, 'keeper.pid'), 'utf8'));
      if (pid > 0 && !isAlive(pid)) await rm(directory, { recursive: true, force: true });
    } catch {
      // It is just being made or removed, or is another user's.
    }
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}
