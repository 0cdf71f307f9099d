import { errorFromJSON, MillraceError } from '../../errors.ts';
import { formatTaskId, parseTaskId, type TaskNumber } from '../../ids.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { FRAME, readJson } from '../../protocol/frames.ts';
import { RESULT_STATE, readResults } from '../../protocol/settlement.ts';
import { parseTaskError } from '../../protocol/task-error.ts';
import type { Outcome } from '../contract.ts';
import { SharedSignals } from '../shared-signals.ts';
import type { Connection } from './connection.ts';
import { DeadlineTimer } from './deadlines.ts';

/** Waits for the ends of tasks. The server is asked once for each task, and again after a reconnect. */
interface Wait {
  readonly id: TaskNumber;
  readonly timeoutMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** With very many waits the sweep runs less often than their deadlines come: once in so many milliseconds for each thousand. */
const SWEEP_MS_PER_THOUSAND = 1;

export class Waits {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #deadlines: DeadlineTimer;
  readonly #waits = new Map<TaskNumber, Set<Wait>>();
  readonly #signals = new SharedSignals<Wait>((wait, reason) => this.#giveUp(wait, reason));
  #count = 0;
  /** Asked for, or given up, in this turn. */
  #asked: TaskNumber[] = [];
  #dropped: TaskNumber[] = [];
  #flushing = false;
  #closed: MillraceError | undefined;

  constructor(clock: Clock, connection: Connection) {
    this.#clock = clock;
    this.#connection = connection;
    this.#deadlines = new DeadlineTimer(clock, (nowMs) => this.#due(nowMs));
  }

  outcome(idText: string, options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const id = parseTaskId(idText);
      const { timeoutMs, signal } = options;
      if (this.#closed !== undefined) throw this.#closed;
      signal?.throwIfAborted();
      if (this.#count >= LIMITS.resultWaitersPerConnectionMax) throw tooMany();
      const wait: Wait = {
        id,
        timeoutMs,
        deadlineMs: this.#clock.steadyMs() + timeoutMs,
        signal,
        resolve,
        reject,
      };
      if (signal !== undefined) this.#signals.listen(signal, wait);
      this.#deadlines.need(wait.deadlineMs);
      this.#add(wait);
    });
  }

  /** The connection is new: it knows of no wait. */
  ready(): void {
    this.#asked = [...this.#waits.keys()];
    this.#dropped = [];
    this.#flush();
  }

  results(buffer: Buffer, start: number, end: number): void {
    readResults(buffer, start, end, (id, state, bytesStart, bytesEnd) => {
      const waits = this.#waits.get(id);
      // Given up while the answer was on its way.
      if (waits === undefined) return;
      const outcome = readOutcome(id, state, buffer, bytesStart, bytesEnd);
      this.#waits.delete(id);
      for (const wait of waits) {
        this.#forget(wait);
        if (outcome instanceof MillraceError) wait.reject(outcome);
        else wait.resolve(outcome);
      }
    });
  }

  /** Rejects everything that waits, and everything later, with `error`. */
  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#deadlines.cancel();
    for (const waits of this.#waits.values()) {
      for (const wait of waits) {
        this.#forget(wait);
        wait.reject(error);
      }
    }
    this.#waits.clear();
  }

  #add(wait: Wait): void {
    this.#count++;
    const others = this.#waits.get(wait.id);
    if (others !== undefined) {
      others.add(wait);
      return;
    }
    this.#waits.set(wait.id, new Set([wait]));
    this.#asked.push(wait.id);
    this.#schedule();
  }

  #giveUp(wait: Wait, reason: unknown): void {
    const waits = this.#waits.get(wait.id);
    if (waits?.delete(wait) !== true) return;
    if (waits.size === 0) {
      this.#waits.delete(wait.id);
      this.#dropped.push(wait.id);
      this.#schedule();
    }
    this.#forget(wait);
    wait.reject(reason);
  }

  #forget(wait: Wait): void {
    this.#count--;
    if (wait.signal !== undefined) this.#signals.forget(wait.signal, wait);
  }

  #schedule(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.defer(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (!this.#connection.ready) return;
    // Dropped first: a task that was given up and asked for again in one turn stays asked for.
    this.#list(FRAME.UNWAIT, this.#dropped);
    this.#list(
      FRAME.WAIT,
      this.#asked.filter((id) => this.#waits.has(id)),
    );
    this.#asked = [];
    this.#dropped = [];
  }

  #list(type: number, ids: readonly TaskNumber[]): void {
    if (ids.length === 0) return;
    const { writer } = this.#connection;
    writer.begin(type, type === FRAME.WAIT ? this.#connection.nextRequestId() : 0);
    for (const id of ids) writer.u64(id);
    writer.end();
  }

  #due(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const waits of this.#waits.values()) {
      for (const wait of waits) {
        if (wait.deadlineMs > nowMs) nextMs = Math.min(nextMs, wait.deadlineMs);
        else this.#giveUp(wait, timeout(wait));
      }
    }
    return Math.max(nextMs, nowMs + (this.#count / 1000) * SWEEP_MS_PER_THOUSAND);
  }
}

function readOutcome(
  id: TaskNumber,
  state: number,
  buffer: Buffer,
  start: number,
  end: number,
): Outcome | MillraceError {
  switch (state) {
    case RESULT_STATE.COMPLETED:
      return { state: 'completed', result: Buffer.from(buffer.subarray(start, end)) };
    case RESULT_STATE.COMPLETED_EMPTY:
      return { state: 'completed', result: undefined };
    case RESULT_STATE.DEAD:
      return { state: 'dead', error: parseTaskError(buffer.subarray(start, end)) };
    case RESULT_STATE.CANCELLED:
      return { state: 'cancelled' };
    case RESULT_STATE.UNREADABLE:
      return readUnreadable(buffer, start, end);
    default:
      return notFound(id);
  }
}

/** One outcome that says nothing legible is the end of its own waits only. */
function readUnreadable(buffer: Buffer, start: number, end: number): MillraceError {
  try {
    return errorFromJSON(readJson(buffer, start, end));
  } catch (error) {
    if (error instanceof MillraceError) return error;
    throw error;
  }
}

function notFound(id: TaskNumber): MillraceError {
  const text = formatTaskId(id);
  return new MillraceError(
    'NOT_FOUND',
    `task ${text} is not known: it never existed, or it ended and is no longer retained (raise the queue's retention)`,
    { details: { id: text } },
  );
}

function timeout(wait: Wait): MillraceError {
  const id = formatTaskId(wait.id);
  return new MillraceError(
    'TIMEOUT',
    `task ${id} did not end within ${wait.timeoutMs} ms: it goes on, and its result can be asked for again`,
    { details: { id, timeoutMs: wait.timeoutMs } },
  );
}

function tooMany(): MillraceError {
  const bound = LIMITS.resultWaitersPerConnectionMax;
  return new MillraceError(
    'BUFFER_FULL',
    `${bound} results are being waited for; no more may be: await some of them first`,
    {
      details: { bound },
    },
  );
}
