// @ts-check
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Single } from '../../scripts/services/single.mjs';
import { nodeProgram } from '../lib/runtime.mjs';

const TASK_NAME = 'bench.send';
const CONCURRENCY = 1000;
/** A RabbitMQ that was killed needs long before it lets anybody consume. */
const CONNECT_MS = 60_000;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/**
 * @param {string} fsync
 * @returns {Promise<import('../lib/system.mjs').Instance>}
 */
async function start(fsync) {
  const flags = ['--fsync', fsync, '--http-port', 'off', '--log-file', 'off'];
  const server = await Single.open({
    program: nodeProgram(),
    args: (port, directory) => [MAIN, 'server', '--port', String(port), '--data', directory, ...flags],
  });
  return Object.assign(server, { url: `tcp://127.0.0.1:${server.port}`, version: ownVersion() });
}

function ownVersion() {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}

/**
 * The same client for every backend: changing the URL is the whole difference.
 *
 * @type {Pick<import('../lib/system.mjs').System, 'load' | 'produce' | 'consume' | 'packages' | 'runtime' | 'batchTasks' | 'batchesInFlight'>}
 */
export const millraceClient = {
  packages: [],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 16,

  load: () => import('../../dist/index.js'),

  async produce(url, queue) {
    const { connect } = await import('../../dist/index.js');
    const client = await connect(url, { connectTimeoutMs: CONNECT_MS });
    return {
      enqueueBatch: (payloads) => client.enqueueMany(TASK_NAME, payloads, { queue }),
      enqueue: (payload) => client.enqueue(TASK_NAME, payload, { queue }),
      close: () => client.close(),
    };
  },

  async consume(url, queue, handler) {
    const { connect, defineTask } = await import('../../dist/index.js');
    const client = await connect(url, { connectTimeoutMs: CONNECT_MS });
    const task = defineTask(TASK_NAME).handle(handler);
    const worker = await client.work([task], { queues: [queue], concurrency: CONCURRENCY });
    return {
      // Resolves when what it completed is confirmed.
      settle: () => worker.stop(),
      close: () => client.close(),
    };
  },
};

const SETTINGS = [
  '1,000 tasks a call, 16 calls in flight',
  `concurrency ${CONCURRENCY}`,
  'no result',
  '`--http-port off`, `--log-file off`',
];

/** @type {import('../lib/system.mjs').System} */
export const millrace = {
  name: 'millrace',
  title: 'Millrace',
  syncs: true,
  durability: '`--fsync always`, the default: each confirmation waits for `fdatasync`',
  settings: SETTINGS,
  provide: async () => undefined,
  start: () => start('always'),
  ...millraceClient,
};

/** @type {import('../lib/system.mjs').System} */
export const millraceInterval = {
  ...millrace,
  name: 'millrace-interval',
  title: 'Millrace, fsync 10/s',
  syncs: false,
  durability: '`--fsync interval`: synced every 100 ms, a power cut loses what was confirmed since',
  start: () => start('interval'),
};
