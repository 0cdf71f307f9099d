import { z } from '@hono/zod-openapi';
import { LIMITS } from '../limits.ts';

/** How long a request may wait, as a query parameter. */
export function waitMs() {
  return z.coerce
    .number()
    .int()
    .min(0)
    .max(LIMITS.httpWaitMsMax)
    .default(0)
    .openapi({ description: `milliseconds, at most ${LIMITS.httpWaitMsMax}` });
}
