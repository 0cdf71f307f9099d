import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { ROLES } from '../access/grant.ts';
import type { Status } from '../broker/contract.ts';
import { ERROR_CODES, MillraceError, redact } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { VERSION } from '../version.ts';
import { type HttpApp, type HttpEnv, newApp, type Served } from './context.ts';
import type { History } from './history.ts';
import { problemResponse } from './problem.ts';
import { Rights } from './rights.ts';
import { HistoryBody, json, problems, StatusBody, SupervisorBody, WorkerBody } from './schemas.ts';

const tags = ['server'];

const WorkersBody = z.object({ workers: z.array(WorkerBody), supervisors: z.array(SupervisorBody).optional() });

const workers = createRoute({
  method: 'get',
  path: '/v1/workers',
  operationId: 'listWorkers',
  summary: 'Workers that are connected, and supervisors of worker processes',
  tags,
  responses: { 200: json(WorkersBody, 'the workers'), ...problems },
});

const stats = createRoute({
  method: 'get',
  path: '/v1/stats',
  operationId: 'stats',
  summary: 'Queues, workers, throughput and latency, now',
  tags,
  responses: { 200: json(StatusBody, 'the status'), ...problems },
});

const past = createRoute({
  method: 'get',
  path: '/v1/stats/history',
  operationId: 'statsHistory',
  summary: 'The last 15 minutes',
  tags,
  responses: { 200: json(HistoryBody, 'samples, oldest first'), ...problems },
});

const InfoBody = z
  .object({
    version: z.string(),
    url: z.string().openapi({ description: 'of the backend, without its password' }),
    backend: z.string().openapi({ example: 'tcp' }),
    roles: z.array(z.enum(ROLES)).openapi({ description: 'of the caller; operate implies all others' }),
    queues: z.array(z.string()).openapi({ description: 'with which queues; * stands for any characters' }),
    payloads: z.boolean().openapi({ description: 'whether payloads and results are shown' }),
    features: z
      .object({ tasks: z.boolean(), events: z.boolean(), schedules: z.boolean(), limits: z.boolean() })
      .openapi({ description: 'what the backend can do' }),
  })
  .openapi('Info');

const info = createRoute({
  method: 'get',
  path: '/v1/info',
  operationId: 'info',
  summary: 'What this server is, and what its caller may do',
  tags,
  responses: { 200: json(InfoBody, 'the server'), ...problems },
});

const health = createRoute({
  method: 'get',
  path: '/healthz',
  operationId: 'health',
  summary: 'Whether the process answers',
  tags,
  responses: { 200: { description: 'it does', content: { 'text/plain': { schema: z.string() } } } },
});

const ready = createRoute({
  method: 'get',
  path: '/readyz',
  operationId: 'ready',
  summary: 'Whether tasks are taken and confirmed',
  tags,
  responses: { 200: { description: 'they are', content: { 'text/plain': { schema: z.string() } } }, ...problems },
});

/** For how long an answer holds. */
const READY_MS = 100;

/** Rejects when it is not. Probes need no credentials, and a status is not cheap: many of them cost no more than a few. */
function readiness({ broker, clock }: Pick<Served, 'broker' | 'clock'>): () => Promise<void> {
  let asked: Promise<void> | undefined;
  const ask = async (): Promise<void> => {
    const { server } = await broker.status();
    if (server.stopping) throw new MillraceError('STOPPING', 'the server is stopping and takes no new work');
  };
  const forget = (): void => {
    const timer = clock.setTimer(READY_MS, () => {
      asked = undefined;
    });
    timer.unref();
  };
  return () => {
    asked ??= ask().finally(forget);
    return asked;
  };
}

/** What fails may be said with paths and hosts, and strangers ask too. */
function withoutParticulars(error: unknown): unknown {
  return error instanceof MillraceError ? new MillraceError(error.code, ERROR_CODES[error.code].meaning) : error;
}

export function statsRoutes(world: Served, history: History): HttpApp {
  const { access, broker, features, showPayloads } = world;
  const app = newApp();
  const statusFor = async (c: Context<HttpEnv>): Promise<Status> => {
    const rights = await Rights.of(c, world);
    return rights.status(await rights.broker.status());
  };
  app.openapi(workers, async (c) => {
    const { workers, supervisors } = await statusFor(c);
    return c.json({ workers, supervisors }, 200);
  });
  app.openapi(stats, async (c) => c.json(await statusFor(c), 200));
  app.openapi(past, (c) => c.json({ intervalMs: LIMITS.historyIntervalMs, samples: [...history.samples] }, 200));
  app.openapi(info, (c) => {
    const url = redact(broker.url);
    const backend = /^\w+/.exec(url)?.[0] ?? '';
    const { roles, queues } = c.get('grant');
    const caller = { roles: [...roles], queues: [...queues] };
    return c.json({ version: VERSION, url, backend, ...caller, payloads: showPayloads, features }, 200);
  });
  app.openapi(health, (c) => c.text('ok', 200));
  const checkReady = readiness(world);
  app.openapi(ready, async (c) => {
    try {
      await checkReady();
      return c.text('ready', 200);
    } catch (error) {
      // Whatever it is: a probe wants to know only that, and why.
      const { headers, body } = problemResponse(access.keyring.isOpen ? error : withoutParticulars(error));
      return new Response(body, { status: 503, headers }) as never;
    }
  });
  return app;
}
