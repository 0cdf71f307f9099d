import { createRoute, z } from '@hono/zod-openapi';
import type { Broker, Outcome, SubmittedTask, TaskFilter, TaskState } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError } from '../errors.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { itemTexts } from '../protocol/json-members.ts';
import { type HttpApp, newApp, type Served } from './context.ts';
import { answer, jsonOrBase64 } from './json-text.ts';
import { listOf } from './lists.ts';
import { enqueueNew, inputOf, NewTask, optionsOf, parentIdsOf, parentsOf } from './new-task.ts';
import { Rights } from './rights.ts';
import {
  BulkBody,
  body,
  DeadGroupsBody,
  ErrorBody,
  json,
  problems,
  QueueName,
  SubmittedBody,
  TASK_STATES,
  TaskBody,
  TaskPageBody,
  TaskParams,
} from './schemas.ts';
import { shownTask, withoutTexts } from './shown.ts';
import { OpenWaits, waitMs } from './wait.ts';

const tags = ['tasks'];

const NewTasks = listOf('NewTask', NewTask, { min: 1, max: LIMITS.batchTasksMax });

const create = createRoute({
  method: 'post',
  path: '/v1/tasks',
  operationId: 'enqueue',
  summary: 'Enqueue a task, or several: all or nothing',
  description: 'An answer means that they are durable. For streams of lines, send application/x-ndjson.',
  tags,
  request: {
    body: {
      required: true,
      content: { 'application/json': { schema: NewTask.or(NewTasks) } },
    },
  },
  responses: {
    201: json(SubmittedBody.or(z.object({ tasks: z.array(SubmittedBody) })), 'enqueued'),
    ...problems,
  },
});

const filter = {
  queue: z.string().optional(),
  name: z.string().optional(),
  state: z.enum(TASK_STATES).optional(),
  error: z.string().optional().openapi({ description: 'text in the newest failure, whatever its case' }),
  errorGroup: z.string().optional().openapi({ description: 'the `group` of a group of dead tasks' }),
  worker: z.string().optional().openapi({ description: 'the id of the worker that runs it' }),
  order: z.enum(['oldest', 'newest']).optional(),
  after: z.string().optional(),
};
const moment = { description: 'enqueued then or later, milliseconds since 1970' };

const list = createRoute({
  method: 'get',
  path: '/v1/tasks',
  operationId: 'listTasks',
  summary: 'Tasks by what they are',
  tags,
  request: {
    query: z.strictObject({
      ...filter,
      fromMs: z.coerce.number().optional().openapi(moment),
      toMs: z.coerce.number().optional(),
      limit: z.coerce.number().int().optional(),
    }),
  },
  responses: { 200: json(TaskPageBody, 'a page; `next` continues it'), ...problems },
});

const BulkFilter = z.strictObject({
  ...filter,
  fromMs: z.number().optional().openapi(moment),
  toMs: z.number().optional(),
});

const cancelMany = createRoute({
  method: 'post',
  path: '/v1/tasks/cancel',
  operationId: 'cancelTasks',
  summary: 'Cancel what a filter names: one bounded step',
  tags,
  request: { body: body(BulkFilter) },
  responses: { 200: json(BulkBody, 'how many; `next` when there may be more'), ...problems },
});

const retryMany = createRoute({
  method: 'post',
  path: '/v1/tasks/retry',
  operationId: 'retryTasks',
  summary: 'Run dead and scheduled tasks that a filter names now: one bounded step',
  tags,
  request: { body: body(BulkFilter) },
  responses: { 200: json(BulkBody, 'how many; `next` when there may be more'), ...problems },
});

const deadGroups = createRoute({
  method: 'get',
  path: '/v1/dead-groups',
  operationId: 'deadGroups',
  summary: 'Dead tasks by what they died of',
  tags,
  request: { query: z.strictObject({ queue: QueueName.optional() }) },
  responses: { 200: json(DeadGroupsBody, 'the largest groups first'), ...problems },
});

