import { MillraceError, shown } from '../../errors.ts';
import { type Clock, setPatientTimer, type Timer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { FRAME } from '../../protocol/frames.ts';
import type { EventFilter, TaskEvent, Watcher } from '../contract.ts';
import { idIn } from './answers.ts';
import type { Connection } from './connection.ts';

/**
 * Event streams of one client.
 *
 *   asked ──REPLY──► live ──the connection is lost──► asked again ──REPLY──► live, after a gap
 *     └── timeout, refusal ──► over ◄── ended by whoever watches, or by the client's end
 */
interface Watch {
  readonly filter: EventFilter;
  readonly watcher: Watcher;
  /** Until it is live for the first time. */
  opening: { resolve: (end: () => void) => void; reject: (error: MillraceError) => void; timer: Timer } | undefined;
}

export class Watches {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  /** By the request id of the WATCH, which is another on each connection. */
  #watches = new Map<number, Watch>();
  #closed: MillraceError | undefined;

  constructor(clock: Clock, connection: Connection, timeoutMs: number) {
    this.#clock = clock;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  watch(filter: EventFilter, watcher: Watcher): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      const timer = setPatientTimer(this.#clock, this.#timeoutMs, () => {
        this.#end(watch);
        const message = `events could not be watched within ${this.#timeoutMs} ms: the server did not answer`;
        reject(new MillraceError('TIMEOUT', message, { details: { timeoutMs: this.#timeoutMs } }));
      });
      const watch: Watch = { filter, watcher, opening: { resolve, reject, timer } };
      this.#ask(watch);
    });
  }

  /** The connection is new: it knows of no watch. */
  ready(): void {
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    for (const watch of watches) this.#ask(watch);
  }

  /** Returns whether the REPLY was for a watch. */
  replied(requestId: number): boolean {
    const watch = this.#watches.get(requestId);
    if (watch === undefined) return false;
    const { opening } = watch;
    if (opening === undefined) watch.watcher.event({ type: 'dropped', count: null }, 1);
    else {
      watch.opening = undefined;
      opening.timer.cancel();
      opening.resolve(() => this.#end(watch));
    }
    return true;
  }

  /** Returns whether the ERROR was for a watch. */
  refused(requestId: number, error: MillraceError): boolean {
    const watch = this.#watches.get(requestId);
    if (watch === undefined) return false;
    this.#watches.delete(requestId);
    this.#fail(watch, error);
    return true;
  }

  events(requestId: number, message: Record<string, unknown>): void {
    const watch = this.#watches.get(requestId);
    // Ended while they were on their way.
    if (watch === undefined) return;
    const { events } = message;
    if (!Array.isArray(events)) throw new MillraceError('PROTOCOL', 'the server sent EVENTS without a list of them');
    for (const { event, count } of events.map(readEvent)) watch.watcher.event(event, count);
  }

  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    for (const watch of this.#watches.values()) this.#fail(watch, error);
    this.#watches.clear();
  }

  #fail(watch: Watch, error: MillraceError): void {
    watch.opening?.timer.cancel();
    if (watch.opening === undefined) watch.watcher.ended(error);
    else watch.opening.reject(error);
  }

  #ask(watch: Watch): void {
    const requestId = this.#connection.nextRequestId();
    this.#watches.set(requestId, watch);
    if (this.#connection.ready) this.#connection.writer.json(FRAME.WATCH, requestId, watch.filter);
  }

  #end(watch: Watch): void {
    for (const [requestId, each] of this.#watches) {
      if (each !== watch) continue;
      this.#watches.delete(requestId);
      if (this.#connection.ready) this.#connection.writer.json(FRAME.UNWATCH, 0, { watch: requestId });
    }
  }
}

/** What is done with an event is done for each of its tasks: how many these are must be a number. Throws PROTOCOL. */
function readEvent(given: unknown): { event: TaskEvent; count: number } {
  const isObject = typeof given === 'object' && given !== null;
  const { count = 1, ...event } = (isObject ? given : {}) as Record<string, unknown>;
  if (event.type === 'dropped') {
    if (count === null || isCount(count, Number.MAX_SAFE_INTEGER)) {
      return { event: { type: 'dropped', count }, count: 1 };
    }
  } else if (typeof event.type === 'string' && isCount(count, LIMITS.batchTasksMax)) {
    idIn('an event', event.id);
    return { event: event as unknown as TaskEvent, count };
  }
  throw new MillraceError(
    'PROTOCOL',
    `the server sent ${shown(given)} as an event, of the type ${shown(event.type)} with the count ${shown(count)}`,
  );
}

function isCount(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max;
}
