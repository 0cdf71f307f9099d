import type { MiddlewareHandler } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { secureHeaders } from 'hono/secure-headers';
import { Pool } from '../access/share.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { VERSION } from '../version.ts';
import { type AnswerBounds, Answers, onAnswered } from './answers.ts';
import { Backends } from './backends.ts';
import { limitBodies } from './bodies.ts';
import { type HttpApp, type HttpEnv, type HttpWorld, newApp, type Served } from './context.ts';
import { dashboardRoutes } from './dashboard-files.ts';
import { eventRoutes } from './event-routes.ts';
import { flowRoutes } from './flow-routes.ts';
import { guard } from './guard.ts';
import { History } from './history.ts';
import { jsonOnly } from './json-only.ts';
import { answer } from './json-text.ts';
import { leaseRoutes } from './lease-routes.ts';
import { LISTED } from './lists.ts';
import { metricsRoutes } from './metrics-routes.ts';
import { ndjsonRoutes } from './ndjson-routes.ts';
import { problemResponse } from './problem.ts';
import { queueRoutes } from './queue-routes.ts';
import { scalingRoutes } from './scaling-routes.ts';
import { scheduleRoutes } from './schedule-routes.ts';
import { statsRoutes } from './stats-routes.ts';
import { taskRoutes } from './task-routes.ts';

/** Other bounds than those of LIMITS, for tests. */
export interface AppBounds extends Partial<AnswerBounds> {
  readonly requestsMax?: number;
}

/** Everything that is served over HTTP, over one backend. Every error is a problem (RFC 9457). */
export function createApp(
  given: HttpWorld,
  backends: Backends = new Backends(given, given.access.keyring),
  bounds: AppBounds = {},
): HttpApp {
  const world: Served = { ...given, backends };
  const app = newApp();
  app.onError((error) => {
    // What the library refuses before a route is asked: a body that is no JSON, or says that it is none.
    if (error instanceof HTTPException) return problemResponse(new MillraceError('INVALID_ARGUMENT', refusal(error)));
    if (!(error instanceof MillraceError)) world.onNotice('warn', `a request met a defect: ${error.stack ?? error}`);
    return problemResponse(error);
  });
  app.notFound((c) =>
    problemResponse(
      new MillraceError('NOT_FOUND', `there is no ${c.req.method} ${c.req.path}: /openapi.json lists what there is`),
    ),
  );
  app.use(
    secureHeaders({
      strictTransportSecurity: false,
      xFrameOptions: 'DENY',
      referrerPolicy: 'no-referrer',
      crossOriginResourcePolicy: 'same-origin',
    }),
  );
  app.use(async (c, next) => {
    await next();
    // Nobody reads it, and a stream that is not read does not end.
    if (c.req.method === 'HEAD') await c.res.body?.cancel();
  });
  const { requestsMax = LIMITS.httpRequestsMax } = bounds;
  app.use(countRequests(requestsMax));
  app.use(guard(world));
  app.use(shareRequests(requestsMax, new Answers(world.clock, (message) => world.onNotice('warn', message), bounds)));
  app.use('/v1/*', async (c, next) => {
    await next();
    if (!c.res.headers.has('cache-control')) c.res.headers.set('cache-control', 'no-store');
  });
  app.on('POST', ENQUEUES, refuseWhenStopping(world));
  app.use('/v1/*', limitBodies());
  const history = new History(world.broker, world.clock);
  // Before the other tasks: what is of another type than lines is theirs.
  app.route('/', ndjsonRoutes(world));
  app.use('/v1/*', jsonOnly);
  for (const routes of [taskRoutes, flowRoutes, leaseRoutes, scheduleRoutes, scalingRoutes, eventRoutes, metricsRoutes])
    app.route('/', routes(world));
  for (const routes of [queueRoutes, statsRoutes]) app.route('/', routes(world, history));
  app.route('/', dashboardRoutes());
  describeApi(app);
  history.start();
  world.onStop(async () => history.stop());
  return app;
}

function refusal({ status, message }: HTTPException): string {
  return status === 415
    ? 'the body must be JSON: send `content-type: application/json`'
    : `the request was refused: ${message}`;
}

const ENQUEUES = ['/v1/tasks', '/v1/flows', '/v1/schedules/:name/run'];

/** A backend that stops keeps new tasks waiting for the next one, which may be long. */
function refuseWhenStopping({ onStop }: HttpWorld): Parameters<HttpApp['use']>[1] {
  let isStopping = false;
  onStop(async () => {
    isStopping = true;
  });
  return async (_c, next) => {
    if (isStopping)
      throw new MillraceError('STOPPING', 'the server is stopping and takes no new tasks: try again later');
    await next();
  };
}

/** More at the same time than a server can answer are turned away at once. */
function countRequests(max: number): MiddlewareHandler<HttpEnv> {
  let running = 0;
  return async (c, next) => {
    if (running >= max) {
      throw new MillraceError(
        'CONNECTION_LIMIT',
        `${running} requests are being answered, as many as may be: try again later`,
        { details: { bound: max } },
      );
    }
    running++;
    try {
      await next();
    } finally {
      onAnswered(c, () => running--);
    }
  };
}

/** Of those that may be answered at the same time, who may use some queues only has his share. */
function shareRequests(max: number, answers: Answers): MiddlewareHandler<HttpEnv> {
  const requests = new Pool(max);
  return async (c, next) => {
    const grant = c.get('grant');
    const shortage = requests.shortage(grant);
    if (shortage !== undefined) {
      const { taken, bound, by } = shortage;
      const message = `${taken} requests${by} are being answered, as many as may be: try again later`;
      throw new MillraceError('CONNECTION_LIMIT', message, { details: { bound } });
    }
    requests.take(grant);
    answers.add(c);
    try {
      await next();
    } finally {
      onAnswered(c, () => requests.give(grant));
    }
  };
}

function describeApi(app: HttpApp): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' });
  app.openAPIRegistry.registerComponent('securitySchemes', 'basic', { type: 'http', scheme: 'basic' });
  for (const [name, schema] of LISTED) app.openAPIRegistry.register(name, schema);
  // It takes long to make, and stays the same.
  let description: string | undefined;
  app.get('/openapi.json', () => {
    description ??= JSON.stringify(app.getOpenAPI31Document(DESCRIPTION));
    return answer(description);
  });
}

const DESCRIPTION = {
  openapi: '3.1.0',
  info: {
    title: 'Millrace',
    version: VERSION,
    description: 'Tasks, queues, schedules and workers over HTTP. Errors are RFC 9457 problems with a `code`.',
  },
  // On a server without credentials none is needed.
  security: [{ bearer: [] }, { basic: [] }, {}],
};
