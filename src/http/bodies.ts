import type { HttpBindings } from '@hono/node-server';
import type { MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { Pool } from '../access/share.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { HttpEnv } from './context.ts';
import { isNdjson, NDJSON_TYPE } from './ndjson-routes.ts';

/** What bodies may take, each and all that are being worked on, and how long. A stream of lines has limits of its own. */
export function limitBodies(
  { timeoutMs } = { timeoutMs: LIMITS.httpBodyTimeoutMs as number },
): MiddlewareHandler<HttpEnv> {
  const bodies = new Pool(LIMITS.httpBodiesBytesMax);
  const limit = bodyLimit({
    maxSize: LIMITS.httpBodyBytesMax,
    onError: () => {
      const message = `the body is over ${LIMITS.httpBodyBytesMax} bytes: send fewer tasks in one, or a stream of lines (${NDJSON_TYPE})`;
      throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bound: LIMITS.httpBodyBytesMax } });
    },
  });
  return async (c, next) => {
    if (isNdjson(c.req.header('content-type'))) return next();
    const bytes = bytesOf(c.req.raw.headers);
    if (bytes === 0) return next();
    const grant = c.get('grant');
    const shortage = bodies.shortage(grant, bytes);
    if (shortage !== undefined) {
      const { taken, bound, by } = shortage;
      const message = `the requests that are being answered${by} have ${taken} bytes, and this one's ${bytes} are too many (${bound}): try again later`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    bodies.take(grant, bytes);
    const { incoming } = c.env as Partial<HttpBindings>;
    const timer = setTimeout(() => {
      if (incoming?.complete === false) incoming.destroy();
    }, timeoutMs);
    timer.unref();
    try {
      return await limit(c, next);
    } catch (error) {
      if (incoming?.destroyed !== true || incoming.complete) throw error;
      throw new MillraceError('CLOSED', 'the connection ended before the body was whole', { cause: error });
    } finally {
      clearTimeout(timer);
      bodies.give(grant, bytes);
    }
  };
}

/** As many as may come when nobody has said how many will. */
function bytesOf(headers: Headers): number {
  const bytes = headers.has('transfer-encoding') ? LIMITS.httpBodyBytesMax : Number(headers.get('content-length') ?? 0);
  return Math.min(bytes, LIMITS.httpBodyBytesMax);
}
