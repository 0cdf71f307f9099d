import { HTTPException } from 'hono/http-exception';
import { MillraceError } from '../errors.ts';
import { VERSION } from '../version.ts';
import { type HttpApp, type HttpWorld, newApp } from './context.ts';
import { eventRoutes } from './event-routes.ts';
import { leaseRoutes } from './lease-routes.ts';
import { ndjsonRoutes } from './ndjson-routes.ts';
import { problemResponse } from './problem.ts';
import { queueRoutes } from './queue-routes.ts';

/** Everything that is served over HTTP, over one broker. Every error is a problem (RFC 9457). */
export function createApp(world: HttpWorld): HttpApp {
  const app = newApp();
  app.onError((error) => {
    // Hono's own: a body that is no JSON.
    if (error instanceof HTTPException) return problemResponse(new MillraceError('INVALID_ARGUMENT', error.message));
    if (!(error instanceof MillraceError)) world.onNotice('warn', `a request met a defect: ${error.stack ?? error}`);
    return problemResponse(error);
  });
  app.notFound((c) =>
    problemResponse(
      new MillraceError('NOT_FOUND', `there is no ${c.req.method} ${c.req.path}: /openapi.json lists what there is`),
    ),
  );
  app.route('/', queueRoutes(world));
  app.route('/', leaseRoutes(world));
  app.route('/', ndjsonRoutes(world));
  app.route('/', eventRoutes(world));
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: { title: 'Millrace', version: VERSION, description: 'Tasks, queues, schedules and workers over HTTP.' },
  });
  return app;
}
