// @ts-check
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rabbitDirectory } from './binaries.mjs';
import { Lodging } from './lodging.mjs';
import { answers, freePorts } from './ports.mjs';
import { familyOf, run } from './processes.mjs';

const AMQP_HELLO = Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1]);
/** Ten seconds alone; two cores may have three of them, and tests, to run at the same time. */
const START_MS = 120_000;
const STOP_MS = 20_000;

/**
 * @typedef {object} RabbitOptions
 * @property {1 | 3} [nodes] More than one: a cluster. Default 1.
 * @property {Record<string, Setting>} [config] Of the application `rabbit`, as in its configuration in Erlang.
 * @property {boolean} [management] With its HTTP API, which makes virtual hosts in a tenth of a second, not in two. Default false.
 * @property {number} [port] Of the only node. Default: a free one.
 */

/**
 * @typedef {object} Node
 * @property {string} name
 * @property {number} port
 * @property {number} distributionPort
 * @property {number} managementPort
 * @property {string} directory
 * @property {import('./processes.mjs').Daemon | undefined} daemon
 */

/**
 * A private RabbitMQ, or a cluster of three, from the binaries of the machine: its own data, logs, cookie, ports and epmd,
 * all on 127.0.0.1, gone with `stop` or with this process.
 *
 * @param {RabbitOptions} [options]
 */
export async function startRabbit(options = {}) {
  const programs = rabbitDirectory();
  if (programs === undefined) throw new Error('rabbitmq-server was not found on this machine');
  const rabbit = new Rabbit(await Lodging.open(), programs, options);
  try {
    await rabbit.open();
  } catch (error) {
    await rabbit.stop();
    throw error;
  }
  return rabbit;
}

export class Rabbit {
  #lodging;
  #programs;
  #options;
  /** @type {Node[]} */
  #nodes = [];
  #epmdPort = 0;
  #controlPort = 0;
  /** @type {import('./processes.mjs').Daemon | undefined} */
  #epmd;

  /**
   * @param {Lodging} lodging
   * @param {string} programs
   * @param {RabbitOptions} options
   */
  constructor(lodging, programs, options) {
    this.#lodging = lodging;
    this.#programs = programs;
    this.#options = options;
  }

  /** Of the first node. */
  get url() {
    return this.urls[0];
  }

  /** Of its HTTP API, when it was started with it. */
  get managementUrl() {
    return this.#options.management ? `http://127.0.0.1:${this.#nodes[0].managementPort}` : undefined;
  }

  get urls() {
    return this.#nodes.map(({ port }) => `amqp://127.0.0.1:${port}`);
  }

  get ports() {
    return this.#nodes.map(({ port }) => port);
  }

  /** As in the broker's answers: `rabbit1@localhost` … */
  get names() {
    return this.#nodes.map(({ name }) => name);
  }

  /** Where all that it keeps is. */
  get directory() {
    return this.#lodging.directory;
  }

  /** Of the nodes that run, with their children. */
  get pids() {
    return this.#nodes.flatMap(({ daemon }) => (daemon?.alive && daemon.pid !== undefined ? familyOf(daemon.pid) : []));
  }

