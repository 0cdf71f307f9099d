import { createRoute, z } from '@hono/zod-openapi';
import { MillraceError } from '../errors.ts';
import { SystemRandom } from '../io/random.ts';
import { checkName, DEFAULTS, LIMITS } from '../limits.ts';
import { itemTexts, memberText } from '../protocol/json-members.ts';
import { boundedError } from '../task/bounded-error.ts';
import { encodeResult } from '../task/codec.ts';
import { encodeProgress, logLine } from '../task/remarks.ts';
import { type HttpApp, newApp, type Served } from './context.ts';
import { answer } from './json-text.ts';
import { leasesText } from './lease-text.ts';
import { Leases, type Settlement } from './leases.ts';
import { listOf } from './lists.ts';
import { presenceOf } from './presence.ts';
import { Rights } from './rights.ts';
import { json, problems, QueueName } from './schemas.ts';

const LEASE_ID_CHARACTERS_MAX = 128;
const WORKER_NAME_BYTES_MAX = 128;

const LeaseId = z.string().min(1).max(LEASE_ID_CHARACTERS_MAX);
const LeaseParams = z.object({ lease: LeaseId.openapi({ param: { name: 'lease', in: 'path' } }) });

const LeaseMs = z.int().min(LIMITS.leaseMsMin).max(LIMITS.leaseMsMax);

const LeaseBody = z
  .strictObject({
    queues: z.array(QueueName).min(1).max(LIMITS.queuesPerWorkerMax).default([DEFAULTS.queue]),
    tasksMax: z.int().min(1).max(LIMITS.leaseTasksMax).default(1),
    waitMs: z.int().min(0).max(LIMITS.leaseWaitMsMax).default(0),
    leaseMs: LeaseMs.default(DEFAULTS.leaseMs),
    worker: z.string().min(1).max(WORKER_NAME_BYTES_MAX).default('http'),
  })
  .openapi('LeaseRequest');

const LeasedTask = z
  .object({
    lease: z.string(),
    id: z.string(),
    queue: z.string(),
    name: z.string(),
    attempt: z.int(),
    maxAttempts: z.int(),
    headers: z.record(z.string(), z.string()).optional(),
    payload: z.unknown().optional(),
    payloadBase64: z.base64().optional(),
    payloadKeyId: z.string().optional().openapi({ description: 'the key that `payloadBase64` is encrypted with' }),
    enqueuedAtMs: z.number(),
    leaseEndsAtMs: z.number(),
    timesOutAtMs: z.number(),
  })
  .openapi('LeasedTask');

const resultShape = { result: z.unknown().optional(), resultBase64: z.base64().optional() };
const failShape = {
  error: z.strictObject({
    message: z.string(),
    name: z.string().optional(),
    stack: z.string().optional(),
  }),
  final: z.boolean().default(false),
  retryDelayMs: z.number().min(0).max(LIMITS.delayMsMax).optional(),
};

const CompleteBody = z.strictObject(resultShape).openapi('Completion');
const FailBody = z.strictObject(failShape).openapi('Failure');
const someOf = <Shape extends z.ZodRawShape>(name: string, shape: Shape) =>
  listOf(name, z.strictObject({ lease: LeaseId, ...shape }), { max: LIMITS.leaseTasksMax }).default([]);
const SettleBody = z
  .strictObject({
    complete: someOf('LeaseCompletion', resultShape),
    fail: someOf('LeaseFailure', failShape),
    release: someOf('LeaseRelease', {}),
  })
  .openapi('Settlements');

const tags = ['leases'];
const body = <Schema extends z.ZodType>(schema: Schema, required = true) => ({
  required,
  content: { 'application/json': { schema } },
});

const take = createRoute({
  method: 'post',
  path: '/v1/leases',
  operationId: 'leaseTasks',
  summary: 'Wait for tasks and take them',
  tags,
  request: { body: body(LeaseBody) },
  responses: { 200: json(z.object({ leases: z.array(LeasedTask) }), 'none when none came in time'), ...problems },
});

const complete = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/complete',
  operationId: 'completeLease',
  summary: 'The task is done; answered when that is durable',
  tags,
  request: { params: LeaseParams, body: body(CompleteBody, false) },
  responses: { 204: { description: 'completed' }, ...problems },
});

const fail = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/fail',
  operationId: 'failLease',
  summary: 'The attempt has failed; answered when that is durable',
  tags,
  request: { params: LeaseParams, body: body(FailBody) },
  responses: { 204: { description: 'failed' }, ...problems },
});

const release = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/release',
  operationId: 'releaseLease',
  summary: 'Hand the task back; no attempt is counted',
  tags,
  request: { params: LeaseParams },
  responses: { 204: { description: 'handed back' }, ...problems },
});

const extend = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/extend',
  operationId: 'extendLease',
  summary: 'Keep the task for longer, and see whether it is still wanted',
  tags,
  request: { params: LeaseParams, body: body(z.strictObject({ leaseMs: LeaseMs.default(DEFAULTS.leaseMs) }), false) },
  responses: {
    200: json(
      z.object({ leaseEndsAtMs: z.number(), cancelRequested: z.boolean() }).openapi('Extension'),
      'never beyond the task’s timeout',
    ),
    ...problems,
  },
});

const progress = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/progress',
  operationId: 'reportProgress',
  summary: 'How far the task is',
  tags,
  request: {
    params: LeaseParams,
    body: body(z.strictObject({ value: z.unknown(), message: z.string().optional() })),
  },
  responses: { 204: { description: 'noted' }, ...problems },
});

const log = createRoute({
  method: 'post',
  path: '/v1/leases/{lease}/log',
  operationId: 'logLine',
  summary: 'One more line of the task’s log',
  tags,
  request: { params: LeaseParams, body: body(z.strictObject({ text: z.string() })) },
  responses: { 204: { description: 'noted' }, ...problems },
});

