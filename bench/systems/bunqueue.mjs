// @ts-check
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { freePorts } from '../../scripts/services/ports.mjs';
import { Single } from '../../scripts/services/single.mjs';
import { Completions } from '../lib/completions.mjs';
import { bunProgram } from '../lib/runtime.mjs';

const JOB_NAME = 'bench.send';
const CONCURRENCY = 200;
const BATCH = 100;
const LONG_POLL_MS = 5000;
/** Of one client in a minute; by default 10,000, which takes seconds here. */
const REQUESTS_MAX = '1000000000';
const MAIN = fileURLToPath(new URL('../node_modules/bunqueue/dist/cli/index.js', import.meta.url));

/** @returns {Promise<import('../lib/system.mjs').Instance>} */
async function start() {
  const [httpPort] = await freePorts(1);
  const server = await Single.open({
    program: /** @type {string} */ (bunProgram()),
    args: (port, directory) => [
      MAIN,
      'start',
      ...['--host', '127.0.0.1', '--tcp-port', String(port), '--http-port', String(httpPort)],
      ...['--data-path', `${directory}/bunqueue.db`],
    ],
    env: { ...process.env, RATE_LIMIT_MAX_REQUESTS: REQUESTS_MAX },
  });
  const bun = JSON.parse(readFileSync(new URL('../node_modules/bun/package.json', import.meta.url), 'utf8')).version;
  return Object.assign(server, { url: `bunqueue://127.0.0.1:${server.port}`, version: `on Bun ${bun}` });
}

/** @param {string} url */
function connectionOf(url) {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

/**
 * Its clients run in Bun too: what its documentation names for Node is not on npm.
 *
 * @param {boolean} durable
 * @returns {Omit<import('../lib/system.mjs').System, 'name' | 'title' | 'durability'>}
 */
function bunqueue(durable) {
  const options = { durable, removeOnComplete: true };
  return {
    syncs: false,
    settings: [
      '`addBulk` of 1,000, 4 in flight; clients in Bun',
      `concurrency ${CONCURRENCY}, \`batchSize\` ${BATCH}, \`pollTimeout\` ${LONG_POLL_MS}`,
      '`removeOnComplete`; `RATE_LIMIT_MAX_REQUESTS` raised: it allows 10,000 requests a minute to a client',
    ],
    packages: ['bunqueue'],
    runtime: 'bun',
    batchTasks: 1000,
    batchesInFlight: 4,
    provide: async () => (bunProgram() === undefined ? 'npm has no Bun for this machine' : undefined),
    start,

    load: () => import('bunqueue/client'),

    async produce(url, queue) {
      const { Queue } = await import('bunqueue/client');
      const jobs = new Queue(queue, { embedded: false, connection: connectionOf(url) });
      return {
        enqueueBatch: (payloads) => jobs.addBulk(payloads.map((data) => ({ name: JOB_NAME, data, opts: options }))),
        enqueue: (payload) => jobs.add(JOB_NAME, payload, options),
        close: async () => jobs.close(),
      };
    },

    async consume(url, queue, handler) {
      const { Worker } = await import('bunqueue/client');
      const completions = new Completions();
      const work = (/** @type {{ data: unknown }} */ job) => {
        completions.begun();
        return handler(job.data);
      };
      const worker = new Worker(queue, work, {
        embedded: false,
        connection: connectionOf(url),
        concurrency: CONCURRENCY,
        batchSize: BATCH,
        pollTimeout: LONG_POLL_MS,
        removeOnComplete: true,
      });
      // It comes when the server has answered the completion.
      worker.on('completed', () => completions.answered());
      worker.on('error', (/** @type {Error} */ error) => process.stderr.write(`bunqueue: ${error.message}\n`));
      return {
        settle: () => completions.settled(),
        close: () => worker.close(true),
      };
    },
  };
}

/** @type {readonly import('../lib/system.mjs').System[]} */
export const bunqueues = [
  {
    ...bunqueue(true),
    name: 'bunqueue-durable',
    title: 'bunqueue, durable',
    durability:
      '`durable: true`, each job in SQLite’s WAL before it is answered, which is not synced (`synchronous=NORMAL`)',
  },
  {
    ...bunqueue(false),
    name: 'bunqueue',
    title: 'bunqueue',
    durability: 'its default, jobs are gathered in memory for some milliseconds, then in the WAL, not synced',
  },
];
