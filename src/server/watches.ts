import type { EventFilter, EventSink, Events } from '../engine/events.ts';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';

/** What is between the watches of a connection and its link. */
export interface WatchSink {
  /** How many more bytes the link may be given. */
  roomBytes(): number;
  /** Everything up to this sequence may be told. */
  durableSequence(): number;
  /** Writes an EVENTS frame. */
  send(watch: number, events: readonly string[]): void;
  /** Something waits: call `send` of the watches at the end of the turn. */
  waiting(): void;
}

const FRAME_CHARACTERS = 256 * 1024;
/** Events leave the rest of the link's room to answers and deliveries, which are not to be held up by them. */
const ROOM_LEFT_BYTES = LIMITS.sendBufferBytesMax / 2;

interface Entry {
  readonly text: string;
  readonly sequence: number;
}

/**
 * One stream of events, in the order in which they happened: one that need not wait for the disk waits for those before it
 * that do. A reader that does not keep up gets no more until half of what waits is gone, and is told how much it missed.
 */
class Watch implements EventSink {
  readonly filter: EventFilter;
  readonly #sink: WatchSink;
  #entries: Entry[] = [];
  /** Of what waits. */
  characters = 0;
  #dropped = 0;

  constructor(filter: EventFilter, sink: WatchSink) {
    this.filter = filter;
    this.#sink = sink;
  }

  push(text: string, sequence: number, count: number): void {
    const bound = LIMITS.eventBufferCharactersMax / (this.#dropped > 0 ? 2 : 1);
    if (this.characters + text.length > bound) {
      this.#dropped += count;
      return;
    }
    this.#tellDropped();
    this.#add(text, sequence);
    this.#sink.waiting();
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#add(JSON.stringify({ type: 'dropped', count: this.#dropped }), 0);
    this.#dropped = 0;
  }

  #add(text: string, sequence: number): void {
    this.#entries.push({ text, sequence });
    this.characters += text.length;
  }

  /** Whether something waits for the disk. */
  get isOwing(): boolean {
    return this.#entries.length > 0 && (this.#entries[0] as Entry).sequence > this.#sink.durableSequence();
  }

  /** Sends what may be sent, while there is room. */
  send(watch: number): void {
    const durableSequence = this.#sink.durableSequence();
    let sent = 0;
    while (this.#sink.roomBytes() > ROOM_LEFT_BYTES) {
      if (sent === this.#entries.length) this.#tellDropped();
      const texts: string[] = [];
      for (let characters = 0; characters < FRAME_CHARACTERS && sent < this.#entries.length; sent++) {
        const { text, sequence } = this.#entries[sent] as Entry;
        if (sequence > durableSequence) break;
        texts.push(text);
        characters += text.length;
        this.characters -= text.length;
      }
      if (texts.length === 0) break;
      this.#sink.send(watch, texts);
    }
    if (sent > 0) this.#entries = this.#entries.slice(sent);
  }
}

/** The event streams of one connection, by the request id of their WATCH. */
export class Watches {
  readonly #events: Events;
  readonly #sink: WatchSink;
  readonly #watches = new Map<number, Watch>();

  constructor(events: Events, sink: WatchSink) {
    this.#events = events;
    this.#sink = sink;
  }

  get count(): number {
    return this.#watches.size;
  }

  /** Throws BUFFER_FULL, and PROTOCOL for a number that another has. */
  add(watch: number, filter: EventFilter): void {
    if (this.#watches.has(watch)) throw new MillraceError('PROTOCOL', `request id ${watch} watches already`);
    if (this.#watches.size >= LIMITS.watchesPerConnectionMax) {
      const bound = LIMITS.watchesPerConnectionMax;
      const message = `this client watches events ${bound} times, as often as it may: end some, or use another client`;
      throw new MillraceError('BUFFER_FULL', message, { details: { bound } });
    }
    const added = new Watch(filter, this.#sink);
    this.#events.add(filter, added);
    this.#watches.set(watch, added);
  }

  remove(watch: number): void {
    const known = this.#watches.get(watch);
    if (known === undefined) return;
    this.#watches.delete(watch);
    this.#events.remove(known.filter, known);
  }

  get isOwing(): boolean {
    for (const watch of this.#watches.values()) if (watch.isOwing) return true;
    return false;
  }

  get heldCharacters(): number {
    let characters = 0;
    for (const watch of this.#watches.values()) characters += watch.characters;
    return characters;
  }

  send(): void {
    for (const [number, watch] of this.#watches) watch.send(number);
  }

  close(): void {
    for (const number of [...this.#watches.keys()]) this.remove(number);
  }
}
