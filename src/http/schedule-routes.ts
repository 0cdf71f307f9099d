import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Role } from '../access/grant.ts';
import type { ScheduleInfo } from '../broker/contract.ts';
import type { Client } from '../client/client.ts';
import { MillraceError, shown } from '../errors.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { type HttpApp, type HttpEnv, newApp, type Served } from './context.ts';
import { inputOf, NewSchedule, taskOptionsOf } from './new-task.ts';
import { Rights } from './rights.ts';
import { body, json, problems, ScheduleBody } from './schemas.ts';
import { shownSchedule } from './shown.ts';

const tags = ['schedules'];
const params = z.object({ name: z.string().min(1).max(LIMITS.scheduleNameBytesMax) });

const list = createRoute({
  method: 'get',
  path: '/v1/schedules',
  operationId: 'listSchedules',
  summary: 'All schedules, with when they fire next and fired last',
  tags,
  responses: { 200: json(z.object({ schedules: z.array(ScheduleBody) }), 'by their names'), ...problems },
});

const get = createRoute({
  method: 'get',
  path: '/v1/schedules/{name}',
  operationId: 'getSchedule',
  summary: 'One schedule, with its payload',
  tags,
  request: { params },
  responses: { 200: json(ScheduleBody, 'the schedule'), ...problems },
});

const set = createRoute({
  method: 'put',
  path: '/v1/schedules/{name}',
  operationId: 'setSchedule',
  summary: 'Make a schedule, or replace it',
  tags,
  request: { params, body: body(NewSchedule) },
  responses: { 200: json(ScheduleBody, 'the schedule'), ...problems },
});

const remove = createRoute({
  method: 'delete',
  path: '/v1/schedules/{name}',
  operationId: 'removeSchedule',
  summary: 'Remove a schedule; tasks that it enqueued stay',
  tags,
  request: { params },
  responses: { 204: { description: 'removed' }, ...problems },
});

const pause = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/pause',
  operationId: 'pauseSchedule',
  summary: 'Let it fire no more',
  tags,
  request: { params },
  responses: { 204: { description: 'paused' }, ...problems },
});

const resume = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/resume',
  operationId: 'resumeSchedule',
  summary: 'Let it fire again',
  tags,
  request: { params },
  responses: { 204: { description: 'resumed' }, ...problems },
});

const run = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/run',
  operationId: 'runSchedule',
  summary: 'Enqueue its task now; its times stay',
  tags,
  request: { params },
  responses: { 200: json(z.object({ id: z.string() }), 'the task'), ...problems },
});

export function scheduleRoutes(world: Served): HttpApp {
  const app = newApp();
  const show = (schedule: ScheduleInfo): ScheduleInfo => shownSchedule(schedule, world.showPayloads);
  /** Those of whoever may do something with the one that is named. */
  const schedulesFor = async (c: Context<HttpEnv>, role: Role, name: string): Promise<Client['schedules']> => {
    const rights = await Rights.of(c, world);
    await rights.schedule([role], name);
    return rights.client.schedules;
  };
  app.openapi(list, async (c) => {
    const { grant, client } = await Rights.of(c, world);
    const visible = (await client.schedules.list()).filter(({ queue }) => grant.covers(queue));
    return c.json({ schedules: visible.map(show) }, 200);
  });
  app.openapi(get, async (c) => {
    const { name } = c.req.valid('param');
    const schedules = await schedulesFor(c, 'read', name);
    return c.json(show(await schedules.get(name)), 200);
  });
  app.openapi(set, async (c) => {
    const given = c.req.valid('json');
    const { task, cron, timeZone, everyMs, misfire } = given;
    const { name } = c.req.valid('param');
    const rights = await Rights.of(c, world);
    rights.queue(['operate'], given.queue ?? DEFAULTS.queue);
    await rights.newSchedule(['operate'], name);
    const options = {
      ...taskOptionsOf(given),
      task,
      payload: inputOf(given, await c.req.text()),
      cron,
      timeZone,
      everyMs,
      misfire,
    };
    return c.json(show(await rights.client.schedule(name, options)), 200);
  });
  app.openapi(remove, async (c) => {
    const { name } = c.req.valid('param');
    const schedules = await schedulesFor(c, 'operate', name);
    if (await schedules.remove(name)) return c.body(null, 204);
    throw new MillraceError('NOT_FOUND', `there is no schedule ${shown(name)}`);
  });
  app.openapi(pause, async (c) => {
    const { name } = c.req.valid('param');
    await (await schedulesFor(c, 'operate', name)).pause(name);
    return c.body(null, 204);
  });
  app.openapi(resume, async (c) => {
    const { name } = c.req.valid('param');
    await (await schedulesFor(c, 'operate', name)).resume(name);
    return c.body(null, 204);
  });
  app.openapi(run, async (c) => {
    const { name } = c.req.valid('param');
    const schedules = await schedulesFor(c, 'operate', name);
    return c.json({ id: (await schedules.runNow(name)).id }, 200);
  });
  return app;
}
