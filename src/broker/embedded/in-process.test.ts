import { expect, test } from 'vitest';
import { SystemClock } from '../../io/clock.ts';
import { SystemRandom } from '../../io/random.ts';
import { DEFAULTS } from '../../limits.ts';
import { Host } from '../../server/host.ts';
import { connectToHost } from './in-process.ts';

function remote() {
  const { connectTimeoutMs, enqueueTimeoutMs } = DEFAULTS;
  return {
    ...{ url: 'host:', clock: new SystemClock(), random: new SystemRandom(), connectTimeoutMs, enqueueTimeoutMs },
    callTimeoutMs: 300,
    reconnect: { ...DEFAULTS.reconnect, initialDelayMs: 1, maxDelayMs: 5 },
    identity: { client: 'test', host: 'here', pid: 1, producer: new SystemRandom().hex(16), version: '0' },
  };
}

test('a link from within the process takes no room and is no connection', async () => {
  const host = await Host.start({ directory: null, connectionsMax: 1 });
  const brokers = await Promise.all([connectToHost(host, remote()), connectToHost(host, remote())]);
  expect((await brokers[0]?.status())?.server.connections).toBe(0);
  await Promise.all(brokers.map((broker) => broker.close({ timeoutMs: 0 })));
  await host.stop({ timeoutMs: 0 });
});

test('a broker whose host has stopped is refused again and again, and harms nobody', async () => {
  const host = await Host.start({ directory: null });
  const broker = await connectToHost(host, remote());
  await host.stop({ timeoutMs: 0 });
  await expect(broker.status()).rejects.toMatchObject({ code: 'TIMEOUT' });
  await broker.close({ timeoutMs: 0 });
});
