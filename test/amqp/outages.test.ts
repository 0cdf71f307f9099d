import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/index.ts';
import { TcpProxy } from '../conformance/tcp-proxy.ts';
import {
  type Postgres,
  postgresPrograms,
  type Rabbit,
  rabbitPrograms,
  startPostgres,
  startRabbit,
} from '../support/services.ts';
import { Flow } from './flow.ts';

const available = await rabbitPrograms();
const remembers = available && (await postgresPrograms());
/** So many take seconds: a broker of the 3.x series forgets a quorum queue that was declared within the last second. */
const STEADY_TASKS = 4000;

describe.skipIf(!available)('a broker that is in trouble while tasks flow', () => {
  let rabbit: Rabbit;
  let proxy: TcpProxy;
  let url: string;
  beforeAll(async () => {
    rabbit = await startRabbit();
    proxy = await TcpProxy.start(rabbit.ports[0] as number);
    url = `amqp://127.0.0.1:${proxy.port}`;
  }, 120_000);
  afterAll(async () => {
    await proxy?.stop();
    await rabbit?.stop();
  }, 60_000);

  test('loses nothing when connections are cut again and again', async () => {
    const flow = await Flow.start(url);
    try {
      for (let cuts = 0; cuts < 5; cuts += 1) {
        await flow.flows(400);
        flow.outage();
        proxy.cut();
      }
      await flow.flows(400);
      expectClean('cuts', await flow.end());
    } finally {
      await flow.close();
    }
  }, 200_000);

  test('loses nothing when the broker is killed, and when it is stopped, and comes back', async () => {
    const flow = await Flow.start(url);
    try {
      await flow.flows(STEADY_TASKS);
      for (const end of ['kill', 'halt'] as const) {
        flow.outage();
        await rabbit[end]();
        await rabbit.start();
        await flow.flows(1000);
      }
      expectClean('restarts', await flow.end());
    } finally {
      await flow.close();
    }
  }, 300_000);
});

describe.skipIf(!remembers)('a store that is in trouble while tasks flow', () => {
  let rabbit: Rabbit;
  let postgres: Postgres;
  beforeAll(async () => {
    [rabbit, postgres] = await Promise.all([startRabbit(), startPostgres()]);
  }, 120_000);
  afterAll(async () => {
    await Promise.all([rabbit?.stop(), postgres?.stop()]);
  }, 60_000);

  test('loses nothing when it, or the broker, is killed or stopped and comes back', async () => {
    const options = { store: postgres.url };
    const flow = await Flow.start(rabbit.url, options);
    try {
      await flow.flows(2000);
      for (const service of [postgres, rabbit]) {
        for (const end of ['kill', 'halt'] as const) {
          flow.outage();
          await service[end]();
          await service.start();
          await flow.flows(1000);
        }
      }
      const report = await flow.end();
      expectClean('store', report);
      const client = await connect(rabbit.url, options);
      const { totals, ...counts } = await client.queue('default').status();
      expect(counts).toMatchObject({ ready: 0, active: 0, scheduled: 0, completed: report.acknowledged, dead: 0 });
      expect(totals).toMatchObject({ enqueued: report.acknowledged, completed: report.acknowledged });
      await client.close();
    } finally {
      await flow.close();
    }
  }, 300_000);
});

function expectClean(name: string, report: Awaited<ReturnType<Flow['end']>>): void {
  process.stderr.write(`${name}: ${JSON.stringify(report)}\n`);
  expect(report).toMatchObject({ lost: 0, unexpected: 0, unexplained: 0, unknown: 0 });
}
