import type { Context, Next } from 'hono';
import { Pool } from '../access/share.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { type HttpApp, type HttpEnv, newApp, parseAs, type Served } from './context.ts';
import { NdjsonStream } from './ndjson-stream.ts';
import { enqueueNew, NewTask, parentIdsOf } from './new-task.ts';
import { Rights } from './rights.ts';

export const NDJSON_TYPE = 'application/x-ndjson';

/** Tasks that come as lines. Goes before the routes for tasks: what is of another type is theirs. */
export function ndjsonRoutes(world: Served): HttpApp {
  const { keyring } = world.access;
  const streams = new Set<NdjsonStream>();
  const pool = new Pool(LIMITS.ndjsonStreamsMax);
  world.onStop(async () => {
    for (const stream of streams) stream.stop();
  });
  const app = newApp();
  app.post('/v1/tasks', async (c: Context<HttpEnv>, next: Next) => {
    if (!isNdjson(c.req.header('content-type'))) return await next();
    const rights = await Rights.of(c, world);
    const { grant, client } = rights;
    const shortage = pool.shortage(grant);
    if (shortage !== undefined) {
      const { bound, by } = shortage;
      const message = `${bound} streams of tasks are open${by}, as many as may be: send an array, or ask again in a while`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    const stream = new NdjsonStream(c.req.raw.body ?? emptyBody(), (value, text) => {
      const task = parseAs(NewTask, value);
      if (grant.ofAllQueues) return enqueueNew(client, task, text);
      return rights.enqueue([task], parentIdsOf(task)).then(() => enqueueNew(client, task, text));
    });
    pool.take(grant);
    streams.add(stream);
    // A stream may have no end: its credentials may.
    const forget = keyring.onRevoked(grant, (reason) => stream.stop(reason));
    void stream.ended.then(() => {
      streams.delete(stream);
      pool.give(grant);
      forget();
    });
    c.set('isStream', true);
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
