import { createRoute, z } from '@hono/zod-openapi';
import type { Status } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { checkName, DEFAULTS, LIMITS } from '../limits.ts';
import { type HttpApp, newApp, type Served } from './context.ts';
import { Rights } from './rights.ts';
import { json, problems } from './schemas.ts';

/** Flat, and numbers only: what reads it names one member and wants a number. */
const ScalingBody = z
  .object({
    backlog: z.int().openapi({ description: 'active tasks, and ready ones of queues that are not held up' }),
    oldestReadyMs: z.int().openapi({ description: 'of queues that are not held up; 0 when nothing waits' }),
    desiredWorkers: z.int().openapi({ description: 'backlog / tasksPerWorker, rounded up' }),
    ready: z.int().openapi({ description: 'of all these queues, held up or not' }),
    active: z.int(),
    scheduled: z.int(),
    workers: z.int().openapi({ description: 'that take from any of these queues' }),
    concurrency: z.int().openapi({ description: 'handlers that these workers may run at the same time' }),
    running: z.int(),
    utilisation: z
      .number()
      .openapi({ description: 'share of these handlers that was busy over the last seconds, 0 to 1' }),
  })
  .openapi('Scaling');

const scaling = createRoute({
  method: 'get',
  path: '/v1/scaling',
  operationId: 'scaling',
  summary: 'How much work waits for how many workers, as numbers for an autoscaler such as KEDA',
  tags: ['server'],
  request: {
    query: z.strictObject({
      queues: z.string().min(1).optional().openapi({ description: 'names, separated by commas; default: all queues' }),
      tasksPerWorker: z.coerce
        .number()
        .int()
        .min(1)
        .max(LIMITS.prefetchMax)
        .default(DEFAULTS.concurrency)
        .openapi({ description: 'for desiredWorkers' }),
    }),
  },
  responses: { 200: json(ScalingBody, 'the numbers'), ...problems },
});

export function scalingRoutes(world: Served): HttpApp {
  const app = newApp();
  app.openapi(scaling, async (c) => {
    // Zeros would have everything scaled down.
    if (!world.features.tasks) {
      const message =
        'RabbitMQ alone does not say what waits in which queue: start this server with --store, or have the autoscaler ask RabbitMQ (KEDA: its rabbitmq scaler)';
      throw new MillraceError('UNSUPPORTED', message);
    }
    const { queues, tasksPerWorker } = c.req.valid('query');
    const wanted = parseQueues(queues);
    const rights = await Rights.of(c, world);
    for (const queue of wanted ?? [undefined]) rights.queue(['read', 'work'], queue);
    return c.json(summarise(await rights.broker.status(), wanted, tasksPerWorker), 200);
  });
  return app;
}

/** Undefined: all. */
function parseQueues(given: string | undefined): ReadonlySet<string> | undefined {
  if (given === undefined) return undefined;
  const names = given.split(',').map((name) => name.trim());
  for (const name of names) checkName('queue', name, LIMITS.queueNameBytesMax);
  return new Set(names);
}

/** A queue that does not exist yet has no tasks: it begins with its first one. */
function summarise(
  status: Status,
  wanted: ReadonlySet<string> | undefined,
  tasksPerWorker: number,
): z.infer<typeof ScalingBody> {
  const isWanted = (queue: string): boolean => wanted === undefined || wanted.has(queue);
  const queues = status.queues.filter(({ name }) => isWanted(name));
  const open = queues.filter(({ paused, heldUpBy }) => !paused && heldUpBy === undefined);
  const workers = status.workers.filter((worker) => worker.queues.some(isWanted));
  const active = total(queues, (queue) => queue.active);
  const backlog = active + total(open, ({ ready }) => ready);
  const concurrency = total(workers, (worker) => worker.concurrency);
  const busy = total(workers, (worker) => worker.utilisation * worker.concurrency);
  return {
    backlog,
    oldestReadyMs: Math.max(0, ...open.map(({ oldestReadyMs }) => oldestReadyMs)),
    desiredWorkers: Math.ceil(backlog / tasksPerWorker),
    ready: total(queues, ({ ready }) => ready),
    active,
    scheduled: total(queues, ({ scheduled }) => scheduled),
    workers: workers.length,
    concurrency,
    running: total(workers, ({ running }) => running),
    utilisation: concurrency === 0 ? 0 : busy / concurrency,
  };
}

function total<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((sum, value) => sum + of(value), 0);
}
