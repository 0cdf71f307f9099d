import type { MiddlewareHandler } from 'hono';
import { MillraceError, shown } from '../errors.ts';

/**
 * A body of another type would pass for none, and what it says would be lost: a result, for example. Clients that are given a
 * body and no type send it as a form.
 */
export const jsonOnly: MiddlewareHandler = async (c, next) => {
  const { headers } = c.req.raw;
  const hasBody = headers.has('transfer-encoding') || (headers.get('content-length') ?? '0') !== '0';
  const type = headers.get('content-type');
  if (hasBody && !/^\s*application\/([^;]+\+)?json\s*(;|$)/i.test(type ?? '')) {
    const message = `the body is of the type ${shown(type ?? '')}: send it with the header content-type: application/json`;
    throw new MillraceError('INVALID_ARGUMENT', message);
  }
  await next();
};
