// @ts-check
import { providePostgres } from '../../scripts/services/services.mjs';
import { POSTGRES_DURABILITY, POSTGRES_SETTINGS, startInstance } from './postgres.mjs';

const BATCH = 1000;
const WORKERS = 4;
/** Commits of many connections share a sync. */
const CONNECTIONS = 25;
/** The least that it allows. */
const POLL_S = 0.5;

/** @type {import('../lib/system.mjs').System} */
export const pgBoss = {
  name: 'pg-boss',
  title: 'pg-boss',
  syncs: true,
  durability: POSTGRES_DURABILITY,
  settings: [
    `\`insert\` of 1,000, 4 in flight, a pool of ${CONNECTIONS} connections; a table for each queue (\`partition\`)`,
    `\`batchSize\` ${BATCH}, \`localConcurrency\` ${WORKERS}, \`burstWhenBatchFull\`; the handler of a batch calls ours for each job`,
    `\`useListenNotify\` where jobs come in batches: commits of single jobs that notify do not share syncs; polling every ${POLL_S} s`,
    POSTGRES_SETTINGS,
  ],
  packages: ['pg-boss', 'pg'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: providePostgres,
  start: startInstance,

  load: () => import('pg-boss'),

  async produce(url, queue, manner) {
    const boss = await open(url, queue, manner);
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

  async consume(url, queue, handler, manner) {
    const boss = await open(url, queue, manner);
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

/**
 * @param {string} url
 * @param {string} queue
 * @param {import('../lib/system.mjs').Manner} manner
 */
async function open(url, queue, { isSingle }) {
  const { PgBoss } = await import('pg-boss');
  const boss = new PgBoss({ connectionString: url, max: CONNECTIONS, useListenNotify: true });
  boss.on('error', (error) => process.stderr.write(`pg-boss: ${error.message}\n`));
  await boss.start();
  // PostgreSQL commits what notifies one after the other: single jobs would share no sync, and fewer be taken than come. In a table
  // with other queues the plan of a fetch rests on what those have: 400 tasks a second end to end where it takes 20,000 alone.
  await boss.createQueue(queue, { notify: !isSingle, partition: true });
  return boss;
}
