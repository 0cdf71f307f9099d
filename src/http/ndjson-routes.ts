import type { Context, Next } from 'hono';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { type HttpApp, type HttpWorld, newApp, parseAs } from './context.ts';
import { NdjsonStream } from './ndjson-stream.ts';
import { enqueueNew, NewTask } from './new-task.ts';

export const NDJSON_TYPE = 'application/x-ndjson';

/** Tasks that come as lines. Goes before the routes for tasks: what is of another type is theirs. */
export function ndjsonRoutes({ client, onStop }: HttpWorld): HttpApp {
  const streams = new Set<NdjsonStream>();
  onStop(async () => {
    for (const stream of streams) stream.stop();
  });
  const app = newApp();
  app.post('/v1/tasks', async (c: Context, next: Next) => {
    if (!isNdjson(c.req.header('content-type'))) return await next();
    if (streams.size >= LIMITS.ndjsonStreamsMax) {
      const bound = LIMITS.ndjsonStreamsMax;
      const message = `${bound} streams of tasks are open, as many as may be: send an array, or ask again in a while`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    const body = c.req.raw.body ?? emptyBody();
    const stream = new NdjsonStream(body, (value, text) => enqueueNew(client, parseAs(NewTask, value), text));
    streams.add(stream);
    void stream.ended.then(() => streams.delete(stream));
    return new Response(stream.answers, { headers: { 'content-type': NDJSON_TYPE, 'cache-control': 'no-store' } });
  });
  return app;
}

export function isNdjson(contentType: string | undefined): boolean {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase() === NDJSON_TYPE;
}

function emptyBody(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}
