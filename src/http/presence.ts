import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';

/**
 * Aborted when whoever asked goes away before the system has taken the whole answer. The signal of a request does not tell of
 * a connection that breaks while an answer waits to be sent: its response ends as one that was sent does.
 */
export function presenceOf(c: Context): AbortSignal {
  const { incoming, outgoing } = c.env as Partial<HttpBindings>;
  if (incoming === undefined || outgoing === undefined) return c.req.raw.signal;
  const { socket } = incoming;
  const gone = new AbortController();
  if (socket.destroyed) gone.abort();
  let isTaken = false;
  outgoing.once('finish', () => {
    isTaken = !socket.destroyed && socket.errored === null;
  });
  outgoing.once('close', () => {
    if (!isTaken) gone.abort();
  });
  return gone.signal;
}
