import type { ConsumeMessage } from 'amqplib';
import { MillraceError } from '../../errors.ts';
import type { Clock } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import { parseTaskError } from '../../protocol/task-error.ts';
import type { Outcome } from '../contract.ts';
import { SharedSignals } from '../shared-signals.ts';
import { DeadlineTimer } from '../tcp/deadlines.ts';
import { decodeUtf8, parseObject } from './message.ts';

/**
 * The ends of a client's tasks, and those who wait for them. Replies come to the client's own queue, asked for or not:
 * what nobody waits for yet is kept, within bounds.
 */
interface Wait {
  readonly id: string;
  readonly timeoutMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Stands for any, where only that there is one matters. */
const CANCELLED: Outcome = { state: 'cancelled' };

interface Kept {
  readonly outcome: Outcome;
  readonly bytes: number;
}

export class Replies {
  /** Ends that said nothing legible. */
  unreadable = 0;
  /** Ends that nobody had asked for when later ones needed their room; with a store, which still knows them, none. */
  forgotten = 0;
  readonly #clock: Clock;
  readonly #deadlines: DeadlineTimer;
  readonly #waits = new Map<string, Set<Wait>>();
  readonly #signals = new SharedSignals<Wait>((wait, reason) => this.#giveUp(wait, reason));
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;
  #count = 0;
  #closed: MillraceError | undefined;

  /** A store is asked instead: it knows what was made ready again, and what is retained. */
  readonly #hasStore: boolean;

  constructor(clock: Clock, hasStore: boolean) {
    this.#clock = clock;
    this.#hasStore = hasStore;
    this.#deadlines = new DeadlineTimer(clock, (nowMs) => this.#due(nowMs));
  }

  /** Whether a reply told of an end before anybody asked. */
  hasEnded(id: string): boolean {
    return this.#kept.has(id);
  }

  isWaiting(id: string): boolean {
    return this.#waits.has(id);
  }

  outcome(
    id: string,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal | undefined },
  ): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      signal?.throwIfAborted();
      const kept = this.#kept.get(id);
      if (kept !== undefined && !this.#hasStore) {
        resolve(kept.outcome);
        return;
      }
      if (this.#count >= LIMITS.resultWaitersPerConnectionMax) throw tooMany();
      const deadlineMs = this.#clock.steadyMs() + timeoutMs;
      const wait: Wait = { id, timeoutMs, deadlineMs, signal, resolve, reject };
      this.#count++;
      if (signal !== undefined) this.#signals.listen(signal, wait);
      const others = this.#waits.get(id);
      if (others === undefined) this.#waits.set(id, new Set([wait]));
      else others.add(wait);
      this.#deadlines.need(deadlineMs);
    });
  }

  /** A reply message: any number of outcomes. */
  arrived({ content }: ConsumeMessage): void {
    const text = decodeUtf8(content);
    const outcomes = text === undefined ? undefined : parseObject(text)?.outcomes;
    if (!Array.isArray(outcomes)) {
      this.unreadable++;
      return;
    }
    for (const each of outcomes) {
      const read = readSafely(each);
      if (read === undefined) this.unreadable++;
      else this.ended(read.id, read.outcome);
    }
  }

  /** Tells those who wait, and keeps it for those who will. */
  ended(id: string, outcome: Outcome): void {
    const waits = this.#waits.get(id);
    if (waits !== undefined) {
      this.#waits.delete(id);
      for (const wait of waits) {
        this.#forget(wait);
        wait.resolve(outcome);
      }
    }
    // It comes a second time when it was sent again, or when the store was asked before the reply came.
    if (!this.#kept.has(id)) this.#keep(id, outcome);
  }

  /** It is not going to be known. */
  failed(id: string, error: MillraceError): void {
    for (const wait of this.#waits.get(id) ?? []) this.#giveUp(wait, error);
  }

  /** A task runs again: what was known of its end holds no more. */
  reopen(ids: readonly string[]): void {
    for (const id of ids) this.#drop(id);
  }

  close(error: MillraceError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#deadlines.cancel();
    for (const waits of this.#waits.values()) for (const wait of waits) this.#giveUp(wait, error);
  }

  #keep(id: string, outcome: Outcome): void {
    const bytes = this.#hasStore ? 0 : sizeOf(outcome);
    this.#kept.set(id, { outcome: this.#hasStore ? CANCELLED : outcome, bytes });
    this.#keptBytes += bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= LIMITS.amqpOutcomesKeptMax && this.#keptBytes <= LIMITS.amqpOutcomesKeptBytesMax) return;
      this.#drop(oldest);
      if (!this.#hasStore) this.forgotten++;
    }
  }

  #drop(id: string): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    this.#kept.delete(id);
    this.#keptBytes -= kept.bytes;
  }

  #giveUp(wait: Wait, reason: unknown): void {
    const waits = this.#waits.get(wait.id);
    if (waits?.delete(wait) !== true) return;
    if (waits.size === 0) this.#waits.delete(wait.id);
    this.#forget(wait);
    wait.reject(reason);
  }

  #forget(wait: Wait): void {
    this.#count--;
    if (wait.signal !== undefined) this.#signals.forget(wait.signal, wait);
  }

  #due(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const waits of this.#waits.values()) {
      for (const wait of waits) {
        if (wait.deadlineMs > nowMs) nextMs = Math.min(nextMs, wait.deadlineMs);
        else this.#giveUp(wait, timeout(wait));
      }
    }
    // With very many waits the sweep runs less often than their deadlines come.
    return Math.max(nextMs, nowMs + this.#count / 1000);
  }
}

