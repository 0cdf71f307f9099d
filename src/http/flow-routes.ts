import { createRoute, z } from '@hono/zod-openapi';
import type { TaskInfo } from '../broker/contract.ts';
import { FlowTask } from '../client/flow.ts';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { itemTexts, memberText } from '../protocol/json-members.ts';
import type { ParentRef, TaskRef } from '../task/options.ts';
import { type HttpApp, newApp, type Served } from './context.ts';
import { listOf } from './lists.ts';
import { inputOf, NewFlowTask, optionsOf } from './new-task.ts';
import { isNotFound, Rights } from './rights.ts';
import { body, json, OnFailure, problems, SubmittedBody, TASK_STATES, TaskParams } from './schemas.ts';

const NewFlowTasks = listOf('NewFlowTask', NewFlowTask, { min: 1, max: LIMITS.batchTasksMax });

const submit = createRoute({
  method: 'post',
  path: '/v1/flows',
  operationId: 'submitFlow',
  summary: 'Enqueue tasks that depend on each other, all or nothing',
  tags: ['flows'],
  request: { body: body(z.strictObject({ tasks: NewFlowTasks })) },
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

export function flowRoutes(world: Served): HttpApp {
  const app = newApp();
  app.openapi(submit, async (c) => {
    const { tasks } = c.req.valid('json');
    const rights = await Rights.of(c, world);
    await rights.enqueue(tasks, tasks.flatMap(outerParentIdsOf));
    const texts = itemTexts(memberText(await c.req.text(), 'tasks') ?? '[]');
    const places = placesOf(tasks);
    const flow = await rights.client.flow((builder) => {
      // As the flow is submitted whole, a task may stand before those that it depends on.
      const place = (key: string): FlowTask | undefined => {
        const index = places.get(key);
        return index === undefined ? undefined : new FlowTask(builder, index);
      };
      for (const [index, task] of tasks.entries()) {
        const dependsOn = task.dependsOn?.map((parent) => referenceOf(task.key, parent, place));
        builder.add(task.name, inputOf(task, texts[index] ?? ''), { ...optionsOf(task), dependsOn });
      }
    });
    const answer = flow.tasks.map(({ id, isNew }, index) => ({ key: tasks[index]?.key ?? '', id, isNew }));
    return c.json({ tasks: answer }, 201);
  });
  app.openapi(graph, async (c) => {
    const { id } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    await rights.task(['read'], id);
    return c.json(await readGraph(rights, id, c.req.valid('query').limit), 200);
  });
  return app;
}

/** Of the tasks that it depends on and that are not of its flow. */
function outerParentIdsOf({ dependsOn = [] }: NewFlowTask): string[] {
  return dependsOn.flatMap((parent) => (typeof parent !== 'string' && 'id' in parent ? [parent.id] : []));
}

type FlowParent = NonNullable<NewFlowTask['dependsOn']>[number];

function referenceOf(
  child: string,
  parent: FlowParent,
  place: (key: string) => FlowTask | undefined,
): ParentRef<FlowTask | TaskRef> {
  if (typeof parent !== 'string' && 'id' in parent) return { task: parent.id, onFailure: parent.onFailure };
  const { key, onFailure } = typeof parent === 'string' ? { key: parent, onFailure: undefined } : parent;
  const task = place(key);
  if (task !== undefined) return { task, onFailure };
  const message = `task ${shown(child)} depends on ${shown(key)}, which is no key of this flow: write {"id": …} for a task that was enqueued before`;
  throw new MillraceError('INVALID_ARGUMENT', message);
}

/** Throws INVALID_ARGUMENT for a key that is there twice. */
function placesOf(tasks: readonly NewFlowTask[]): ReadonlyMap<string, number> {
  const places = new Map<string, number>();
  for (const [index, { key }] of tasks.entries()) {
    if (places.has(key)) throw new MillraceError('INVALID_ARGUMENT', `two tasks have the key ${shown(key)}`);
    places.set(key, index);
  }
  return places;
}

/** From the task on, nearest first, along both directions. What is in queues of others is there as what is no longer retained. */
async function readGraph({ broker, grant }: Rights, id: string, limit: number): Promise<Graph> {
  const tasks = new Map<string, Graph['tasks'][number]>();
  const edges = new Map<string, Graph['edges'][number]>();
  let complete = true;
  const found = new Set([id]);
  for (const next of found) {
    if (tasks.size >= limit) {
      complete = false;
      break;
    }
    const info = await broker.getTask(next).catch((error: unknown) => {
      // One that is no longer retained, or that was removed while this was looked at.
      if (next !== id && isNotFound(error)) return undefined;
      throw error;
    });
    const task = info === undefined || !grant.covers(info.queue) ? undefined : info;
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
