import { createRoute, z } from '@hono/zod-openapi';
import type { Broker, OnParentFailure, TaskInfo } from '../broker/contract.ts';
import type { FlowTask } from '../client/flow.ts';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { ParentRef, TaskRef } from '../task/options.ts';
import { type HttpApp, type HttpWorld, newApp } from './context.ts';
import { inputOf, NewFlowTask, optionsOf } from './new-task.ts';
import { body, json, OnFailure, problems, SubmittedBody, TASK_STATES, TaskParams } from './schemas.ts';

const submit = createRoute({
  method: 'post',
  path: '/v1/flows',
  operationId: 'submitFlow',
  summary: 'Enqueue tasks that depend on each other, all or nothing',
  tags: ['flows'],
  request: { body: body(z.strictObject({ tasks: z.array(NewFlowTask).min(1).max(LIMITS.batchTasksMax) })) },
  responses: {
    201: json(z.object({ tasks: z.array(SubmittedBody.extend({ key: z.string() })) }), 'enqueued'),
    ...problems,
  },
});

const GraphBody = z
  .object({
    tasks: z.array(
      z.object({
        id: z.string(),
        name: z.string(),
        queue: z.string(),
        state: z.enum(TASK_STATES).or(z.literal('unknown')),
      }),
    ),
    edges: z.array(z.object({ from: z.string(), to: z.string(), onFailure: OnFailure })),
    complete: z.boolean().openapi({ description: 'false: there are more tasks than were looked at' }),
  })
  .openapi('Graph');

type Graph = z.infer<typeof GraphBody>;

const graph = createRoute({
  method: 'get',
  path: '/v1/tasks/{id}/flow',
  operationId: 'taskFlow',
  summary: 'The graph that a task is part of',
  tags: ['flows'],
  request: {
    params: TaskParams,
    query: z.strictObject({
      limit: z.coerce.number().int().min(1).max(LIMITS.httpFlowTasksMax).default(LIMITS.httpFlowTasksDefault),
    }),
  },
  responses: { 200: json(GraphBody, 'the tasks that are nearest, and how they depend on each other'), ...problems },
});

export function flowRoutes({ broker, client }: HttpWorld): HttpApp {
  const app = newApp();
  app.openapi(submit, async (c) => {
    const { tasks } = c.req.valid('json');
    const ordered = inOrder(tasks);
    const flow = await client.flow((builder) => {
      const added = new Map<string, FlowTask>();
      for (const task of ordered) {
        const dependsOn = task.dependsOn?.map((parent) => referenceOf(parent, added));
        added.set(task.key, builder.add(task.name, inputOf(task), { ...optionsOf(task), dependsOn }));
      }
    });
    const byKey = new Map(ordered.map(({ key }, index) => [key, flow.tasks[index]]));
    const answer = tasks.map(({ key }) => {
      const { id = '', isNew = true } = byKey.get(key) ?? {};
      return { key, id, isNew };
    });
    return c.json({ tasks: answer }, 201);
  });
  app.openapi(graph, async (c) => {
    return c.json(await readGraph(broker, c.req.valid('param').id, c.req.valid('query').limit), 200);
  });
  return app;
}

type FlowParent = NonNullable<NewFlowTask['dependsOn']>[number];

/** Undefined for a task that is not of this flow. */
function keyOf(parent: FlowParent): string | undefined {
  if (typeof parent === 'string') return parent;
  return 'key' in parent ? parent.key : undefined;
}

function referenceOf(parent: FlowParent, added: ReadonlyMap<string, FlowTask>): ParentRef<FlowTask | TaskRef> {
  const onFailure: OnParentFailure | undefined = typeof parent === 'string' ? undefined : parent.onFailure;
  const key = keyOf(parent);
  if (key === undefined) return { task: (parent as { id: string }).id, onFailure };
  return { task: added.get(key) as FlowTask, onFailure };
}

/** Parents before children. Throws INVALID_ARGUMENT for keys that are there twice or not at all, and for a circle. */
function inOrder(tasks: readonly NewFlowTask[]): NewFlowTask[] {
  const byKey = new Map<string, NewFlowTask>();
  for (const task of tasks) {
    if (byKey.has(task.key)) throw new MillraceError('INVALID_ARGUMENT', `two tasks have the key ${shown(task.key)}`);
    byKey.set(task.key, task);
  }
  const children = new Map<string, string[]>();
  const open = new Map<string, number>();
  for (const { key, dependsOn = [] } of tasks) {
    const parents = dependsOn.flatMap((parent) => keyOf(parent) ?? []);
    open.set(key, parents.length);
    for (const parent of parents) {
      if (!byKey.has(parent)) {
        const message = `task ${shown(key)} depends on ${shown(parent)}, which is no key of this flow: write {"id": …} for a task that was enqueued before`;
        throw new MillraceError('INVALID_ARGUMENT', message);
      }
      children.set(parent, [...(children.get(parent) ?? []), key]);
    }
  }
  const ordered: NewFlowTask[] = [];
  const free = tasks.filter(({ key }) => open.get(key) === 0);
  for (let task = free.pop(); task !== undefined; task = free.pop()) {
    ordered.push(task);
    for (const child of children.get(task.key) ?? []) {
      const left = (open.get(child) ?? 0) - 1;
      open.set(child, left);
      if (left === 0) free.push(byKey.get(child) as NewFlowTask);
    }
  }
  if (ordered.length === tasks.length) return ordered;
  const circular = tasks.filter(({ key }) => (open.get(key) ?? 0) > 0).map(({ key }) => shown(key));
  throw new MillraceError(
    'INVALID_ARGUMENT',
    `these tasks depend on each other in a circle: ${circular.slice(0, 10).join(', ')}`,
  );
}

/** From the task on, nearest first, along both directions. */
async function readGraph(broker: Broker, id: string, limit: number): Promise<Graph> {
  const tasks = new Map<string, Graph['tasks'][number]>();
  const edges = new Map<string, Graph['edges'][number]>();
  let complete = true;
  const found = new Set([id]);
  for (const next of found) {
    if (tasks.size >= limit) {
      complete = false;
      break;
    }
    const task = await broker.getTask(next).catch((error: unknown) => {
      // One that is no longer retained, or that was removed while this was looked at.
      if (next !== id && error instanceof MillraceError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    });
    tasks.set(next, task === undefined ? { id: next, name: '', queue: '', state: 'unknown' } : summaryOf(task));
    if (task === undefined) continue;
    for (const parent of task.dependencies?.parents ?? []) {
      edges.set(`${parent.id} ${next}`, { from: parent.id, to: next, onFailure: parent.onFailure });
      found.add(parent.id);
    }
    for (const child of task.children?.ids ?? []) found.add(child);
    complete &&= isWhole(task);
  }
  const known = [...edges.values()].filter(({ from, to }) => tasks.has(from) && tasks.has(to));
  return { tasks: [...tasks.values()], edges: known, complete };
}

function summaryOf({ id, name, queue, state }: TaskInfo): Graph['tasks'][number] {
  return { id, name, queue, state };
}

/** Whether all of its relatives were named. */
function isWhole({ dependencies, children }: TaskInfo): boolean {
  const parents = dependencies === undefined || dependencies.total === (dependencies.parents?.length ?? 0);
  return parents && (children === undefined || children.total === children.ids.length);
}
