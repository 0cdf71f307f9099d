import { crc32 } from 'node:zlib';
import type { SimProcess } from './process.ts';

/**
 * The one thing that makes anything happen. Events wait in order of their time; one runs, with all promise reactions and
 * deferred callbacks that it leads to, then time jumps to the next. Nothing else decides what comes before what, so a run
 * is a function of the seed.
 *
 * The event loop of Node is used to empty the queue of promise reactions between two events, and for nothing else.
 */
export interface SimEvent {
  dueMs: number;
  readonly order: number;
  /** Undefined: the world's own, such as bytes that travel. */
  readonly process: SimProcess | undefined;
  readonly label: string;
  readonly run: () => void;
  cancelled: boolean;
}

/** A promise of the product was broken, or one of its processes ended in a way that it must not. */
export class Violation extends Error {
  override readonly name = 'Violation';
  /** What kind of promise, for the shrinker: it looks for the same kind. */
  readonly kind: string;

  constructor(kind: string, message: string, options?: ErrorOptions) {
    super(`${kind}: ${message}`, options);
    this.kind = kind;
  }
}

const TRACE_LINES = 400;
/** For a look at everything that happened. */
const TO_STDOUT = process.env.MILLRACE_SIM_TRACE === '1';

export class Scheduler {
  nowMs = 0;
  steps = 0;
  /** Called after each event, when everything that it led to is over. */
  afterEvent: () => void = () => {};
  readonly #heap: SimEvent[] = [];
  #order = 0;
  #hashLow = 0x2545f491;
  #hashHigh = 0x9e3779b9;
  readonly #trace: string[] = [];
  #traceAt = 0;
  #violation: Violation | undefined;
  #current: SimEvent | undefined;

  /** `process` undefined: whatever happens to the processes. */
  schedule(delayMs: number, process: SimProcess | undefined, label: string, run: () => void): SimEvent {
    return this.scheduleAt(this.nowMs + Math.max(delayMs, 0), process, label, run);
  }

  scheduleAt(dueMs: number, process: SimProcess | undefined, label: string, run: () => void): SimEvent {
    const event: SimEvent = { dueMs, order: this.#order++, process, label, run, cancelled: false };
    this.#push(event);
    return event;
  }

  /** The first violation stands; the run ends after the event. */
  violate(violation: Violation): void {
    if (this.#violation === undefined) this.note(`VIOLATION ${violation.message}`);
    this.#violation ??= violation;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** Goes into the fingerprint, and into the last lines that a failing run prints. */
  note(text: string): void {
    const line = `${this.nowMs.toFixed(3)} ${text}`;
    if (TO_STDOUT) console.log(line);
    this.#mix(crc32(line));
    this.#trace[this.#traceAt++ % TRACE_LINES] = line;
  }

  noteBytes(text: string, bytes: Uint8Array): void {
    this.note(`${text} ${bytes.length} bytes ${crc32(bytes).toString(16)}`);
  }

  /** Changes with everything that was noted, and its order. */
  get fingerprint(): string {
    return (this.#hashHigh >>> 0).toString(16).padStart(8, '0') + (this.#hashLow >>> 0).toString(16).padStart(8, '0');
  }

  lastLines(count: number): string[] {
    const lines: string[] = [];
    for (let at = Math.max(0, this.#traceAt - Math.min(count, TRACE_LINES)); at < this.#traceAt; at++) {
      lines.push(this.#trace[at % TRACE_LINES] as string);
    }
    return lines;
  }

  /** Runs events until `until` says so, none is left, or something was violated. */
  async run(until: () => boolean): Promise<void> {
    const rejected = (reason: unknown): void => this.#crashed(reason, 'a promise was rejected and nobody cared');
    process.on('unhandledRejection', rejected);
    try {
      while (this.#violation === undefined && !until()) {
        const event = this.#pop();
        if (event === undefined) return;
        if (event.cancelled || event.process?.alive === false) continue;
        if (this.#waitsForItsProcess(event)) continue;
        await this.#execute(event);
      }
    } finally {
      process.off('unhandledRejection', rejected);
    }
  }

  /** A process whose event loop is blocked reads, and runs its timers, when it is free again, in the order they came. */
  #waitsForItsProcess(event: SimEvent): boolean {
    const stalledUntilMs = event.process?.stalledUntilMs ?? 0;
    if (stalledUntilMs <= event.dueMs) return false;
    event.dueMs = stalledUntilMs;
    this.#push(event);
    return true;
  }

  async #execute(event: SimEvent): Promise<void> {
    this.nowMs = Math.max(this.nowMs, event.dueMs);
    this.steps++;
    this.#current = event;
    this.#mix(event.order);
    this.#guarded(event.run);
    await reactions();
    const { process: of } = event;
    while (of !== undefined && of.deferred.length > 0 && of.alive) {
      for (const callback of of.deferred.splice(0)) if (of.alive) this.#guarded(callback);
      await reactions();
    }
    this.#guarded(this.afterEvent);
    this.#current = undefined;
  }

  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (error instanceof Violation) this.violate(error);
      else this.#crashed(error, 'an exception ended the process');
    }
  }

  #crashed(reason: unknown, how: string): void {
    if (reason instanceof Violation) {
      this.violate(reason);
      return;
    }
    const where =
      this.#current === undefined ? '' : ` in ${this.#current.process?.name ?? 'the world'}, ${this.#current.label}`;
    this.violate(new Violation('process-crashed', `${how}${where}: ${describe(reason)}`, { cause: reason }));
  }

  #mix(value: number): void {
    this.#hashLow = Math.imul(this.#hashLow ^ value, 0x85ebca6b);
    this.#hashHigh = Math.imul(this.#hashHigh ^ (this.#hashLow >>> 13) ^ value, 0xc2b2ae35);
    this.#hashLow ^= this.#hashHigh >>> 16;
  }

  // ── A binary heap by time, then by order ──────────────────────────────────────────────────────────────────────────

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(heap[parent] as SimEvent, event)) break;
      heap[at] = heap[parent] as SimEvent;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): SimEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || last === first) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as SimEvent, heap[child] as SimEvent)) child++;
      if (isBefore(last, heap[child] as SimEvent)) break;
      heap[at] = heap[child] as SimEvent;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

/** Resolves when no promise reaction is left, and whoever ignores rejections has been told on. */
function reactions(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function describe(reason: unknown): string {
  if (!(reason instanceof Error)) return String(reason);
  const cause = reason.cause === undefined ? '' : `, because ${describe(reason.cause)}`;
  return `${reason.stack ?? reason.message}${cause}`;
}
