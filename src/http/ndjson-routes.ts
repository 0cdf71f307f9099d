import type { Context, Next } from 'hono';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { type HttpApp, type HttpEnv, type HttpWorld, newApp, parseAs } from './context.ts';
import { NdjsonStream } from './ndjson-stream.ts';
import { enqueueNew, NewTask, parentIdsOf } from './new-task.ts';
import { Rights } from './rights.ts';

export const NDJSON_TYPE = 'application/x-ndjson';

/** Tasks that come as lines. Goes before the routes for tasks: what is of another type is theirs. */
export function ndjsonRoutes({ access, broker, client, onStop }: HttpWorld): HttpApp {
  const streams = new Set<NdjsonStream>();
  onStop(async () => {
    for (const stream of streams) stream.stop();
  });
  const app = newApp();
  app.post('/v1/tasks', async (c: Context<HttpEnv>, next: Next) => {
    if (!isNdjson(c.req.header('content-type'))) return await next();
    if (streams.size >= LIMITS.ndjsonStreamsMax) {
      const bound = LIMITS.ndjsonStreamsMax;
      const message = `${bound} streams of tasks are open, as many as may be: send an array, or ask again in a while`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    const body = c.req.raw.body ?? emptyBody();
    const rights = new Rights(c, broker);
    let revocation: MillraceError | undefined;
    // A stream may have no end: its credentials may.
    const forget = access.keyring.onReplaced(() => {
      revocation ??= access.keyring.revocation(rights.grant);
    });
    const stream = new NdjsonStream(body, (value, text) => {
      if (revocation !== undefined) throw revocation;
      const task = parseAs(NewTask, value);
      if (rights.grant.ofAllQueues) return enqueueNew(client, task, text);
      return rights.enqueue([task], parentIdsOf(task)).then(() => enqueueNew(client, task, text));
    });
    streams.add(stream);
    void stream.ended.then(() => {
      streams.delete(stream);
      forget();
    });
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
