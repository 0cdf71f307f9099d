import type { EventFilter } from '../broker/contract.ts';
import { type EventRing, eventOf, type RingReader } from './event-ring.ts';

/** One chunk is ended soon after it has grown beyond this. */
const CHUNK_CHARACTERS = 64 * 1024;

/** How soon a client whose stream has ended should come back. */
const RETRY_MS = 2000;

/** What a stream needs of the hub. */
export interface StreamOwner {
  readonly ring: EventRing;
  /** Begins the ids of all events, and is another one when what was before is not known. */
  readonly epoch: string;
  left(stream: EventStream): void;
}

/**
 * Events as a client reads them (`text/event-stream`). It holds none: it reads the hub's ring as fast as its client reads it,
 * and tells what has gone from there before.
 */
export class EventStream implements RingReader {
  readonly filter: EventFilter;
  readonly text: ReadableStream<Uint8Array>;
  next: number;
  dropped: number | null = 0;
  readonly #owner: StreamOwner;
  #greeting = true;
  #heartbeat = false;
  #isOver = false;
  readonly #onEnded: (() => void)[] = [];
  #wake: (() => void) | undefined;

  constructor(owner: StreamOwner, filter: EventFilter, lastEventId: string | undefined) {
    this.#owner = owner;
    this.filter = filter;
    this.next = owner.ring.end;
    if (lastEventId !== undefined) this.#resume(lastEventId);
    this.text = new ReadableStream<Uint8Array>(
      { pull: (controller) => this.#pull(controller), cancel: () => this.end() },
      { highWaterMark: 0 },
    );
  }

  /** There is something new in the ring. */
  wake(): void {
    this.#wake?.();
  }

  /** Says that it lives, if it has nothing else to say. */
  beat(): void {
    this.#heartbeat = true;
    this.wake();
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#owner.left(this);
    for (const ended of this.#onEnded.splice(0)) ended();
    this.wake();
  }

  /** Calls back once, at once when it is over already. */
  onEnded(callback: () => void): void {
    if (this.#isOver) callback();
    else this.#onEnded.push(callback);
  }

  /** What cannot be said is what was missed by somebody who wants only some of the events. */
  #resume(lastEventId: string): void {
    const { ring, epoch } = this.#owner;
    const [known, digits = ''] = lastEventId.split(/-(\d{1,15})$/);
    const last = digits === '' ? Number.POSITIVE_INFINITY : Number(digits);
    if (known !== epoch || last >= ring.end) {
      this.dropped = null;
      return;
    }
    this.next = Math.max(last + 1, ring.start);
    const missed = this.next - (last + 1);
    const isAll = this.filter.queue === undefined && this.filter.task === undefined;
    this.dropped = missed > 0 && !isAll ? null : missed;
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (;;) {
      const text = this.#isOver ? '' : this.#read();
      if (text !== '') {
        controller.enqueue(Buffer.from(text));
        return;
      }
      if (this.#isOver) {
        controller.close();
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #read(): string {
    let text = '';
    if (this.#greeting) {
      this.#greeting = false;
      text = `retry: ${RETRY_MS}\n${this.#id(this.next - 1)}\n`;
    }
    for (;;) {
      if (this.dropped !== 0) {
        text += `event: dropped\n${this.#id(this.next - 1)}data: ${JSON.stringify({ type: 'dropped', count: this.dropped })}\n\n`;
        this.dropped = 0;
      }
      const entry = this.#owner.ring.at(this.next);
      if (entry === undefined || text.length > CHUNK_CHARACTERS) break;
      const mine = eventOf(entry, this);
      if (mine === undefined) {
        this.next = entry.sequence + entry.count;
        continue;
      }
      this.next = entry.sequence + mine.told + 1;
      text += `event: ${entry.event.type}\n${this.#id(this.next - 1)}data: ${mine.text}\n\n`;
    }
    if (this.#heartbeat && text === '') text = `: alive\n${this.#id(this.next - 1)}\n`;
    this.#heartbeat = false;
    return text;
  }

  #id(sequence: number): string {
    return `id: ${this.#owner.epoch}-${sequence}\n`;
  }
}
