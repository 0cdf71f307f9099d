// @ts-check
import { setTimeout as sleep } from 'node:timers/promises';
import { startRabbit } from '../../scripts/services/rabbit.mjs';
import { provideRabbit } from '../../scripts/services/services.mjs';
import { millraceClient } from './millrace.mjs';

const PREFETCH = 2000;
/** It writes down within half a second which quorum queues there are: one made right before a crash is gone with what it confirmed. */
const SAVED_MS = 1500;
/** For letting clients in. */
const OPEN_MS = 60_000;
const PUBLISH_OPTIONS = { persistent: true, contentType: 'application/json' };

/** @returns {Promise<import('../lib/system.mjs').Instance>} */
async function start() {
  const rabbit = await startRabbit();
  const [url] = rabbit.urls;
  const version = await opened(url);
  return {
    url,
    version,
    directory: rabbit.directory,
    get pids() {
      return rabbit.pids;
    },
    async kill() {
      await sleep(SAVED_MS);
      await rabbit.kill();
    },
    start: async () => {
      await rabbit.start();
      await opened(url);
    },
    stop: () => rabbit.stop(),
  };
}

/**
 * It listens before it lets anybody in. Resolves with its version, which it tells whoever connects; `rabbitmqctl` takes seconds.
 *
 * @param {string} url
 */
async function opened(url) {
  const deadline = performance.now() + OPEN_MS;
  for (;;) {
    try {
      const connection = await connect(url);
      // Not among its types.
      const { serverProperties } = /** @type {{ serverProperties: { version: string } }} */ (
        /** @type {unknown} */ (connection.connection)
      );
      await connection.close();
      return serverProperties.version;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

/** @param {string} url */
async function connect(url) {
  const { default: amqp } = await import('amqplib');
  const connection = await amqp.connect(url, { noDelay: true });
  // Whoever uses it hears of it too, by what it waits for.
  connection.on('error', () => {});
  return connection;
}

/** @param {import('amqplib').Channel} channel @param {string} queue */
function assertQueue(channel, queue) {
  return channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
}

/** @type {import('../lib/system.mjs').System} */
const bare = {
  name: 'amqplib',
  title: 'RabbitMQ quorum, amqplib',
  syncs: true,
  durability:
    'quorum queue of one node, persistent messages, confirms: synced before it is confirmed; acknowledgements have no answer',
  settings: [
    '1,000 publishes a batch, 4 batches in flight, each confirmed',
    `prefetch ${PREFETCH}`,
    'one acknowledgement for all that were done in a turn',
    `killed ${SAVED_MS / 1000} s after the last confirmation: it saves within half a second which quorum queues there are`,
  ],
  packages: ['amqplib'],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: provideRabbit,
  start,

  load: () => import('amqplib'),

  async produce(url, queue) {
    const connection = await connect(url);
    const channel = await connection.createConfirmChannel();
    await assertQueue(channel, queue);
    const enqueue = (/** @type {object} */ payload) =>
      new Promise((resolve, reject) => {
        const body = Buffer.from(JSON.stringify(payload));
        channel.publish('', queue, body, PUBLISH_OPTIONS, (error) => (error ? reject(error) : resolve(undefined)));
      });
    return {
      enqueueBatch: (payloads) => Promise.all(payloads.map(enqueue)),
      enqueue,
      close: () => connection.close(),
    };
  },

  async consume(url, queue, handler) {
    const connection = await connect(url);
    const channel = await connection.createChannel();
    await assertQueue(channel, queue);
    await channel.prefetch(PREFETCH);
    const acknowledger = new Acknowledger(channel);
    await channel.consume(queue, (message) => {
      if (message === null) throw new Error(`the broker ended the consumer of ${queue}`);
      void handler(JSON.parse(message.content.toString())).then(() => acknowledger.done(message));
    });
    return {
      async settle() {
        acknowledger.flush();
        // The broker's answer comes after what it was told before.
        await channel.close();
      },
      close: () => connection.close(),
    };
  },
};

/** One acknowledgement for all that were done in a turn: up to the last before which none is open. */
class Acknowledger {
  #channel;
  /** @type {Map<number, import('amqplib').Message>} */
  #done = new Map();
  /** The tag that is acknowledged next; they count from 1. */
  #next = 1;
  #waits = false;

  /** @param {import('amqplib').Channel} channel */
  constructor(channel) {
    this.#channel = channel;
  }

  /** @param {import('amqplib').ConsumeMessage} message */
  done(message) {
    this.#done.set(message.fields.deliveryTag, message);
    if (this.#waits) return;
    this.#waits = true;
    setImmediate(() => this.flush());
  }

  flush() {
    this.#waits = false;
    let last;
    for (let message = this.#done.get(this.#next); message !== undefined; message = this.#done.get(this.#next)) {
      this.#done.delete(this.#next);
      this.#next += 1;
      last = message;
    }
    if (last !== undefined) this.#channel.ack(last, true);
  }
}

/** @type {readonly import('../lib/system.mjs').System[]} */
export const rabbits = [
  {
    ...millraceClient,
    name: 'millrace-rabbitmq',
    title: 'Millrace on RabbitMQ quorum',
    syncs: true,
    durability: bare.durability,
    settings: ['as with its own server'],
    packages: ['amqplib'],
    provide: provideRabbit,
    start,
  },
  bare,
];