const get = createRoute({
  method: 'get',
  path: '/v1/tasks/{id}',
  operationId: 'getTask',
  summary: 'A task with everything that is known of it',
  tags,
  request: { params: TaskParams },
  responses: { 200: json(TaskBody, 'the task'), ...problems },
});

const OutcomeBody = z
  .object({
    state: z.enum(['completed', 'dead', 'cancelled']),
    result: z.unknown().optional(),
    resultBase64: z.string().optional().openapi({ description: 'in place of `result` when it is no JSON' }),
    resultKeyId: z.string().optional().openapi({ description: 'the key that `resultBase64` is encrypted with' }),
    resultHidden: z.boolean().optional(),
    error: ErrorBody.optional(),
  })
  .openapi('Outcome');

const result = createRoute({
  method: 'get',
  path: '/v1/tasks/{id}/result',
  operationId: 'taskResult',
  summary: 'Wait for the end of a task',
  tags,
  request: { params: TaskParams, query: z.strictObject({ waitMs: waitMs() }) },
  responses: { 200: json(OutcomeBody, 'how it ended'), ...problems },
});

const cancel = createRoute({
  method: 'post',
  path: '/v1/tasks/{id}/cancel',
  operationId: 'cancelTask',
  summary: 'Cancel a task, or ask its handler to end',
  tags,
  request: { params: TaskParams },
  responses: { 200: json(z.object({ outcome: z.enum(['cancelled', 'requested']) }), 'what was done'), ...problems },
});

const retry = createRoute({
  method: 'post',
  path: '/v1/tasks/{id}/retry',
  operationId: 'retryTask',
  summary: 'Run a dead task again with fresh attempts, or a scheduled one now',
  tags,
  request: { params: TaskParams },
  responses: { 204: { description: 'it is ready' }, ...problems },
});

export function taskRoutes(world: Served): HttpApp {
  const { features, showPayloads } = world;
  const app = newApp();
  const waits = new OpenWaits(world.access.keyring);
  world.onStop(async () => waits.stop());
  app.openapi(create, async (c) => {
    const given = c.req.valid('json');
    const tasks = Array.isArray(given) ? given : [given];
    const rights = await Rights.of(c, world);
    await rights.enqueue(tasks, tasks.flatMap(parentIdsOf));
    const { client } = rights;
    const text = await c.req.text();
    if (!Array.isArray(given)) return c.json(await enqueueNew(client, given, text), 201);
    return c.json({ tasks: await enqueueAll(client, given, itemTexts(text)) }, 201);
  });
  app.openapi(list, async (c) => {
    const query = c.req.valid('query');
    checkFilter(query, showPayloads);
    const rights = await Rights.of(c, world);
    rights.queue(['read'], query.queue);
    const { tasks, next } = await rights.client.tasks.list(query);
    const shown = tasks.map((task) => shownTask(task, showPayloads));
    return c.json(next === undefined ? { tasks: shown } : { tasks: shown, next }, 200);
  });
  // Before tasks by their ids.
  for (const [route, change] of [
    [cancelMany, ({ broker }: Rights, filter: TaskFilter) => broker.cancelTasks(filter)],
    [retryMany, ({ broker }: Rights, filter: TaskFilter) => broker.retryTasks(filter)],
  ] as const) {
    app.openapi(route, async (c) => {
      const filter = c.req.valid('json');
      checkFilter(filter, showPayloads);
      const rights = await Rights.of(c, world);
      rights.queue(['operate'], filter.queue);
      return c.json(await change(rights, filter), 200);
    });
  }
  app.openapi(deadGroups, async (c) => {
    const query = c.req.valid('query');
    const rights = await Rights.of(c, world);
    rights.queue(['read'], query.queue);
    const { groups, ...rest } = await rights.client.tasks.deadGroups(query);
    return c.json({ groups: groups.map((group) => (showPayloads ? group : { ...group, message: '' })), ...rest }, 200);
  });
  app.openapi(get, async (c) => {
    const { id } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    const task = await rights.seen(`task ${id}`, rights.broker.getTask(id));
    if (!rights.grant.covers(task.queue)) throw rights.grant.unseen(`task ${id}`);
    return c.json(shownTask(task, showPayloads), 200);
  });
  app.openapi(result, async (c) => {
    const { id } = c.req.valid('param');
    const { waitMs: timeoutMs } = c.req.valid('query');
    const rights = await Rights.of(c, world);
    await rights.task(['produce', 'read'], id);
    const { broker } = rights;
    const outcome = await waits.run({ gone: c.req.raw.signal, grant: rights.grant }, (signal) =>
      features.tasks && timeoutMs === 0
        ? outcomeNow(broker, id, signal)
        : broker.outcome(id, { timeoutMs: Math.max(1, timeoutMs), signal }),
    );
    return answer(outcomeText(outcome, showPayloads)) as never;
  });
  app.openapi(cancel, async (c) => {
    const { id } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    await rights.task(['operate'], id);
    return c.json({ outcome: await rights.broker.cancelTask(id) }, 200);
  });
  app.openapi(retry, async (c) => {
    const { id } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    await rights.task(['operate'], id);
    await rights.broker.retryTask(id);
    return c.body(null, 204);
  });
  return app;
}

