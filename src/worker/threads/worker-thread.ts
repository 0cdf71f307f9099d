import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import { errorFromJSON, MillraceError } from '../../errors.ts';
import { type SystemClock, setPatientTimer } from '../../io/clock.ts';
import { LIMITS } from '../../limits.ts';
import type { KeyRing } from '../../sealing/key-ring.ts';
import type { HandlerKind } from '../options.ts';
import { clockBaseMs } from './clock.ts';
import { HeldTasks } from './held-tasks.ts';
import { Marks } from './marks.ts';
import type { FromThread, Report, Session, ToThread } from './messages.ts';

/** What a thread tells its worker. */
export interface ThreadListener {
  reported(thread: WorkerThread, report: Report): void;
  parents(thread: WorkerThread, call: number, id: string): void;
  warned(details: object, message: string): void;
  /** It ended though nobody had asked it to. */
  crashed(thread: WorkerThread, error: unknown): void;
}

export interface CallingHandler {
  /** The number of its first task. */
  readonly first: number;
  readonly length: number;
  readonly timeoutMs: number;
}

/** A handler that did not end at once. */
export interface RunningHandler extends CallingHandler {
  /** By the clock that the threads share. */
  readonly startedMs: number;
}

/**
 * One thread of the pool, as its worker sees it: a task of the pool that goes on for as long as the thread is used.
 *
 *   loading ──ready──▶ working ──close──▶ closing ──session ends──▶ over
 *      └── refused ────────┴── crashed, ended ───────────────────────▲
 */
export class WorkerThread {
  state: 'loading' | 'working' | 'closing' | 'over' = 'loading';
  /** Rejects with HANDLERS, or with what is wrong with the handlers. */
  readonly ready: Promise<readonly HandlerKind[]>;
  /** Resolves when it runs nothing any more. */
  readonly ended: Promise<void>;
  /** Handlers that run at the same time. */
  concurrency = 0;
  readonly held = new HeldTasks();
  /** By the number of the first task. */
  readonly running = new Map<number, RunningHandler>();
  readonly marks = new Marks();
  /** How far the worker knows that it has begun, and how far by its reports: a handler that began after it keeps the thread. */
  begun = 0;
  returned = 0;
  /** It may not know yet what was taken back: were it given more, that could not be told apart. */
  recalling = false;
  /** Since when it owes a word, if it does: a beginning, or that it knows what was taken back. */
  quietSinceMs = 0;
  readonly #port: MessagePort;
  readonly #listener: ThreadListener;
  readonly #terminate = new AbortController();
  #load!: { resolve: (handlers: readonly HandlerKind[]) => void; reject: (error: Error) => void };

