import { createRoute, z } from '@hono/zod-openapi';
import { type HttpApp, type HttpWorld, newApp } from './context.ts';
import { json, problems, QueueParams } from './schemas.ts';

const Count = z.object({ count: z.int() }).openapi('Count');

const pause = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/pause',
  operationId: 'pauseQueue',
  summary: 'Hand out no more of its tasks',
  tags: ['queues'],
  request: { params: QueueParams },
  responses: { 204: { description: 'paused' }, ...problems },
});

const purge = createRoute({
  method: 'post',
  path: '/v1/queues/{queue}/purge',
  operationId: 'purgeQueue',
  summary: 'Remove its ready, scheduled and blocked tasks',
  tags: ['queues'],
  request: { params: QueueParams },
  responses: { 200: json(Count, 'how many were removed'), ...problems },
});

export function queueRoutes({ broker }: HttpWorld): HttpApp {
  const app = newApp();
  app.openapi(pause, async (c) => {
    await broker.pauseQueue(c.req.valid('param').queue);
    return c.body(null, 204);
  });
  app.openapi(purge, async (c) => {
    return c.json({ count: await broker.purgeQueue(c.req.valid('param').queue) }, 200);
  });
  return app;
}
