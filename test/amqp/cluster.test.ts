import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/index.ts';
import { type Rabbit, rabbitPrograms, startRabbit } from '../support/services.ts';
import { Balancer } from './balancer.ts';
import { Flow } from './flow.ts';

const available = await rabbitPrograms();
const NODES = [0, 1, 2];
/** So many take seconds: a broker of the 3.x series forgets a quorum queue that was declared within the last second. */
const STEADY_TASKS = 4000;

describe.skipIf(!available)('a cluster of three', () => {
  let cluster: Rabbit;
  let balancer: Balancer;
  beforeAll(async () => {
    cluster = await startRabbit({ nodes: 3 });
    balancer = await Balancer.start(cluster.ports);
  }, 180_000);
  afterAll(async () => {
    balancer?.close();
    await cluster?.stop();
  }, 60_000);

  test('loses nothing when the node that leads the queue is killed, twice, while tasks flow', async () => {
    const flow = await Flow.start(balancer.url);
    try {
      let asked = 0;
      for (const _ of [1, 2]) {
        await flow.flows(STEADY_TASKS);
        const leader = await cluster.leader('millrace.default', '/', asked);
        flow.outage();
        await cluster.kill(leader);
        await flow.flows(1000);
        // Others have taken over: it comes back to a queue that has gone on without it.
        await cluster.start(leader);
        asked = NODES.find((node) => node !== leader) as number;
        await flow.flows(1000);
      }
      const report = await flow.end();
      process.stderr.write(`cluster: ${JSON.stringify(report)}\n`);
      expect(report).toMatchObject({ lost: 0, unexpected: 0, unexplained: 0, unknown: 0 });
      expect(report.acknowledged).toBeGreaterThan(2 * STEADY_TASKS);
    } finally {
      await flow.close();
    }
  }, 400_000);

  test('a client whose replies come over the node that is killed goes on, and gets its results', async () => {
    const [producer, consumer] = [await connect(balancer.url), await connect(balancer.url)];
    try {
      await consumer.work({ double: (input) => Number(input) * 2 }, { queues: ['doubles'] });
      expect(await (await producer.enqueue('double', 1, { queue: 'doubles' })).result()).toBe(2);
      const home = await cluster.home('millrace-reply.');
      await cluster.kill(home);
      expect(await (await producer.enqueue('double', 2, { queue: 'doubles' })).result()).toBe(4);
      await cluster.start(home);
      expect(await (await producer.enqueue('double', 3, { queue: 'doubles' })).result()).toBe(6);
    } finally {
      await Promise.all([producer.close({ timeoutMs: 1000 }), consumer.close({ timeoutMs: 1000 })]);
    }
  }, 200_000);
});
