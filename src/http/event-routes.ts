import { createRoute, z } from '@hono/zod-openapi';
import type { TaskEvent } from '../broker/contract.ts';
import { MillraceError } from '../errors.ts';
import { SystemRandom } from '../io/random.ts';
import { LIMITS } from '../limits.ts';
import { type HttpApp, newApp, type Served } from './context.ts';
import { EventHub } from './event-hub.ts';
import { Rights } from './rights.ts';
import { problems, QueueName } from './schemas.ts';
import { withoutTexts } from './shown.ts';

const events = createRoute({
  method: 'get',
  path: '/v1/events',
  operationId: 'watchEvents',
  summary: 'What becomes of tasks, as it happens',
  tags: ['events'],
  request: {
    query: z.object({ queue: QueueName.optional(), task: z.string().min(1).max(LIMITS.taskIdBytesMax).optional() }),
    headers: z.object({ 'last-event-id': z.string().optional() }),
  },
  responses: {
    200: {
      description: 'server-sent events: `event` is the type, `data` the event, `id` for Last-Event-ID',
      content: { 'text/event-stream': { schema: z.string() } },
    },
    ...problems,
  },
});

const HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store, no-transform',
  // A proxy that gathers an answer before it passes it on would hold events back.
  'x-accel-buffering': 'no',
};

export function eventRoutes(world: Served): HttpApp {
  const { access, broker, clock, showPayloads, onStop } = world;
  const hub = new EventHub(broker, { clock, random: new SystemRandom() }, showPayloads ? (event) => event : shownEvent);
  onStop(async () => hub.stop());
  const app = newApp();
  app.openapi(events, async (c) => {
    const { queue, task } = c.req.valid('query');
    if (queue !== undefined && task !== undefined) {
      const message = 'events are those of a queue or of a task, not both: a task is in one queue';
      throw new MillraceError('INVALID_ARGUMENT', message);
    }
    const rights = await Rights.of(c, world);
    if (task === undefined) rights.queue(['read'], queue);
    else await rights.taskHere(['read'], task);
    const stream = await hub.open({ queue, task }, rights.grant, c.req.header('last-event-id'));
    // Whoever may still watch comes back.
    stream.onEnded(access.keyring.onRevoked(rights.grant, () => stream.end()));
    c.set('isStream', true);
    return new Response(stream.text, { headers: HEADERS });
  });
  return app;
}

/** What a handler has written, in errors and as progress, may tell of payloads. */
function shownEvent(event: TaskEvent): TaskEvent {
  switch (event.type) {
    case 'progress':
      return { ...event, progress: { value: null } };
    case 'failed':
    case 'dead':
      return { ...event, error: withoutTexts(event.error) };
    default:
      return event;
  }
}
