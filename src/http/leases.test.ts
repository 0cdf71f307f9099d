import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { settle } from '../../test/support/scripted-server.ts';
import { ManualClock } from '../../test/twins/manual-clock.ts';
import { EVERYTHING } from '../access/grant.ts';
import { Keyring } from '../access/keyring.ts';
import type { Broker, Consumer } from '../broker/contract.ts';
import { type Opened, open } from '../connect.ts';
import { SystemRandom } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { Leases } from './leases.ts';

let opened: Opened;

beforeEach(async () => {
  opened = await open(`memory:${randomUUID()}`);
});

afterEach(() => opened.client.close());

/** As it is, but for what is done with each delivery. */
function delivering({ broker }: Opened, around: (deliver: () => void) => void): Broker {
  const over = (consumer: Consumer): Consumer => ({
    deliver: (run) => around(() => consumer.deliver(run)),
    revoke: (...given) => consumer.revoke(...given),
    connection: (state) => consumer.connection(state),
    ended: (error) => consumer.ended(error),
  });
  return { consume: (options, consumer) => broker.consume(options, over(consumer)) } as Broker;
}

test.each([
  ['the time to gather is over', 10],
  ['as many came as were wanted', 1],
])('who has gone away gets no task, though that is read only after %s', async (_when, tasksMax) => {
  const clock = new ManualClock();
  const leases = new Leases({ clock, random: new SystemRandom(), keyring: new Keyring() });
  const leaving = new AbortController();
  const broker = delivering(opened, (deliver) => {
    // The loop is busy for so long, and reads when it goes on.
    setImmediate(() => leaving.abort());
    deliver();
    clock.advance(LIMITS.leaseGatherMs);
  });
  const request = { queues: ['default'], waitMs: 60_000, leaseMs: 60_000, worker: 'w' };
  const taken = leases.take({ ...request, grant: EVERYTHING, broker, tasksMax }, leaving.signal);
  const { client } = opened;
  await expect.poll(async () => (await client.status()).workers.length).toBe(1);
  await client.enqueue('x', null);
  expect(await taken).toEqual([]);
  await settle();
  expect((await client.status()).queues).toMatchObject([{ active: 0, ready: 1 }]);
});