  constructor(pool: Piscina, url: URL, clock: SystemClock, listener: ThreadListener) {
    this.#listener = listener;
    this.ready = new Promise((resolve, reject) => {
      this.#load = { resolve, reject };
    });
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.on('message', (message: FromThread) => this.#receive(message));
    // The pool keeps the process alive for as long as the session goes on.
    port1.unref();
    const session: Session = { url: url.href, port: port2, marks: this.marks.buffer, clockBaseMs: clockBaseMs(clock) };
    const { signal } = this.#terminate;
    this.ended = pool.run(session, { transferList: [port2], signal }).then(
      () => this.#over(new Error('its session ended')),
      (error: unknown) => this.#over(error),
    );
    const loading = setPatientTimer(clock, LIMITS.threadStartMs, () => {
      const message = `the module of handlers did not load within ${LIMITS.threadStartMs} ms: ${url.href}`;
      this.#load.reject(new MillraceError('HANDLERS', message));
      this.terminate();
    });
    this.ready.then(
      () => loading.cancel(),
      () => loading.cancel(),
    );
  }

  work(concurrency: number, keyRing: KeyRing | undefined): void {
    this.concurrency = concurrency;
    this.tell({ type: 'work', concurrency, keyRing });
  }

  /** The handler that has begun last and did not return yet, as far as is known; it keeps the thread. */
  get calling(): CallingHandler | undefined {
    if (this.begun <= this.returned) return undefined;
    const { length } = this.marks;
    const timeoutMs = this.held.find(this.begun)?.run.spec.timeoutMs;
    return timeoutMs === undefined ? undefined : { first: this.begun - length + 1, length, timeoutMs };
  }

  /** When the handler of a task began that has begun; by the clock that the threads share. */
  startOf(number: number, nowMs: number): number {
    for (const { first, length, startedMs } of this.running.values()) {
      if (number >= first && number < first + length) return startedMs;
    }
    return this.marks.startedMs(nowMs);
  }

  /** Whether it has something that it did not begin. */
  get hasWaiting(): boolean {
    return this.held.parcels.some(({ held, lastKept }) => held > 0 && lastKept > this.begun);
  }

  get isAwaited(): boolean {
    return this.recalling || this.hasWaiting;
  }

  /** Before it is given tasks, or told something that it is to confirm. */
  expect(nowMs: number): void {
    if (!this.isAwaited) this.quietSinceMs = nowMs;
  }

  /** Nothing begins that has not begun, whatever the thread does: it is to be taken out of `held`. */
  recall(nowMs: number): void {
    this.expect(nowMs);
    this.recalling = true;
    this.marks.recall();
    this.tell({ type: 'recalled', last: this.held.next - 1 });
  }

  tell(message: ToThread, transfer: readonly ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transfer);
  }

  /** Handles what it has said already. */
  drain(): void {
    for (let next = receiveMessageOnPort(this.#port); next !== undefined; next = receiveMessageOnPort(this.#port)) {
      this.#receive(next.message as FromThread);
    }
  }

  /** It ends by itself when what it runs has ended. */
  close(reason: MillraceError): void {
    if (this.state === 'closing') return;
    if (this.state === 'working') this.tell({ type: 'close', reason: { ...reason.toJSON(), details: {} } });
    else this.terminate();
    if (this.state !== 'over') this.state = 'closing';
  }

  /** At once, whatever it does. */
  terminate(): void {
    this.state = 'over';
    this.#terminate.abort();
    this.#port.close();
    this.#load.reject(new MillraceError('CLOSED', 'the thread was ended while it loaded the handlers'));
  }

  #receive(message: FromThread): void {
    switch (message.type) {
      case 'ready':
        if (this.state === 'loading') this.state = 'working';
        this.#load.resolve(message.handlers);
        return;
      case 'refused':
        this.#load.reject(errorFromJSON(message.error));
        return;
      case 'report':
        if (this.state !== 'over') this.#listener.reported(this, message);
        return;
      case 'parents':
        this.#listener.parents(this, message.call, message.id);
        return;
      case 'warn':
        this.#listener.warned(message.details, message.message);
        return;
      default:
        throw new Error(`a thread said ${JSON.stringify(message satisfies never)}`);
    }
  }

  #over(error: unknown): void {
    if (this.state === 'over') return;
    this.drain();
    const crashed = this.state === 'working';
    const reason = error instanceof Error ? error.message : String(error);
    // Changes nothing after a refusal, which has come before.
    this.#load.reject(
      new MillraceError('HANDLERS', `the thread ended while it loaded the handlers: ${reason}`, { cause: error }),
    );
    this.terminate();
    if (crashed) this.#listener.crashed(this, error);
  }
}

/** Whether a handler keeps it for longer than was thought when other tasks were given to it. */
export function isStuck(thread: WorkerThread, nowMs: number): boolean {
  return thread.calling !== undefined && nowMs - thread.marks.startedMs(nowMs) > LIMITS.threadStuckMs;
}

/** Whether something keeps it that is no handler's call: what one has left behind, or does after it has waited. */
export function isDeaf(thread: WorkerThread, nowMs: number, patienceMs: number = LIMITS.threadStuckMs): boolean {
  return thread.calling === undefined && thread.isAwaited && nowMs - thread.quietSinceMs > patienceMs;
}