// ── The reply message ───────────────────────────────────────────────────────────────────────────────────────────────

/** The AMQP property `type` of a reply. */
export const REPLY_TYPE = 'millrace.outcomes';

/** One outcome as text: `{"id":"…","state":"completed","attempt":1,"result":…}`. */
export function writeOutcome(id: string, attempt: number, outcome: Outcome, resultText: string | undefined): string {
  const start = `{"id":${JSON.stringify(id)},"state":"${outcome.state}","attempt":${attempt}`;
  switch (outcome.state) {
    case 'completed': {
      if (resultText !== undefined) return `${start},"result":${resultText}}`;
      if (outcome.result === undefined) return `${start}}`;
      return `${start},"resultEncoding":"base64","result":"${Buffer.from(outcome.result).toString('base64')}"}`;
    }
    case 'dead':
      return `${start},"error":${JSON.stringify(outcome.error)}}`;
    case 'cancelled':
      return `${start}}`;
    default:
      return outcome satisfies never;
  }
}

export function writeReply(outcomes: readonly string[]): Buffer {
  return Buffer.from(`{"outcomes":[${outcomes.join(',')}]}`);
}

/** Anybody may send something to a reply queue. */
function readSafely(value: unknown): ReturnType<typeof readOutcome> {
  try {
    return readOutcome(value);
  } catch {
    // Nested too deeply to be written again, for one; it is counted as unreadable.
    return undefined;
  }
}

function readOutcome(value: unknown): { id: string; outcome: Outcome } | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, state, result, resultEncoding, error } = value as Record<string, unknown>;
  if (typeof id !== 'string') return undefined;
  switch (state) {
    case 'completed':
      return { id, outcome: { state, result: resultOf(result, resultEncoding) } };
    case 'dead':
      return { id, outcome: { state, error: parseTaskError(Buffer.from(JSON.stringify(error ?? null))) } };
    case 'cancelled':
      return { id, outcome: { state } };
    default:
      return undefined;
  }
}

function resultOf(result: unknown, encoding: unknown): Uint8Array | undefined {
  if (result === undefined) return undefined;
  if (encoding === 'base64') {
    if (typeof result !== 'string') throw new MillraceError('INVALID_PAYLOAD', 'a result in base64 must be text');
    return Buffer.from(result, 'base64');
  }
  return Buffer.from(JSON.stringify(result));
}

function sizeOf(outcome: Outcome): number {
  if (outcome.state === 'completed') return 200 + (outcome.result?.length ?? 0);
  if (outcome.state === 'dead') return 300 + outcome.error.message.length + (outcome.error.stack?.length ?? 0);
  return 200;
}

function timeout({ id, timeoutMs }: Wait): MillraceError {
  return new MillraceError(
    'TIMEOUT',
    `task ${id} did not end within ${timeoutMs} ms: it goes on, and its result can be asked for again`,
    { details: { id, timeoutMs } },
  );
}

function tooMany(): MillraceError {
  const bound = LIMITS.resultWaitersPerConnectionMax;
  return new MillraceError(
    'BUFFER_FULL',
    `${bound} results are being waited for; no more may be: await some of them first`,
    { details: { bound } },
  );
}
