// @ts-check
import { serverProgram } from '../../scripts/services/binaries.mjs';
import { provideRedis } from '../../scripts/services/services.mjs';
import { startRedis, versionOf } from '../../scripts/services/single.mjs';
import { Completions } from '../lib/completions.mjs';

const JOB_NAME = 'bench.send';
const CONCURRENCY = 200;
const JOB_OPTIONS = { removeOnComplete: true };

/**
 * @param {'always' | 'everysec'} appendfsync
 * @returns {Promise<import('../lib/system.mjs').Instance>}
 */
async function start(appendfsync) {
  const version = await versionOf(/** @type {string} */ (serverProgram('redis-server')));
  const server = await startRedis({ appendfsync });
  return Object.assign(server, { url: `redis://127.0.0.1:${server.port}`, version });
}

/** @param {string} url */
function connectionOf(url) {
  const { hostname, port } = new URL(url);
  // As its guide asks of workers: commands wait for the server instead of failing.
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null };
}

/** @type {Omit<import('../lib/system.mjs').System, 'name' | 'title' | 'syncs' | 'durability' | 'start'>} */
const shared = {
  settings: [
    '`addBulk` of 1,000, 4 in flight',
    `concurrency ${CONCURRENCY}`,
    '`removeOnComplete`',
    '`maxmemory-policy noeviction`, no RDB snapshots',
  ],
  packages: ['bullmq', 'ioredis'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: provideRedis,

  load: () => import('bullmq'),

  async produce(url, queue) {
    const { Queue } = await import('bullmq');
    const jobs = new Queue(queue, { connection: connectionOf(url) });
    await jobs.waitUntilReady();
    return {
      enqueueBatch: (payloads) => jobs.addBulk(payloads.map((data) => ({ name: JOB_NAME, data, opts: JOB_OPTIONS }))),
      enqueue: (payload) => jobs.add(JOB_NAME, payload, JOB_OPTIONS),
      close: () => jobs.close(),
    };
  },

  async consume(url, queue, handler) {
    const { Worker } = await import('bullmq');
    const completions = new Completions();
    const work = (/** @type {{ data: unknown }} */ job) => {
      completions.begun();
      return handler(job.data);
    };
    const worker = new Worker(queue, work, { connection: connectionOf(url), concurrency: CONCURRENCY });
    // It comes when Redis has answered the completion.
    worker.on('completed', () => completions.answered());
    // While it is closed it loses its connection; a job that is lost for it is told by the ledger.
    worker.on('error', () => {});
    await worker.waitUntilReady();
    return {
      settle: () => completions.settled(),
      // In order it would wait for its blocking call.
      close: () => worker.close(true),
    };
  },
};

/** @type {readonly import('../lib/system.mjs').System[]} */
export const bullmqs = [
  {
    ...shared,
    name: 'bullmq-always',
    title: 'BullMQ, AOF always',
    syncs: true,
    durability: 'Redis `appendfsync always`: synced before it is answered',
    start: () => start('always'),
  },
  {
    ...shared,
    name: 'bullmq',
    title: 'BullMQ, AOF everysec',
    syncs: false,
    durability: 'Redis `appendfsync everysec`, what its guide advises: a power cut loses a second or two',
    start: () => start('everysec'),
  },
];
