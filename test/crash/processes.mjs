import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { now } from './ledger.mjs';
import { cli } from './product.mjs';

/** A process of the experiment. */
export class Actor {
  /** @type {import('node:child_process').ChildProcess} */
  child;
  /** @type {Promise<string>} The signal that ended it, or its exit code. */
  ended;
  stderr = '';

  /** @param {readonly string[]} args */
  constructor(args) {
    this.child = spawn(process.execPath, args, { stdio: 'pipe' });
    this.child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => resolve(signal ?? String(code)));
    });
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    this.child.kill(signal);
    return this.ended;
  }

  /**
   * It does nothing for so long, as on a machine that was suspended; its connections stay.
   *
   * @param {number} ms
   */
  async freeze(ms) {
    this.child.kill('SIGSTOP');
    await sleep(ms);
    this.child.kill('SIGCONT');
  }
}

const JUMP = new URL('./jump.mjs', import.meta.url).href;

/** The server, on one directory and port, killed and started again and again. */
export class ServerActor {
  /** When each start was ready, and the epoch of the ids and tokens that it gives. @type {{ at: number, epoch: number }[]} */
  starts = [];
  port = 0;
  #directory;
  /** @type {Actor | undefined} */
  #actor;

  /** @param {string} directory */
  constructor(directory) {
    this.#directory = directory;
  }

  get url() {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Resolves when it listens; with false when it was ended before. */
  async start() {
    const actor = new Actor([
      ...[
        '--import',
        JUMP,
        cli,
        'server',
        '--data',
        `${this.#directory}/data`,
        '--port',
        String(this.port),
        '--http-port',
        'off',
      ],
      ...['--log-file', `${this.#directory}/server.log`, '--json', '--stop-timeout-ms', '2000'],
    ]);
    this.#actor = actor;
    const lines = createInterface({ input: /** @type {import('node:stream').Readable} */ (actor.child.stdout) });
    return Promise.race([
      new Promise((resolve) => {
        lines.on('line', (line) => {
          const { url, journal } = JSON.parse(line);
          if (url === undefined) return;
          this.port = Number(new URL(url).port);
          this.starts.push({ at: now(), epoch: journal.epoch });
          resolve(true);
        });
      }),
      actor.ended.then((how) => {
        if (how === 'SIGKILL' || how === 'SIGTERM') return false;
        throw new Error(`the server ended by itself (${how}): ${actor.stderr}`);
      }),
    ]);
  }

  /** Moves its wall clock, or sets it right again. */
  jump() {
    this.#actor?.child.kill('SIGUSR2');
  }

  /** @param {number} ms */
  async freeze(ms) {
    await this.#actor?.freeze(ms);
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    const how = await this.#actor?.end(signal);
    if (how !== signal && how !== '0') throw new Error(`the server ended with ${how}: ${this.#actor?.stderr}`);
  }
}
