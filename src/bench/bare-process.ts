import type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage } from 'amqplib';
import { invariant, MillraceError } from '../errors.ts';
import { Ledger } from './ledger.ts';
import { answerParent } from './methods.ts';
import { sharedNs } from './numbers.ts';
import { type BenchPayload, buildPayload, indexOf } from './payload.ts';
import type { Span } from './producing.ts';
import { TASK_NAME } from './workload.ts';

/** What Millrace on RabbitMQ is measured against: the client library alone, as somebody who knows it would use it. */

let connection: ChannelModel | undefined;

interface Numbers {
  queue: string;
  first: number;
  tasks: number;
}

const methods = {
  async connect({ url }: { url: string }): Promise<void> {
    const { connect } = await loadAmqplib();
    connection = await connect(url);
  },

  async createQueue({ queue }: { queue: string }): Promise<void> {
    await onChannel((channel) =>
      channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } }),
    );
  },

  /** Those that are not there are well, too. Resolves with how many messages were still in them. */
  async deleteQueues({ queues }: { queues: readonly string[] }): Promise<{ left: number }> {
    let left = 0;
    await onChannel(async (channel) => {
      for (const queue of queues) left += (await channel.deleteQueue(queue)).messageCount;
    });
    return { left };
  },

  /** Persistent messages, all confirmed: from the first call to the last confirm. */
  async publish({ queue, first, tasks }: Numbers): Promise<Span> {
    const channel: ConfirmChannel = await connected().createConfirmChannel();
    const options = { persistent: true, contentType: 'application/json' };
    const startNs = sharedNs();
    for (let index = first; index < first + tasks; index++) {
      const body = Buffer.from(JSON.stringify({ task: TASK_NAME, payload: buildPayload(index) }));
      if (!channel.publish('', queue, body, options)) await new Promise((resolve) => channel.once('drain', resolve));
    }
    await channel.waitForConfirms();
    const endNs = sharedNs();
    await channel.close();
    return { startNs, endNs };
  },

  /**
   * Takes what is queued, parses it, and acknowledges what came in one turn with one frame: from the first delivery to the
   * broker's answer after the last acknowledgement.
   */
  async consume({ queue, tasks, prefetch, quietMs }: Omit<Numbers, 'first'> & { prefetch: number; quietMs: number }) {
    const ledger = new Ledger(tasks);
    const channel = await connected().createChannel();
    await channel.prefetch(prefetch);
    let firstNs = 0;
    let last: ConsumeMessage | undefined;
    const acknowledge = (): void => {
      if (last !== undefined) channel.ack(last, true);
      last = undefined;
    };
    const all = ledger.reach(tasks, { quietMs });
    await new Promise<void>((resolve, reject) => {
      const take = (message: ConsumeMessage | null): void => {
        if (message === null) {
          reject(new Error(`the broker ended the consumer of ${queue}`));
          return;
        }
        if (firstNs === 0) firstNs = sharedNs();
        const { payload } = JSON.parse(message.content.toString()) as { payload: BenchPayload };
        ledger.mark(indexOf(payload));
        if (last === undefined) setImmediate(acknowledge);
        last = message;
      };
      all.then(resolve, reject);
      channel.consume(queue, take).catch(reject);
    });
    acknowledge();
    await channel.close();
    return { firstNs, endNs: sharedNs(), lost: ledger.lost, duplicated: ledger.duplicated + ledger.foreign };
  },
};

export type BareMethods = typeof methods;

function connected(): ChannelModel {
  invariant(connection !== undefined, 'the bare client was connected');
  return connection;
}

async function onChannel(use: (channel: Channel) => Promise<unknown>): Promise<void> {
  const channel = await connected().createChannel();
  await use(channel);
  await channel.close();
}

async function loadAmqplib(): Promise<typeof import('amqplib')> {
  try {
    return (await import('amqplib')).default;
  } catch (cause) {
    throw new MillraceError('UNSUPPORTED', 'amqp:// needs the client of RabbitMQ: npm install amqplib', { cause });
  }
}

answerParent(methods, async () => {
  await connection?.close();
});
