// @ts-check
import { setTimeout as sleep } from 'node:timers/promises';
import { serverProgram } from '../../scripts/services/binaries.mjs';
import { provideNats } from '../../scripts/services/services.mjs';
import { startNats, versionOf } from '../../scripts/services/single.mjs';

const CONSUMER = 'bench';
const MAX_MESSAGES = 5000;
/** Longer than a run: what is not acknowledged for so long is delivered again. */
const ACK_WAIT_NS = 3600 * 1e9;
/** Since then `sync_interval` can be set. */
const SYNC_VERSION_MIN = [2, 10];

/** Another than that of the system: Debian's lags behind. */
const program = () => process.env.NATS_SERVER ?? /** @type {string} */ (serverProgram('nats-server'));

/**
 * @param {boolean} syncAlways
 * @returns {Promise<import('../lib/system.mjs').Instance>}
 */
async function start(syncAlways) {
  const version = await versionOf(program());
  const server = await startNats({ program: program(), syncAlways });
  return Object.assign(server, { url: `nats://127.0.0.1:${server.port}`, version });
}

/** @param {(line: string) => void} tell */
async function provideSyncing(tell) {
  const reason = process.env.NATS_SERVER === undefined ? await provideNats(tell) : undefined;
  if (reason !== undefined) return reason;
  const version = await versionOf(program());
  const [major, minor] = version.split('.').map(Number);
  const [majorMin, minorMin] = SYNC_VERSION_MIN;
  if (major > majorMin || (major === majorMin && minor >= minorMin)) return undefined;
  return `nats-server ${version} cannot be told when to sync, ${SYNC_VERSION_MIN.join('.')} can; NATS_SERVER=/path/to/one`;
}

/** @param {string} url @param {string} queue */
async function open(url, queue) {
  const { connect } = await import('@nats-io/transport-node');
  const { AckPolicy, jetstream, jetstreamManager, RetentionPolicy, StorageType } = await import('@nats-io/jetstream');
  const connection = await connect({ servers: url });
  const manager = await jetstreamManager(connection);
  const retention = RetentionPolicy.Workqueue;
  await manager.streams.add({ name: queue, subjects: [queue], retention, storage: StorageType.File });
  await manager.consumers.add(queue, {
    durable_name: CONSUMER,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ACK_WAIT_NS,
    max_ack_pending: 4 * MAX_MESSAGES,
  });
  return { connection, manager, stream: jetstream(connection) };
}

/** @type {Omit<import('../lib/system.mjs').System, 'name' | 'title' | 'syncs' | 'durability' | 'provide' | 'start'>} */
const shared = {
  settings: [
    'a file stream with work-queue retention',
    '1,000 publishes a batch, 4 batches in flight, each acknowledged',
    `pull consumer, \`max_messages\` ${MAX_MESSAGES}, explicit acknowledgements`,
  ],
  packages: ['@nats-io/jetstream'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,

  load: () => Promise.all([import('@nats-io/transport-node'), import('@nats-io/jetstream')]),

  async produce(url, queue) {
    const { connection, stream } = await open(url, queue);
    const enqueue = (/** @type {object} */ payload) => stream.publish(queue, JSON.stringify(payload));
    return {
      enqueueBatch: (payloads) => Promise.all(payloads.map(enqueue)),
      enqueue,
      close: () => connection.close(),
    };
  },

  async consume(url, queue, handler) {
    const { connection, manager, stream } = await open(url, queue);
    const consumer = await stream.consumers.get(queue, CONSUMER);
    const messages = await consumer.consume({
      max_messages: MAX_MESSAGES,
      callback: (message) => {
        void handler(message.json()).then(() => message.ack());
      },
    });
    return {
      async settle() {
        // An acknowledgement has no answer: the consumer's state tells when the last has come.
        for (;;) {
          const { num_ack_pending: open, num_pending: waiting } = await manager.consumers.info(queue, CONSUMER);
          if (open + waiting === 0) return;
          await sleep(5);
        }
      },
      async close() {
        messages.stop();
        await connection.close();
      },
    };
  },
};

/** @type {readonly import('../lib/system.mjs').System[]} */
export const natses = [
  {
    ...shared,
    name: 'nats-sync',
    title: 'NATS JetStream, sync always',
    syncs: true,
    durability:
      '`sync_interval: always`: each message is synced before it is acknowledged; acknowledgements of consumers have no answer',
    provide: provideSyncing,
    start: () => start(true),
  },
  {
    ...shared,
    name: 'nats',
    title: 'NATS JetStream',
    syncs: false,
    durability: 'its default, a sync every two minutes: a power cut loses what was acknowledged since',
    provide: async (tell) => (process.env.NATS_SERVER === undefined ? await provideNats(tell) : undefined),
    start: () => start(false),
  },
];
