import { createRoute, z } from '@hono/zod-openapi';
import { type HttpApp, newApp, type Served } from './context.ts';
import { METRICS_TYPE } from './metric-family.ts';
import { Metrics } from './metrics.ts';
import { Rights } from './rights.ts';
import { problems } from './schemas.ts';

const scrape = createRoute({
  method: 'get',
  path: '/metrics',
  operationId: 'metrics',
  summary: 'Queues, workers, journal and process, for Prometheus',
  tags: ['server'],
  responses: {
    200: { description: 'in the text format of Prometheus', content: { 'text/plain': { schema: z.string() } } },
    ...problems,
  },
});

export function metricsRoutes(world: Served): HttpApp {
  const app = newApp();
  const metrics = new Metrics(world);
  world.onStop(async () => metrics.stop());
  app.openapi(scrape, async (c) => {
    const rights = await Rights.of(c, world);
    rights.queue(['read'], undefined);
    return c.text(await metrics.scrape(), 200, { 'content-type': METRICS_TYPE, 'cache-control': 'no-store' });
  });
  return app;
}
