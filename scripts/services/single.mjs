// @ts-check
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { serverProgram } from './binaries.mjs';
import { Lodging } from './lodging.mjs';
import { answers, freePorts, listens } from './ports.mjs';
import { familyOf, run } from './processes.mjs';

const START_MS = 120_000;
const STOP_MS = 20_000;

/**
 * @typedef {object} SingleOptions
 * @property {string} program
 * @property {(port: number, directory: string) => string[]} args
 * @property {{ ask: string, answer: string }} [hello] What shows that it serves; by default that it takes connections.
 * @property {NodeJS.ProcessEnv} [env]
 * @property {(directory: string) => Promise<void>} [prepare] Before the first start.
 */

/**
 * A service that is one program with one port and one data directory, private to this process: on 127.0.0.1, gone with
 * `stop` or with this process.
 *
 *   start ──kill──► down ──start──► …    the data stays, and so does the port
 *     └────────stop────────► gone with its data
 */
export class Single {
  port = 0;
  #lodging;
  #options;
  /** @type {import('./processes.mjs').Daemon | undefined} */
  #daemon;

  /** @param {SingleOptions} options */
  static async open(options) {
    const single = new Single(await Lodging.open(), options);
    try {
      single.port = (await freePorts(1))[0];
      await mkdir(single.directory);
      await options.prepare?.(single.directory);
      await single.start();
    } catch (error) {
      await single.stop();
      throw error;
    }
    return single;
  }

  /**
   * @param {Lodging} lodging
   * @param {SingleOptions} options
   */
  constructor(lodging, options) {
    this.#lodging = lodging;
    this.#options = options;
  }

  /** Where all that it keeps is. */
  get directory() {
    return join(this.#lodging.directory, 'data');
  }

  /** While it runs, with its children. */
  get pids() {
    return this.#daemon?.alive && this.#daemon.pid !== undefined ? familyOf(this.#daemon.pid) : [];
  }

  /** Starts it when it was killed; resolves when it serves. */
  async start() {
    const { program, args, hello, env = process.env } = this.#options;
    if (this.#daemon?.alive) throw new Error(`${program} runs already`);
    this.#daemon = this.#lodging.start(program, args(this.port, this.directory), { env });
    try {
      await this.#daemon.ready(
        () => (hello === undefined ? listens(this.port) : answers(this.port, Buffer.from(hello.ask), hello.answer)),
        START_MS,
      );
    } catch (error) {
      await this.#daemon.kill();
      throw error;
    }
  }

  /** As `kill -9`. */
  async kill() {
    await this.#daemon?.kill();
  }

  /** Stops it in order; what it keeps stays. */
  async halt() {
    await this.#daemon?.stop('SIGTERM', STOP_MS);
  }

  /** Ends it and removes its data. Always resolves. */
  async stop() {
    await this.#daemon?.kill();
    await this.#lodging.end();
  }
}

/**
 * A Redis that keeps an append-only file and nothing else.
 *
 * @param {{ appendfsync: 'always' | 'everysec' | 'no' }} options
 */
export function startRedis({ appendfsync }) {
  const settings = { appendonly: 'yes', appendfsync, save: '', 'maxmemory-policy': 'noeviction', daemonize: 'no' };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  return Single.open({
    program: installed('redis-server'),
    args: (port, directory) => ['--bind', '127.0.0.1', '--port', String(port), '--dir', directory, ...flags],
    // While it loads it answers too, but not so.
    hello: { ask: 'PING\r\n', answer: '+PONG' },
  });
}

/**
 * A NATS server with JetStream.
 *
 * @param {{ program?: string, syncAlways?: boolean }} [options] `syncAlways` needs NATS 2.10.
 */
export function startNats({ program = installed('nats-server'), syncAlways = false } = {}) {
  return Single.open({
    program,
    prepare: async (directory) => {
      const lines = [`store_dir: ${JSON.stringify(directory)}`, ...(syncAlways ? ['sync_interval: always'] : [])];
      await writeFile(configOf(directory), `jetstream {\n${lines.join('\n')}\n}\n`);
    },
    args: (port, directory) => ['-a', '127.0.0.1', '-p', String(port), '-c', configOf(directory)],
    hello: { ask: '', answer: 'INFO ' },
  });
}

/** @param {string} directory */
const configOf = (directory) => `${directory}.conf`;

/**
 * A beanstalkd that keeps a log.
 *
 * @param {{ fsyncMs: number }} options At most one fsync in so many milliseconds; 0: before each answer.
 */
export function startBeanstalkd({ fsyncMs }) {
  return Single.open({
    program: installed('beanstalkd'),
    args: (port, directory) => ['-l', '127.0.0.1', '-p', String(port), '-b', directory, '-f', String(fsyncMs)],
    hello: { ask: 'list-tube-used\r\n', answer: 'USING ' },
  });
}

/** @param {string} name */
function installed(name) {
  const file = serverProgram(name);
  if (file === undefined) throw new Error(`${name} was not found on this machine`);
  return file;
}

/**
 * What a program says of its version.
 *
 * @param {string} program
 * @param {string} [flag]
 */
export async function versionOf(program, flag = '--version') {
  const said = await run(program, [flag]);
  return /\d+\.\d+(?:\.\d+)?/.exec(said)?.[0] ?? 'unknown';
}