/** What is not shown is not to be found out by searching for it. */
function checkFilter({ error }: TaskFilter, showPayloads: boolean): void {
  if (showPayloads || error === undefined) return;
  throw new MillraceError(
    'FORBIDDEN',
    'this server does not show what errors say (--http-payloads off), nor does it search there: use errorGroup',
  );
}

/** Those that are alike go as one batch, which every backend has; others as one submission. */
async function enqueueAll(client: Client, tasks: NewTask[], texts: readonly string[]): Promise<SubmittedTask[]> {
  const inputs = tasks.map((task, index) => inputOf(task, texts[index] ?? ''));
  const [first] = tasks as [NewTask, ...NewTask[]];
  const options = optionsOf(first);
  const key = sameKey(first);
  const isPlain = first.uniqueKey === undefined && first.dependsOn === undefined;
  if (isPlain && tasks.every((task) => sameKey(task) === key)) {
    const batch = await client.enqueueMany(first.name, inputs, options);
    return Array.from(batch.ids, (id) => ({ id, isNew: true }));
  }
  const flow = await client.flow((builder) => {
    for (const [index, task] of tasks.entries()) {
      builder.add(task.name, inputs[index], { ...optionsOf(task), dependsOn: parentsOf(task) });
    }
  });
  return flow.tasks.map(({ id, isNew }) => ({ id, isNew }));
}

function sameKey({ payload: _payload, payloadBase64: _bytes, ...rest }: NewTask): string {
  return JSON.stringify(rest);
}

/** Who does not want to wait is told of what has ended, however long the backend takes to say it. */
async function outcomeNow(broker: Broker, id: string, signal: AbortSignal): Promise<Outcome> {
  const { state } = await broker.taskState(id);
  if (ENDED.includes(state)) return broker.outcome(id, { timeoutMs: DEFAULTS.callTimeoutMs, signal });
  throw new MillraceError('TIMEOUT', `task ${id} is ${state}: ask with waitMs to wait for its end`, {
    details: { id, state },
  });
}

const ENDED: readonly TaskState[] = ['completed', 'dead', 'cancelled'];

/** What a handler returned stands in it as it is, with all digits of its numbers. */
function outcomeText(outcome: Outcome, showPayloads: boolean): string {
  const { state } = outcome;
  if (state === 'completed') {
    if (!showPayloads) return JSON.stringify({ state, resultHidden: true });
    return `{"state":"${state}"${outcome.result === undefined ? '' : `,${jsonOrBase64('result', outcome.result)}`}}`;
  }
  if (state === 'cancelled' || showPayloads) return JSON.stringify(outcome);
  return JSON.stringify({ state, error: withoutTexts(outcome.error), resultHidden: true });
}
