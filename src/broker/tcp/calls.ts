import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { FRAME } from '../../protocol/frames.ts';
import type { Connection } from './connection.ts';
import { DeadlineTimer } from './deadlines.ts';

/**
 * CALLs of one client. One that was in flight when the connection was lost is made again on the next: every method reads,
 * or asks for a state and finds it reached the second time (a repeated cancel or retry can at worst answer CONFLICT, and a
 * repeated purge, redrive or removal counts only what the second one found), or carries a key that makes it one.
 */
interface Call {
  readonly method: string;
  readonly body: string;
  readonly deadlineMs: number;
  readonly resolve: (reply: Record<string, unknown>) => void;
  readonly reject: (error: MillraceError) => void;
}

export class Calls {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #deadlines: DeadlineTimer;
  /** By request id; those that wait for a connection have one too. */
  readonly #calls = new Map<number, Call>();
  #closed: MillraceError | undefined;

  constructor(clock: Clock, connection: Connection, timeoutMs: number) {
    this.#clock = clock;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
    this.#deadlines = new DeadlineTimer(clock, (nowMs) => this.#due(nowMs));
  }

  /** Rejects with the server's error, TIMEOUT, PAYLOAD_TOO_LARGE, BUFFER_FULL or what `close` was given. */
  call(method: string, params: object): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      const body = encode(method, params);
      checkRoom(method, body, this.#calls.size);
      const deadlineMs = this.#clock.steadyMs() + this.#timeoutMs;
      const requestId = this.#connection.nextRequestId();
      const call: Call = { method, body, deadlineMs, resolve, reject };
      this.#calls.set(requestId, call);
      this.#deadlines.need(deadlineMs);
      if (this.#connection.ready) this.#send(requestId, call);
    });
  }

  ready(): void {
    for (const [requestId, call] of this.#calls) this.#send(requestId, call);
  }

  replied(requestId: number, reply: Record<string, unknown>): void {
    const call = this.#calls.get(requestId);
    // Given up while the answer was on its way.
    if (call === undefined) return;
    this.#calls.delete(requestId);
    call.resolve(reply);
  }

  refused(requestId: number, error: MillraceError): void {
    const call = this.#calls.get(requestId);
    if (call === undefined) return;
    this.#calls.delete(requestId);
    call.reject(error);
  }

  /** Rejects everything that waits, and everything later, with `error`. */
  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#deadlines.cancel();
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }

  #send(requestId: number, call: Call): void {
    const { writer } = this.#connection;
    writer.begin(FRAME.CALL, requestId);
    writer.text(call.body);
    writer.end();
  }

  #due(nowMs: number): number {
    for (const [requestId, call] of this.#calls) {
      // They all have the same timeout, so the first is due first.
      if (call.deadlineMs > nowMs) return call.deadlineMs;
      this.#calls.delete(requestId);
      const state = this.#connection.ready ? 'the server did not answer' : 'there is no connection';
      const message = `${call.method} had no answer within ${this.#timeoutMs} ms (${state}): it may or may not have been done`;
      call.reject(
        new MillraceError('TIMEOUT', message, { details: { method: call.method, timeoutMs: this.#timeoutMs } }),
      );
    }
    return Number.POSITIVE_INFINITY;
  }
}

function encode(method: string, params: object): string {
  try {
    return JSON.stringify({ method, params });
  } catch (cause) {
    throw new MillraceError('INVALID_ARGUMENT', `the arguments of ${method} cannot be written as JSON`, { cause });
  }
}

function checkRoom(method: string, body: string, inFlight: number): void {
  const bytes = Buffer.byteLength(body);
  if (bytes > LIMITS.callBytesMax) {
    const message = `${method} takes ${bytes} bytes of arguments; at most ${LIMITS.callBytesMax} are allowed`;
    throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { bytes, bound: LIMITS.callBytesMax } });
  }
  if (inFlight < LIMITS.callsInFlightPerConnectionMax) return;
  const message = `${inFlight} calls have no answer yet; at most ${LIMITS.callsInFlightPerConnectionMax} may: await some of them first`;
  throw new MillraceError('BUFFER_FULL', message, { details: { bound: LIMITS.callsInFlightPerConnectionMax } });
}
