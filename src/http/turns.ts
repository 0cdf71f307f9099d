import type { Socket } from 'node:net';
import type { HttpBindings } from '@hono/node-server';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { problemResponse } from './problem.ts';

/**
 * Requests of one connection are worked on one after the other. What is sent ahead of the answer to an earlier one (pipelining)
 * waits until that is sent: Node has no socket for its response before, and tells it nothing of a connection that ends, so what
 * it had taken by then (a stream, a wait, a lease) would be taken for ever.
 */
export class Turns {
  /** Ends the wait of each. */
  readonly #waiting = new WeakMap<Socket, Set<() => void>>();

  /** Answers with `work` when it is the request's turn, or that too many wait for theirs. */
  take(
    { incoming: { socket }, outgoing }: HttpBindings,
    work: () => Response | Promise<Response>,
  ): Response | Promise<Response> {
    if (outgoing.socket !== null) return work();
    const waiting = this.#waitingOn(socket);
    if (waiting.size >= LIMITS.httpPipelinedMax) return tooMany();
    return new Promise<boolean>((resolve) => {
      const leave = (): void => resolve(false);
      waiting.add(leave);
      outgoing.once('socket', () => {
        waiting.delete(leave);
        resolve(true);
      });
      if (socket.destroyed) leave();
      // Nobody is left who would get an answer.
    }).then((isTurn) => (isTurn ? work() : new Response(null, { status: 503 })));
  }

  #waitingOn(socket: Socket): Set<() => void> {
    const known = this.#waiting.get(socket);
    if (known !== undefined) return known;
    const waiting = new Set<() => void>();
    this.#waiting.set(socket, waiting);
    socket.once('close', () => {
      for (const leave of waiting) leave();
    });
    return waiting;
  }
}

function tooMany(): Response {
  const bound = LIMITS.httpPipelinedMax;
  const message = `${bound} requests of this connection wait for the answer to an earlier one: await answers, or open another connection`;
  const response = problemResponse(new MillraceError('CONNECTION_LIMIT', message, { details: { bound } }));
  response.headers.set('connection', 'close');
  return response;
}