const settle = createRoute({
  method: 'post',
  path: '/v1/leases/settle',
  operationId: 'settleLeases',
  summary: 'Complete, fail and release many at once; answered when that is durable',
  tags,
  request: { body: body(SettleBody) },
  responses: {
    200: json(
      z.object({ settled: z.int(), lost: z.array(z.string()) }).openapi('Settled'),
      'which of them were no leases any more',
    ),
    ...problems,
  },
});

export function leaseRoutes(world: Served): HttpApp {
  const { clock, access } = world;
  const leases = new Leases({ clock, random: new SystemRandom(), keyring: access.keyring });
  world.onStop((options) => leases.stop(options));
  const app = newApp();
  app.openapi(take, async (c) => {
    const request = c.req.valid('json');
    checkName('worker', request.worker, WORKER_NAME_BYTES_MAX);
    const present = presenceOf(c);
    const rights = await Rights.of(c, world);
    const { grant, broker } = rights;
    for (const queue of request.queues) {
      checkName('queue', queue, LIMITS.queueNameBytesMax);
      rights.queue(['work'], queue);
    }
    const queues = [...new Set(request.queues)];
    const taken = await leases.take({ ...request, grant, broker, queues }, present);
    // The library knows the types of what it writes itself, and this is text already.
    return answer(leasesText(taken)) as never;
  });
  // Before those with a lease in their path.
  app.openapi(settle, async (c) => {
    const settlements = settlementsOf(c.req.valid('json'), await c.req.text());
    const { grant } = await Rights.of(c, world);
    return c.json(await leases.settle(settlements, grant), 200);
  });
  app.openapi(complete, async (c) => {
    const { lease } = c.req.valid('param');
    const settlement = completion({ lease, ...c.req.valid('json') }, await c.req.text());
    const { grant } = await Rights.of(c, world);
    await leases.settleOne(settlement, grant);
    return c.body(null, 204);
  });
  app.openapi(fail, async (c) => {
    const { lease } = c.req.valid('param');
    const { grant } = await Rights.of(c, world);
    await leases.settleOne(failure({ lease, ...c.req.valid('json') }), grant);
    return c.body(null, 204);
  });
  app.openapi(release, async (c) => {
    const { grant } = await Rights.of(c, world);
    await leases.settleOne({ kind: 'release', lease: c.req.valid('param').lease }, grant);
    return c.body(null, 204);
  });
  app.openapi(extend, async (c) => {
    const { grant } = await Rights.of(c, world);
    const { leaseMs = DEFAULTS.leaseMs } = c.req.valid('json') ?? {};
    const lease = leases.extend(c.req.valid('param').lease, leaseMs, grant);
    return c.json({ leaseEndsAtMs: lease.wallMs(lease.endsAtMs), cancelRequested: lease.cancelRequested }, 200);
  });
  app.openapi(progress, async (c) => {
    const { value, message } = c.req.valid('json');
    const { grant } = await Rights.of(c, world);
    leases.progress(c.req.valid('param').lease, encodeProgress(value, message), grant);
    return c.body(null, 204);
  });
  app.openapi(log, async (c) => {
    const { grant } = await Rights.of(c, world);
    leases.log(c.req.valid('param').lease, logLine(c.req.valid('json').text), grant);
    return c.body(null, 204);
  });
  return app;
}

/** Throws INVALID_ARGUMENT when a lease is named twice, and what is wrong with one of them: then nothing has happened. */
function settlementsOf(body: z.output<typeof SettleBody>, text: string): Settlement[] {
  const completed = itemTexts(memberText(text, 'complete') ?? '[]');
  const settlements = [
    ...body.complete.map((each, index) => completion(each, completed[index] ?? '')),
    ...body.fail.map(failure),
    ...body.release.map(({ lease }): Settlement => ({ kind: 'release', lease })),
  ];
  const bound = LIMITS.leaseTasksMax;
  if (settlements.length > bound) {
    const message = `${settlements.length} leases were to be settled at once; at most ${bound} are allowed: settle them in portions`;
    throw new MillraceError('INVALID_ARGUMENT', message, { details: { value: settlements.length, bound } });
  }
  const named = new Set<string>();
  for (const { lease } of settlements) {
    if (named.has(lease)) throw new MillraceError('INVALID_ARGUMENT', 'a lease is named twice', { details: { lease } });
    named.add(lease);
  }
  return settlements;
}

interface Completion extends z.output<typeof CompleteBody> {
  readonly lease: string;
}

/** `text`: where it was written, from which the result is taken as it stands there. */
function completion({ lease, result, resultBase64 }: Completion, text: string): Settlement {
  if (resultBase64 === undefined) {
    const written = result === undefined ? undefined : Buffer.from(memberText(text, 'result') ?? '');
    return { kind: 'complete', lease, result: encodeResult(written, 'bytes') };
  }
  if (result !== undefined) {
    throw new MillraceError('INVALID_ARGUMENT', 'result and resultBase64 were both given: give one of them', {
      details: { lease },
    });
  }
  return { kind: 'complete', lease, result: encodeResult(Buffer.from(resultBase64, 'base64'), 'bytes') };
}

interface Failure extends z.output<typeof FailBody> {
  readonly lease: string;
}

function failure({ lease, error, final, retryDelayMs }: Failure): Settlement {
  const { message, name = 'Error', stack } = error;
  const described = { name, message, code: 'HANDLER_FAILED' };
  return {
    kind: 'fail',
    lease,
    error: boundedError(stack === undefined ? described : { ...described, stack }),
    options: { final, retryDelayMs },
  };
}
