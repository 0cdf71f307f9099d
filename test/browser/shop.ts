import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { open } from '../../src/connect.ts';
import { type Client, FatalTaskError, LIMITS, type TaskContext } from '../../src/index.ts';
import { until } from '../conformance/events.ts';
import { Traffic } from './traffic.ts';

/** Ids of tasks to look at, one of each kind. */
export interface Shop {
  readonly dead: string;
  readonly running: string;
  readonly inFlow: string;
  readonly bytes: string;
  stop(): Promise<void>;
}

/** A shop in which there is something to see on each page: traffic, and what a bad day leaves behind. */
export async function openShop(client: Client): Promise<Shop> {
  const worker = await client.work(
    {
      'report.build': buildReport,
      'invoice.charge': async (input) => {
        const { card } = input as { card: string };
        if (card === 'expired') throw new FatalTaskError(`card_declined: ${card}`);
        throw new RangeError('amount 0 is out of range');
      },
      'order.reserve': () => ({ shelf: 'B-17' }),
      'order.pack': () => sleep(5),
      'order.label': () => {
        throw new FatalTaskError('no such street');
      },
    },
    { queues: ['reports', 'billing', 'orders'], concurrency: 8, name: 'back-office' },
  );
  const invoices = ['expired', 'expired', 'expired', 'ok'].map((card, index) => ({ card, invoice: 7000 + index }));
  const [running, bytes, charged, flow] = await Promise.all([
    client.enqueue('report.build', { month: '2026-10' }, { queue: 'reports', headers: { tenant: 'acme' } }),
    client.enqueue('image.sharpen', Buffer.from('ÿØÿà JFIF', 'latin1'), { queue: 'images-raw' }),
    client.enqueueMany('invoice.charge', invoices, { queue: 'billing', maxAttempts: 2, backoff: { delayMs: 20 } }),
    enqueueOrder(client),
    client.enqueue('mail.send', { to: 'later@example.org' }, { queue: 'newsletter', delayMs: 3_600_000 }),
    client.schedule('nightly report', { task: 'report.build', queue: 'reports-nightly', cron: '0 3 * * *' }),
    client.schedule('heartbeat', { task: 'mail.send', queue: 'newsletter', everyMs: 3_600_000 }),
    client.queue('images-raw').limit({ concurrency: 4, rate: { count: 100, periodMs: 60_000 } }),
  ]);
  await client.schedules.pause('nightly report');
  await client.queue('newsletter').pause();
  await until(
    () => client.tasks.list({ queue: 'billing', state: 'dead' }),
    ({ tasks }) => tasks.length === 4,
  );
  await until(
    () => client.tasks.list({ queue: 'orders' }),
    ({ tasks }) => tasks.some(({ state }) => state === 'dead'),
  );
  const [traffic, supervisor] = await Promise.all([Traffic.start(client), superviseNobody(client)]);
  return {
    dead: [...charged][3]?.id as string,
    running: running.id,
    inFlow: flow,
    bytes: bytes.id,
    stop: async () => {
      await Promise.all([traffic.stop(), supervisor.stop()]);
      await worker.stop({ timeoutMs: 0 });
    },
  };
}

async function buildReport(_: unknown, context: TaskContext): Promise<void> {
  context.log('reading 31 days of orders');
  context.log('day 13 of 31');
  context.progress(0.42, 'day 13 of 31');
  if (!context.signal.aborted) await once(context.signal, 'abort');
}

/** Reserved, then packed in three boxes, one of which cannot be labelled; the letter waits for all. */
async function enqueueOrder(client: Client): Promise<string> {
  const flow = await client.flow((order) => {
    const options = { queue: 'orders' };
    const reserved = order.add('order.reserve', { order: 4711 }, options);
    const boxes = [1, 2, 3].map((box) => order.add('order.pack', { box }, { ...options, dependsOn: reserved }));
    const label = order.add('order.label', { street: 'Nowhere' }, { ...options, dependsOn: boxes });
    order.add('order.ship', {}, { ...options, dependsOn: { task: label, onFailure: 'wait' } });
    order.add('order.mourn', {}, { ...options, queue: 'newsletter', dependsOn: { task: label, onFailure: 'run' } });
  });
  return flow.tasks[4]?.id as string;
}

/** A supervisor that only says what it does. */
async function superviseNobody({ url }: Client): Promise<{ stop(): Promise<void> }> {
  const { client, broker } = await open(url);
  const atMs = Date.now();
  const report = {
    ...{ id: '0123456789abcdef', name: 'image-workers', host: 'shop-2', pid: 4711, queues: ['images-raw'] },
    ...{ min: 1, max: 8, current: 4, retiring: 1 },
    decisions: [
      {
        ...{ atMs: atMs - 4000, from: 5, to: 4 },
        reason: 'fewer have been enough for 30 s: no task waits, handlers are 31 % busy',
      },
      {
        ...{ atMs: atMs - 60_000, from: 5, to: 5 },
        reason: 'tasks wait, but images-raw is at its rate: more processes would not help',
      },
      {
        ...{ atMs: atMs - 150_000, from: 3, to: 5 },
        reason:
          '412 tasks wait, the oldest for 6.2 s, longer than 5 s; handlers are 100 % busy, 3 processes can do 48 a second: 5 would be right',
      },
    ],
  };
  await broker.reportScaling(report);
  const timer = setInterval(() => void broker.reportScaling(report), LIMITS.scalingReportMs);
  return {
    stop: async () => {
      clearInterval(timer);
      await client.close();
    },
  };
}
