// @ts-check
import { chown, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { postgresDirectory } from './binaries.mjs';
import { Lodging } from './lodging.mjs';
import { answers, freePorts } from './ports.mjs';
import { familyOf, run } from './processes.mjs';

/** SSLRequest, which is answered with one letter before anybody logs in, and not before PostgreSQL takes connections. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const START_MS = 60_000;
const STOP_MS = 20_000;

/**
 * @typedef {object} PostgresOptions
 * @property {boolean} [sync] Whether a commit waits for the disk. Tests that kill processes and not machines need it not.
 *   Default false.
 * @property {number} [port] Default: a free one.
 * @property {Record<string, string>} [settings] Others, as in postgresql.conf.
 */

/**
 * A private PostgreSQL from the binaries of the machine: its own data and port on 127.0.0.1, gone with `stop` or with this
 * process.
 *
 * @param {PostgresOptions} [options]
 */
export async function startPostgres(options = {}) {
  const programs = postgresDirectory();
  if (programs === undefined) throw new Error('postgres and initdb were not found on this machine');
  const postgres = new Postgres(await Lodging.open(), programs, options);
  try {
    await postgres.open();
  } catch (error) {
    await postgres.stop();
    throw error;
  }
  return postgres;
}

export class Postgres {
  port = 0;
  #lodging;
  #programs;
  #options;
  /** @type {{ uid?: number, gid?: number }} */
  #user = {};
  #databases = 0;
  /** @type {import('./processes.mjs').Daemon | undefined} */
  #daemon;

  /**
   * @param {Lodging} lodging
   * @param {string} programs
   * @param {PostgresOptions} options
   */
  constructor(lodging, programs, options) {
    this.#lodging = lodging;
    this.#programs = programs;
    this.#options = options;
  }

  get url() {
    return this.#urlOf('postgres');
  }

  get #data() {
    return join(this.#lodging.directory, 'data');
  }

  /** Where all that it keeps is. */
  get directory() {
    return this.#lodging.directory;
  }

  /** While it runs, with one for each connection. */
  get pids() {
    return this.#daemon?.alive && this.#daemon.pid !== undefined ? familyOf(this.#daemon.pid) : [];
  }

  async open() {
    this.port = this.#options.port ?? (await freePorts(1))[0];
    this.#user = await ordinaryUser();
    await mkdir(this.#data, { mode: 0o700 });
    const { uid, gid } = this.#user;
    if (uid !== undefined && gid !== undefined) await chown(this.#data, uid, gid);
    await run(
      join(this.#programs, 'initdb'),
      ['-D', this.#data, '-U', 'millrace', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'],
      { ...this.#user, cwd: this.#lodging.directory },
    );
    await this.start();
  }

  /** Starts it when it was killed or halted; resolves when it takes connections. */
  async start() {
    if (this.#daemon?.alive) throw new Error('PostgreSQL runs already');
    const deadline = performance.now() + START_MS;
    for (;;) {
      this.#daemon = this.#launch();
      try {
        await this.#daemon.ready(() => this.#takesConnections(), START_MS);
        return;
      } catch (error) {
        await this.#daemon.kill();
        // After a kill its processes may need a moment to let go of the shared memory.
        if (!/still in use|lock file/.test(String(error)) || performance.now() > deadline) throw error;
      }
    }
  }

  /** As `kill -9`, of all its processes. */
  async kill() {
    await this.#daemon?.kill();
  }

  /** Stops it in order; connections are cut. */
  async halt() {
    await this.#daemon?.stop('SIGINT', STOP_MS);
  }

  /** Ends it and removes its data. Always resolves. */
  async stop() {
    await this.#daemon?.kill();
    await this.#lodging.end();
  }

  /** A new, empty database; resolves with its URL. */
  async database() {
    this.#databases += 1;
    const name = `database_${this.#databases}`;
    await createDatabase(this.url, name);
    return this.#urlOf(name);
  }

  /** @param {string} database */
  #urlOf(database) {
    return `postgres://millrace@127.0.0.1:${this.port}/${database}`;
  }

  #launch() {
    const settings = {
      listen_addresses: '127.0.0.1',
      port: this.port,
      unix_socket_directories: '',
      max_connections: 200,
      ...(this.#options.sync ? {} : { fsync: 'off', full_page_writes: 'off' }),
      ...this.#options.settings,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    return this.#lodging.start(join(this.#programs, 'postgres'), ['-D', this.#data, ...flags], this.#user);
  }

  /** It listens while it recovers, too: the port alone says little. */
  async #takesConnections() {
    if (!(await answers(this.port, SSL_REQUEST))) return false;
    return this.#daemon?.said.includes('ready to accept connections') ?? false;
  }
}

/**
 * @param {string} url Of a database whose user may create others.
 * @param {string} name
 * @param {string} [template] What it is a copy of; nobody may be connected to that.
 */
export function createDatabase(url, name, template = 'template1') {
  return execute(url, `create database "${name}" template "${template}"`);
}

/**
 * Also when somebody is still connected to it.
 *
 * @param {string} url Of another database.
 * @param {string} name
 */
export async function dropDatabase(url, name) {
  await execute(url, `drop database if exists "${name}" with (force)`);
}

/**
 * @param {string} url
 * @param {string} statement
 */
async function execute(url, statement) {
  const { default: postgres } = await import('postgres');
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** PostgreSQL refuses to be root; empty when this process is not. */
async function ordinaryUser() {
  if (process.getuid?.() !== 0) return {};
  const users = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const user = users.find(([one]) => one === name);
    if (user !== undefined) return { uid: Number(user[2]), gid: Number(user[3]) };
  }
  throw new Error('PostgreSQL does not run as root, and this machine has neither the user postgres nor nobody');
}