  async open() {
    const { nodes: count = 1, port: chosen } = this.#options;
    const ports = await freePorts(3 * count + 2);
    this.#epmdPort = /** @type {number} */ (ports.pop());
    this.#controlPort = /** @type {number} */ (ports.pop());
    for (let index = 0; index < count; index += 1) {
      const name = `rabbit${index + 1}`;
      this.#nodes.push({
        name: `${name}@localhost`,
        port: chosen ?? ports[3 * index],
        distributionPort: ports[3 * index + 1],
        managementPort: ports[3 * index + 2],
        directory: join(this.#lodging.directory, name),
        daemon: undefined,
      });
    }
    await writeFile(join(this.#lodging.directory, '.erlang.cookie'), randomBytes(20).toString('hex'), { mode: 0o400 });
    this.#epmd = this.#lodging.start('epmd', ['-port', String(this.#epmdPort), '-address', '127.0.0.1'], {
      env: { ...process.env, HOME: this.#lodging.directory },
    });
    await Promise.all(this.#nodes.map((node) => this.#prepare(node)));
    await Promise.all(this.#nodes.map((_, index) => this.start(index)));
    if (count > 1) await this.#joined();
  }

  /**
   * Starts a node that was killed or halted; resolves when it takes connections.
   *
   * @param {number} [index]
   */
  async start(index = 0) {
    const node = this.#nodes[index];
    if (node.daemon?.alive) throw new Error(`${node.name} runs already`);
    node.daemon = this.#lodging.start(join(this.#programs, 'rabbitmq-server'), [], { env: this.#environment(node) });
    try {
      await node.daemon.ready(() => answers(node.port, AMQP_HELLO), START_MS);
    } catch (error) {
      await node.daemon.kill();
      throw error;
    }
  }

  /**
   * As `kill -9`.
   *
   * @param {number} [index]
   */
  async kill(index = 0) {
    await this.#nodes[index].daemon?.kill();
  }

  /**
   * Stops one node in order.
   *
   * @param {number} [index]
   */
  async halt(index = 0) {
    await this.#nodes[index].daemon?.stop('SIGTERM', STOP_MS);
  }

  /** Ends all of it and removes it. Always resolves. */
  async stop() {
    // What it holds is removed: no need to wait for an orderly end.
    await Promise.all(this.#nodes.map(({ daemon }) => daemon?.kill()));
    await this.#epmd?.kill();
    await this.#lodging.end();
  }

  /**
   * `rabbitmqctl`, which takes some seconds; resolves with what it prints.
   *
   * @param {readonly string[]} args
   * @param {number} [index]
   */
  ctl(args, index = 0) {
    return this.tool('rabbitmqctl', args, index);
  }

  /**
   * Another of RabbitMQ's programs: `rabbitmq-queues`, `rabbitmq-diagnostics`.
   *
   * @param {string} name
   * @param {readonly string[]} args
   * @param {number} [index]
   */
  tool(name, args, index = 0) {
    const node = this.#nodes[index];
    return run(join(this.#programs, name), ['-q', '-n', node.name, ...args], {
      env: this.#environment(node),
      timeoutMs: 60_000,
      cwd: this.#lodging.directory,
    });
  }

  /**
   * The index of the node that leads a quorum queue now.
   *
   * @param {string} queue
   * @param {string} [vhost]
   * @param {number} [ask] A node that is up.
   */
  async leader(queue, vhost = '/', ask = 0) {
    const listed = await this.ctl(['list_queues', '-p', vhost, 'name', 'leader', '--formatter', 'json'], ask);
    const found = JSON.parse(listed).find((/** @type {{ name: string }} */ one) => one.name === queue);
    const index = this.names.indexOf(found?.leader);
    if (index === -1) throw new Error(`no leader of ${queue} among ${this.names}: ${listed}`);
    return index;
  }

  /**
   * The index of the node on which a classic queue lies.
   *
   * @param {string} prefix Of its name.
   * @param {string} [vhost]
   */
  async home(prefix, vhost = '/') {
    const lists = await Promise.all(
      this.#nodes.map((_, index) => this.ctl(['list_queues', '-p', vhost, '--local', 'name'], index)),
    );
    const index = lists.findIndex((list) => list.split('\n').some((name) => name.startsWith(prefix)));
    if (index === -1) throw new Error(`no home of ${prefix} among ${this.names}: ${lists.join()}`);
    return index;
  }

  /** The last lines of a node's log. @param {number} [index] */
  async log(index = 0) {
    const file = join(this.#nodes[index].directory, 'log', `${this.#nodes[index].name}.log`);
    return (await readFile(file, 'utf8')).slice(-4000);
  }

  async #joined() {
    const seconds = Math.round(START_MS / 1000);
    await this.ctl(['await_online_nodes', String(this.#nodes.length), '--timeout', String(seconds)]);
  }

  /** @param {Node} node */
  async #prepare(node) {
    for (const part of ['mnesia', 'log']) await mkdir(join(node.directory, part), { recursive: true });
    const { config = {}, management = false } = this.#options;
    const cluster = this.#nodes.length > 1 ? clusterSettings(this.names) : {};
    const settings = {
      rabbit: { ...ofTests(node), ...cluster, ...config },
      ...(management ? managementSettings(node) : {}),
    };
    await writeFile(join(node.directory, 'rabbitmq.config'), `${asErlang(settings)}.\n`);
    await writeFile(join(node.directory, 'advanced.config'), '[].\n');
    await writeFile(join(node.directory, 'enabled_plugins'), management ? '[rabbitmq_management].\n' : '[].\n');
  }

  /** @param {Node} node */
  #environment(node) {
    return {
      ...withoutRabbit(process.env),
      HOME: this.#lodging.directory,
      LANG: process.env.LANG ?? 'C.UTF-8',
      ERL_EPMD_PORT: String(this.#epmdPort),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: node.name,
      RABBITMQ_NODE_PORT: String(node.port),
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_DIST_PORT: String(node.distributionPort),
      RABBITMQ_CTL_DIST_PORT_MIN: String(this.#controlPort),
      RABBITMQ_CTL_DIST_PORT_MAX: String(this.#controlPort + 20),
      RABBITMQ_MNESIA_BASE: join(node.directory, 'mnesia'),
      RABBITMQ_LOG_BASE: join(node.directory, 'log'),
      RABBITMQ_PID_FILE: join(node.directory, 'pid'),
      RABBITMQ_GENERATED_CONFIG_DIR: join(node.directory, 'config'),
      RABBITMQ_CONF_ENV_FILE: join(node.directory, 'rabbitmq-env.conf'),
      RABBITMQ_CONFIG_FILE: join(node.directory, 'rabbitmq.config'),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(node.directory, 'advanced.config'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(node.directory, 'enabled_plugins'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    };
  }
}

/** @typedef {boolean | number | string | Atom | Tuple | readonly any[] | { readonly [name: string]: any }} Setting */

/** A word of Erlang's own, where a text would be another thing. */
class Atom {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }
}

class Tuple {
  /** @param {readonly Setting[]} items */
  constructor(...items) {
    this.items = items;
  }
}

/**
 * As RabbitMQ's configuration in Erlang has it, which it reads in no time; its own format takes it seconds of a start.
 *
 * @param {Setting} setting
 * @returns {string}
 */
function asErlang(setting) {
  if (setting instanceof Atom) return `'${setting.name}'`;
  if (setting instanceof Tuple) return `{${setting.items.map(asErlang).join(', ')}}`;
  if (Array.isArray(setting)) return `[${setting.map(asErlang).join(', ')}]`;
  if (typeof setting !== 'object') return JSON.stringify(setting);
  return asErlang(Object.entries(setting).map(([name, value]) => new Tuple(new Atom(name), value)));
}

/** @param {Node} node */
function ofTests({ port }) {
  return {
    tcp_listeners: [new Tuple('127.0.0.1', port)],
    ssl_listeners: [],
    // A machine that is short of either must not look like a hanging broker.
    disk_free_limit: 50_000_000,
    log: { file: { level: new Atom('info') }, console: { enabled: false } },
  };
}

/** @param {readonly string[]} names */
function clusterSettings(names) {
  return {
    cluster_formation: { peer_discovery_backend: new Atom('rabbit_peer_discovery_classic_config') },
    cluster_nodes: new Tuple(
      names.map((name) => new Atom(name)),
      new Atom('disc'),
    ),
    cluster_partition_handling: new Atom('pause_minority'),
  };
}

/**
 * For who makes virtual hosts: nobody looks at statistics, which cost more than what they tell of.
 *
 * @param {Node} node
 */
function managementSettings({ managementPort }) {
  return {
    rabbitmq_management: { tcp_config: { ip: '127.0.0.1', port: managementPort } },
    rabbitmq_management_agent: { disable_metrics_collector: true },
  };
}

/** @param {NodeJS.ProcessEnv} env */
function withoutRabbit(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^(RABBITMQ|ERL)_/.test(name)));
}
