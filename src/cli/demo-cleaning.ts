import { parseAddress } from '../broker/rabbitmq/address.ts';
import { loadAmqplib } from '../broker/rabbitmq/amqplib.ts';
import { BANDS, Names } from '../broker/rabbitmq/names.ts';
import { readTls } from '../io/tls.ts';
import { DEFAULTS } from '../limits.ts';

/**
 * Deletes what the demo's own queue is made of on a broker that others use. Rejects when it cannot; nothing else is touched,
 * and queues that are not there are well, too.
 */
export async function deleteDemoQueue(url: string, queue: string): Promise<void> {
  if (!/^amqps?:/i.test(url)) return;
  const names = new Names(DEFAULTS.amqp.prefix);
  const { connect } = await loadAmqplib();
  const address = parseAddress(url);
  const tls = address.protocol === 'amqps' ? await readTls(address.tls) : {};
  const connection = await connect(address, { timeout: DEFAULTS.connectTimeoutMs, ...tls });
  // The call that it concerns rejects with it.
  connection.on('error', () => {});
  try {
    const channel = await connection.createChannel();
    for (const name of [...BANDS.map((band) => names.band(queue, band)), names.dead(queue), names.suspect(queue)]) {
      await channel.deleteQueue(name);
    }
  } finally {
    await connection.close();
  }
}
