// @ts-check
import { providePostgres } from '../../scripts/services/services.mjs';
import { POSTGRES_DURABILITY, POSTGRES_SETTINGS, startInstance } from './postgres.mjs';

/** The configuration of its own page on performance. */
const WORKER = {
  concurrentJobs: 24,
  maxPoolSize: 25,
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  // Where latency is measured as well: without it, and on two cores, it does not keep up with half of what it does with it.
  localQueue: { size: 500 },
};
/** Commits of many connections share a sync. */
const PRODUCER_POOL = 25;

/** @type {import('../lib/system.mjs').System} */
export const graphileWorker = {
  name: 'graphile-worker',
  title: 'Graphile Worker',
  syncs: true,
  durability: POSTGRES_DURABILITY,
  settings: [
    `\`addJobs\` of 1,000, 4 in flight, a pool of ${PRODUCER_POOL} connections`,
    '`concurrentJobs` 24, `localQueue.size` 500, `completeJobBatchDelay` 0, as on its page on performance',
    POSTGRES_SETTINGS,
  ],
  packages: ['graphile-worker', 'pg'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: providePostgres,
  start: startInstance,

  load: () => import('graphile-worker'),

  async produce(url, queue) {
    const { makeWorkerUtils } = await import('graphile-worker');
    const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: PRODUCER_POOL, logger: await silent() });
    await utils.migrate();
    return {
      enqueueBatch: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: queue, payload }))),
      enqueue: (payload) => utils.addJob(queue, payload),
      close: async () => await utils.release(),
    };
  },

  async consume(url, queue, handler) {
    const { run } = await import('graphile-worker');
    const runner = await run({
      preset: { worker: { ...WORKER, connectionString: url } },
      taskList: { [queue]: (payload) => handler(payload) },
      // Its default is a file of the current directory.
      parsedCronItems: [],
      noHandleSignals: true,
      logger: await silent(),
    });
    let stopped = false;
    const stop = async () => {
      if (stopped) return;
      stopped = true;
      await runner.stop();
    };
    // It stops when the completions it gathers are in the database.
    return { settle: stop, close: stop };
  },
};

async function silent() {
  const { Logger } = await import('graphile-worker');
  return new Logger(() => (level, message) => {
    if (level === 'error') process.stderr.write(`graphile-worker: ${message}\n`);
  });
}
