// @ts-check
import { providePostgres } from '../../scripts/services/services.mjs';
import { POSTGRES_DURABILITY, POSTGRES_SETTINGS, startInstance } from './postgres.mjs';

const BATCH = 1000;
const WORKERS = 4;
/** Commits of many connections share a sync. */
const CONNECTIONS = 25;
/** Where it allows the least, and only the fallback: it is notified. */
const POLL_S = 0.5;

/** @type {import('../lib/system.mjs').System} */
export const pgBoss = {
  name: 'pg-boss',
  title: 'pg-boss',
  syncs: true,
  durability: POSTGRES_DURABILITY,
  settings: [
    `\`insert\` of 1,000, 4 in flight, a pool of ${CONNECTIONS} connections`,
    `\`batchSize\` ${BATCH}, \`localConcurrency\` ${WORKERS}, \`burstWhenBatchFull\`; the handler of a batch calls ours for each job`,
    '`useListenNotify`, polling every 0.5 s',
    POSTGRES_SETTINGS,
  ],
  packages: ['pg-boss', 'pg'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: providePostgres,
  start: startInstance,

  load: () => import('pg-boss'),

  async produce(url, queue) {
    const boss = await open(url, queue);
    return {
      enqueueBatch: (payloads) =>
        boss.insert(
          queue,
          payloads.map((data) => ({ data })),
        ),
      enqueue: (payload) => boss.send(queue, payload),
      close: () => boss.stop({ graceful: false }),
    };
  },

  async consume(url, queue, handler) {
    const boss = await open(url, queue);
    await boss.work(
      queue,
      {
        batchSize: BATCH,
        localConcurrency: WORKERS,
        burstWhenBatchFull: true,
        pollingIntervalSeconds: POLL_S,
        notifyPollingIntervalSeconds: POLL_S,
      },
      async (jobs) => {
        await Promise.all(jobs.map(({ data }) => handler(data)));
      },
    );
    return {
      // Waits for the batches at work, which end with their completion.
      settle: () => boss.offWork(queue, { wait: true }),
      close: () => boss.stop({ graceful: false }),
    };
  },
};

/** @param {string} url @param {string} queue */
async function open(url, queue) {
  const { PgBoss } = await import('pg-boss');
  const boss = new PgBoss({ connectionString: url, max: CONNECTIONS, useListenNotify: true });
  boss.on('error', (error) => process.stderr.write(`pg-boss: ${error.message}\n`));
  await boss.start();
  await boss.createQueue(queue, { notify: true });
  return boss;
}
