import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { QueueStatus } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import type { QueueLimitsChange } from '../limits.ts';
import { type HttpApp, type HttpEnv, newApp, type Served } from './context.ts';
import type { History } from './history.ts';
import { Rights } from './rights.ts';
import { body, CountBody, json, LimitsBody, problems, QueueParams, QueueWithRates, RetentionBody } from './schemas.ts';

const tags = ['queues'];

const list = createRoute({
  method: 'get',
  path: '/v1/queues',
  operationId: 'listQueues',
  summary: 'All queues: sizes, rates, limits',
  tags,
  responses: { 200: json(z.object({ queues: z.array(QueueWithRates) }), 'the queues'), ...problems },
});

const get = createRoute({
  method: 'get',
  path: '/v1/queues/{queue}',
  operationId: 'getQueue',
  summary: 'One queue',
  tags,
  request: { params: QueueParams },
  responses: { 200: json(QueueWithRates, 'the queue'), ...problems },
});

const pause = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/pause',
  operationId: 'pauseQueue',
  summary: 'Hand out no more of its tasks',
  tags,
  request: { params: QueueParams },
  responses: { 204: { description: 'paused' }, ...problems },
});

const resume = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/resume',
  operationId: 'resumeQueue',
  summary: 'Hand out its tasks again',
  tags,
  request: { params: QueueParams },
  responses: { 204: { description: 'resumed' }, ...problems },
});

const purge = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/purge',
  operationId: 'purgeQueue',
  summary: 'Remove its ready, scheduled and blocked tasks',
  tags,
  request: { params: QueueParams },
  responses: { 200: json(CountBody, 'how many were removed'), ...problems },
});

const redrive = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/redrive',
  operationId: 'redriveQueue',
  summary: 'Make all its dead tasks ready again',
  tags,
  request: { params: QueueParams },
  responses: { 200: json(CountBody, 'how many are ready again'), ...problems },
});

const Rate = z.strictObject({ count: z.int(), periodMs: z.int(), burst: z.int().optional() });

const limits = createRoute({
  method: 'put',
  path: '/v1/queues/{queue}/limits',
  operationId: 'setLimits',
  summary: 'Limit its concurrency, rate or length; what is not named stays, null takes a limit away',
  tags,
  request: {
    params: QueueParams,
    body: body(
      z.strictObject({
        concurrency: z.int().nullable().optional(),
        concurrencyPerKey: z.int().nullable().optional(),
        rate: Rate.nullable().optional(),
        length: z.int().nullable().optional(),
      }),
    ),
  },
  responses: { 200: json(LimitsBody, 'what holds now'), ...problems },
});

const retention = createRoute({
  method: 'put',
  path: '/v1/queues/{queue}/retention',
  operationId: 'setRetention',
  summary: 'How long, and how many of, its ended tasks are kept',
  tags,
  request: { params: QueueParams, body: body(RetentionBody.partial().strict()) },
  responses: { 200: json(RetentionBody, 'what holds now'), ...problems },
});

export function queueRoutes(world: Served, history: History): HttpApp {
  const app = newApp();
  const withRates = (queue: QueueStatus) => ({ ...queue, rates: history.ratesOf(queue.name) });
  /** Of whoever may operate the queue, which is checked before it is looked for. */
  const operating = async (c: Context<HttpEnv>, queue: string): Promise<Rights> => {
    const rights = await Rights.of(c, world);
    rights.queue(['operate'], queue);
    return rights;
  };
  app.openapi(list, async (c) => {
    const rights = await Rights.of(c, world);
    const { queues } = rights.status(await rights.broker.status());
    return c.json({ queues: queues.map(withRates) }, 200);
  });
  app.openapi(get, async (c) => {
    const { queue: name } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    rights.queue(['read', 'work'], name);
    const queue = (await rights.broker.status()).queues.find((each) => each.name === name);
    if (queue === undefined) {
      throw new MillraceError('NOT_FOUND', `there is no queue ${shown(name)}: one begins with its first task`);
    }
    return c.json(withRates(queue), 200);
  });
  app.openapi(pause, async (c) => {
    const { queue } = c.req.valid('param');
    await (await operating(c, queue)).client.queue(queue).pause();
    return c.body(null, 204);
  });
  app.openapi(resume, async (c) => {
    const { queue } = c.req.valid('param');
    await (await operating(c, queue)).client.queue(queue).resume();
    return c.body(null, 204);
  });
  app.openapi(purge, async (c) => {
    const { queue } = c.req.valid('param');
    const { client } = await operating(c, queue);
    return c.json({ count: await client.queue(queue).purge() }, 200);
  });
  app.openapi(redrive, async (c) => {
    const { queue } = c.req.valid('param');
    const { client } = await operating(c, queue);
    return c.json({ count: await client.queue(queue).redrive() }, 200);
  });
  app.openapi(limits, async (c) => {
    const { queue } = c.req.valid('param');
    const change = c.req.valid('json') as QueueLimitsChange;
    const { client } = await operating(c, queue);
    return c.json(await client.queue(queue).limit(change), 200);
  });
  app.openapi(retention, async (c) => {
    const { queue } = c.req.valid('param');
    const { broker } = await operating(c, queue);
    // What is undefined is not named.
    const change = Object.fromEntries(Object.entries(c.req.valid('json')).filter(([, value]) => value !== undefined));
    return c.json(await broker.setRetention(queue, change), 200);
  });
  return app;
}
