import { createRoute, z } from '@hono/zod-openapi';
import type { ScheduleInfo } from '../broker/contract.ts';
import { MillraceError, shown } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { type HttpApp, type HttpWorld, newApp } from './context.ts';
import { inputOf, NewSchedule, taskOptionsOf } from './new-task.ts';
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

export function scheduleRoutes({ client, showPayloads }: HttpWorld): HttpApp {
  const { schedules } = client;
  const app = newApp();
  const show = (schedule: ScheduleInfo): ScheduleInfo => shownSchedule(schedule, showPayloads);
  app.openapi(list, async (c) => c.json({ schedules: (await schedules.list()).map(show) }, 200));
  app.openapi(get, async (c) => c.json(show(await schedules.get(c.req.valid('param').name)), 200));
  app.openapi(set, async (c) => {
    const given = c.req.valid('json');
    const { task, cron, timeZone, everyMs, misfire } = given;
    const options = {
      ...taskOptionsOf(given),
      task,
      payload: inputOf(given, await c.req.text()),
      cron,
      timeZone,
      everyMs,
      misfire,
    };
    return c.json(show(await client.schedule(c.req.valid('param').name, options)), 200);
  });
  app.openapi(remove, async (c) => {
    const { name } = c.req.valid('param');
    if (await schedules.remove(name)) return c.body(null, 204);
    throw new MillraceError('NOT_FOUND', `there is no schedule ${shown(name)}`);
  });
  app.openapi(pause, async (c) => {
    await schedules.pause(c.req.valid('param').name);
    return c.body(null, 204);
  });
  app.openapi(resume, async (c) => {
    await schedules.resume(c.req.valid('param').name);
    return c.body(null, 204);
  });
  app.openapi(run, async (c) => c.json({ id: (await schedules.runNow(c.req.valid('param').name)).id }, 200));
  return app;
}
