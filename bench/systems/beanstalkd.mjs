// @ts-check
import { serverProgram } from '../../scripts/services/binaries.mjs';
import { provideBeanstalkd } from '../../scripts/services/services.mjs';
import { startBeanstalkd, versionOf } from '../../scripts/services/single.mjs';
import { BeanstalkClient } from './beanstalk-client.mjs';

/** Asked for ahead, since an answer carries one job. */
const RESERVES = 1000;
/** Longer than a run: beanstalkd gives back what is reserved for longer. */
const TIME_TO_RUN_S = 3600;

/**
 * @param {number} fsyncMs
 * @returns {Promise<import('../lib/system.mjs').Instance>}
 */
async function start(fsyncMs) {
  const version = await versionOf(/** @type {string} */ (serverProgram('beanstalkd')), '-v');
  const server = await startBeanstalkd({ fsyncMs });
  return Object.assign(server, { url: `beanstalk://127.0.0.1:${server.port}`, version });
}

/** @type {Omit<import('../lib/system.mjs').System, 'name' | 'title' | 'syncs' | 'durability' | 'start'>} */
const shared = {
  settings: [
    'a pipelined client written for this bench',
    'puts without waiting for each answer',
    `up to ${RESERVES} reserves and deletes in flight on one connection`,
  ],
  packages: [],
  runtime: 'node',
  batchTasks: 1000,
  batchesInFlight: 4,
  provide: provideBeanstalkd,

  load: () => Promise.resolve(),

  async produce(url, queue) {
    const client = await BeanstalkClient.open(url);
    await client.use(queue);
    const enqueue = (/** @type {object} */ payload) => client.put(JSON.stringify(payload), TIME_TO_RUN_S);
    return {
      enqueueBatch: (payloads) => Promise.all(payloads.map(enqueue)),
      enqueue,
      close: async () => client.close(),
    };
  },

  async consume(url, queue, handler) {
    const client = await BeanstalkClient.open(url);
    await client.watch(queue);
    return new Reserver(client, handler);
  },
};

/**
 * Hands jobs to the handler. A job is deleted on the connection that reserved it, and a `reserve` that waits holds up what
 * comes after it there: so it waits only when nothing else is to be said.
 *
 *   waiting ──a job──► streaming: up to `RESERVES` that do not wait ──none ready, none running──► waiting
 */
class Reserver {
  #client;
  #handler;
  /** Reserves that are not answered, and jobs that are not deleted. */
  #open = 0;
  #closed = false;
  #settled = () => {};

  /**
   * @param {BeanstalkClient} client
   * @param {import('../lib/system.mjs').Handler} handler
   */
  constructor(client, handler) {
    this.#client = client;
    this.#handler = handler;
    this.#wait();
  }

  async settle() {
    while (this.#open > 0) {
      await new Promise((resolve) => {
        this.#settled = () => resolve(undefined);
      });
    }
  }

  async close() {
    this.#closed = true;
    this.#client.close();
  }

  #wait() {
    this.#client.reserve().then(
      (job) => {
        for (let count = 1; count < RESERVES; count++) this.#reserveNow();
        this.#run(job);
      },
      (error) => this.#failed(error),
    );
  }

  #reserveNow() {
    this.#open += 1;
    this.#client.reserveNow().then(
      (job) => {
        this.#open -= 1;
        if (job === undefined) this.#rest();
        else this.#run(job);
      },
      (error) => this.#failed(error),
    );
  }

  /** @param {{ id: string, body: Buffer }} job */
  #run({ id, body }) {
    this.#open += 1;
    this.#handler(JSON.parse(body.toString()))
      .then(() => {
        const deleted = this.#client.delete(id);
        this.#reserveNow();
        return deleted;
      })
      .then(
        () => {
          this.#open -= 1;
          this.#rest();
        },
        (error) => this.#failed(error),
      );
  }

  #rest() {
    if (this.#open > 0) return;
    this.#settled();
    this.#wait();
  }

  /** @param {unknown} error */
  #failed(error) {
    // Its end is the end of the connection.
    if (!this.#closed) throw error;
  }
}

/** @type {readonly import('../lib/system.mjs').System[]} */
export const beanstalkds = [
  {
    ...shared,
    // As fast as with more, and what is in flight at the end of a row takes no seconds.
    batchTasks: 100,
    name: 'beanstalkd-fsync',
    title: 'beanstalkd, fsync each',
    syncs: true,
    durability: '`-b DIR -f 0`: each put and each delete is synced before it is answered',
    start: () => start(0),
  },
  {
    ...shared,
    name: 'beanstalkd',
    title: 'beanstalkd, fsync 1/s',
    syncs: false,
    durability: '`-b DIR -f 1000`: at most one sync a second, a power cut loses what was confirmed since',
    start: () => start(1000),
  },
];
