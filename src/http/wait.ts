import { z } from '@hono/zod-openapi';
import type { Grant } from '../access/grant.ts';
import type { Keyring } from '../access/keyring.ts';
import { MillraceError } from '../errors.ts';
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

/**
 * Requests that wait for something to happen. Each ends when its client goes away or his credentials are taken back, and all
 * when the server stops.
 */
export class OpenWaits {
  readonly #keyring: Keyring;
  readonly #open = new Set<AbortController>();
  #isStopped = false;

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
  }

  /** Rejects like `wait`, and with STOPPING, UNAUTHENTICATED, FORBIDDEN. `gone`: aborted when the client goes away. */
  async run<T>(
    { gone, grant }: { gone: AbortSignal; grant: Grant },
    wait: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const ending = new AbortController();
    const leave = (): void => ending.abort(new MillraceError('CLOSED', 'whoever waited has gone away'));
    if (this.#isStopped) ending.abort(stopping());
    else if (gone.aborted) leave();
    gone.addEventListener('abort', leave, { once: true });
    this.#open.add(ending);
    const forget = this.#keyring.onRevoked(grant, (reason) => ending.abort(reason));
    try {
      return await wait(ending.signal);
    } finally {
      forget();
      this.#open.delete(ending);
      gone.removeEventListener('abort', leave);
    }
  }

  stop(): void {
    this.#isStopped = true;
    for (const ending of this.#open) ending.abort(stopping());
  }
}

function stopping(): MillraceError {
  return new MillraceError('STOPPING', 'the server is stopping: ask again in a while');
}
