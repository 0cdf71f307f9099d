import { InvariantError } from '../errors.ts';
import type { Clock } from './clock.ts';
import type { Link, LinkHandler } from './net.ts';

/**
 * Two links in one process, each the other's far end. Bytes are handed over after the current turn, as a socket would,
 * so that neither side is called back inside its own `write`.
 */
export function createLinkPair(clock: Clock): [Link, Link] {
  const turns = new Turns(clock);
  const a = new PairLink(turns);
  const b = new PairLink(turns);
  a.join(b);
  b.join(a);
  return [a, b];
}

/** After so many hand-overs in a row the event loop gets a turn: two busy ends must not starve timers and sockets. */
const HOPS_MAX = 64;

class Turns {
  readonly #clock: Clock;
  #hops = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  next(callback: () => void): void {
    if (++this.#hops < HOPS_MAX) {
      this.#clock.defer(callback);
      return;
    }
    this.#hops = 0;
    this.#clock.deferPastInput(callback);
  }

  /** When all has been done that came of the hand-overs before. */
  last(callback: () => void): void {
    this.#clock.deferPastInput(callback);
  }
}

interface Message {
  bytes: Uint8Array;
  written: (() => void) | undefined;
}

const NO_HANDLER: LinkHandler = {
  data: () => {
    throw new InvariantError('a link got bytes before it had a handler');
  },
  drain: () => {},
  close: () => {},
};

class PairLink implements Link {
  readonly remote = 'in-process';
  readonly address = 'in-process';
  handler: LinkHandler = NO_HANDLER;
  readonly #turns: Turns;
  #peer!: PairLink;
  /** What the peer wrote and this end has not handed to its handler. */
  readonly #inbox: Message[] = [];
  #inboxBytes = 0;
  #scheduled = false;
  #paused = false;
  /** This end will write nothing more. */
  #ended = false;
  #closed = false;

  constructor(turns: Turns) {
    this.#turns = turns;
  }

  join(peer: PairLink): void {
    this.#peer = peer;
  }

  get bufferedBytes(): number {
    return this.#peer.#inboxBytes;
  }

  write(bytes: Uint8Array, written?: () => void): void {
    if (this.#ended || this.#closed) {
      written?.();
      return;
    }
    this.#peer.#inbox.push({ bytes, written });
    this.#peer.#inboxBytes += bytes.length;
    this.#peer.#schedule();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#peer.#schedule();
  }

  destroy(reason?: Error): void {
    if (this.#closed) return;
    this.#close(reason);
    // As with a socket, what was written before still arrives.
    const peer = this.#peer;
    for (const message of peer.#inbox) {
      if (message.written === undefined) continue;
      message.bytes = Buffer.from(message.bytes);
      message.written();
      message.written = undefined;
    }
    this.#ended = true;
    peer.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#turns.next(() => {
      this.#scheduled = false;
      this.#receive();
    });
  }

  #receive(): void {
    const had = this.#inbox.length > 0;
    while (this.#inbox.length > 0 && !this.#paused && !this.#closed) {
      const { bytes, written } = this.#inbox.shift() as Message;
      this.#inboxBytes -= bytes.length;
      this.handler.data(asBuffer(bytes));
      written?.();
    }
    if (this.#closed || this.#inbox.length > 0) return;
    if (this.#peer.#ended) {
      this.#peer.#close(undefined);
      this.#close(undefined);
    } else if (had) {
      this.#peer.handler.drain();
    }
  }

  #close(reason: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { written } of this.#inbox.splice(0)) written?.();
    this.#inboxBytes = 0;
    // As with a socket: whoever was told something with the last bytes has heard of it by then.
    this.#turns.last(() => this.handler.close(reason));
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
