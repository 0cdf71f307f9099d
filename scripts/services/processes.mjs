// @ts-check
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** How exactly the time of a start can be measured: the same for all programs. */
const PROBE_MS = 5;

/**
 * Runs a program to its end and resolves with what it printed; rejects with its last lines.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, timeoutMs?: number, uid?: number, gid?: number, cwd?: string, shell?: boolean }} [options]
 * @returns {Promise<string>}
 */
export function run(program, args, { timeoutMs = 60_000, ...options } = {}) {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { ...options, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 16 << 20, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-15).join('\n');
        reject(new Error(`${program} ${args.join(' ')} failed: ${said || error.message}`, { cause: error }));
      },
    );
  });
}

/**
 * A program that stays, as the leader of its own process group: the group is what is ended, and Ctrl-C is not sent to it.
 */
export class Daemon {
  /** Resolves with how it ended. @type {Promise<string>} */
  ended;
  /** The last it printed. */
  said = '';
  alive = true;
  #name;
  #child;

  /**
   * @param {string} program
   * @param {readonly string[]} args
   * @param {{ env?: NodeJS.ProcessEnv, uid?: number, gid?: number, cwd?: string }} options
   */
  constructor(program, args, options) {
    this.#name = program;
    this.#child = spawn(program, args, { ...options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.said = (this.said + text).slice(-8000);
      });
    }
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(error.message));
      this.#child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    }).then((how) => {
      this.alive = false;
      return how;
    });
  }

  /** Undefined when it could not be started. */
  get pid() {
    return this.#child.pid;
  }

  /** Resolves when it is gone. */
  async kill() {
    if (this.pid !== undefined) endGroup(this.pid, 'SIGKILL');
    await this.ended;
    this.#letGo();
  }

  /**
   * Asks, and kills what has not gone in time.
   *
   * @param {NodeJS.Signals} signal
   * @param {number} timeoutMs
   */
  async stop(signal, timeoutMs) {
    if (!this.alive) return;
    if (this.pid !== undefined) process.kill(this.pid, signal);
    const timer = setTimeout(() => {
      if (this.pid !== undefined) endGroup(this.pid, 'SIGKILL');
    }, timeoutMs);
    await this.ended;
    clearTimeout(timer);
    await this.kill();
  }

  /**
   * Resolves when the probe does; rejects when the program ends before, or the time is over.
   *
   * @param {() => Promise<boolean>} probe
   * @param {number} timeoutMs
   */
  async ready(probe, timeoutMs) {
    const deadline = performance.now() + timeoutMs;
    while (!(await probe())) {
      if (!this.alive) throw new Error(`${this.#name} ended by itself (${await this.ended}): ${this.said}`);
      if (performance.now() > deadline) {
        throw new Error(`${this.#name} was not ready within ${timeoutMs} ms: ${this.said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
    }
  }

  /** A grandchild may hold the pipes open for longer. */
  #letGo() {
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
  }
}

/**
 * Sends a signal to a process group, and to the children of its leader, which may lead groups of their own (PostgreSQL's
 * processes do). What is gone already is well.
 *
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function endGroup(pid, signal) {
  const children = childrenOf(pid);
  for (const target of [-pid, ...children]) {
    try {
      process.kill(target, signal);
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error;
    }
  }
}

/**
 * A process and all that descend from it, now.
 *
 * @param {number} pid
 * @returns {number[]}
 */
export function familyOf(pid) {
  return [pid, ...childrenOf(pid).flatMap(familyOf)];
}

/** @param {number} pid */
function childrenOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    // Not Linux, or gone: the children notice by themselves, a little later.
    return [];
  }
}
