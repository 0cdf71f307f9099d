import { crc32 } from 'node:zlib';
import { InvariantError } from '../../src/errors.ts';
import type { Link, LinkHandler } from '../../src/io/net.ts';
import type { Wire } from './net.ts';
import type { SimProcess } from './process.ts';
import { Violation } from './scheduler.ts';

/** What somebody sees who listens at one end of a link. */
export interface LinkTap {
  received(bytes: Buffer): void;
  sent(bytes: Uint8Array): void;
  /** The program of this end has closed it, or was told that it is closed. */
  closed(): void;
}

/** What travels: bytes, an end in order, or a reset. */
export type Packet = { kind: 'bytes'; bytes: Buffer } | { kind: 'fin' } | { kind: 'reset' };

interface Message {
  readonly bytes: Uint8Array;
  /** As they were given. */
  readonly checksum: number;
  offset: number;
  readonly written: (() => void) | undefined;
}

const NO_HANDLER: LinkHandler = {
  data: () => {
    throw new InvariantError('a link got bytes before it had a handler');
  },
  drain: () => {},
  close: () => {},
};

const END_TIMEOUT_MS = 2000;
const READ_BYTES_MAX = 65_536;

/**
 * One end of a simulated TCP connection.
 *
 *   open ──end()──► ended (what was written still goes out) ──the other side's end──► closed
 *     └── destroy(), a reset, keepalive, the other side's end ─────────────────────────► closed
 *   any ── the process dies ──► gone: the kernel ends it, or with the power nobody does
 *
 * `write` hands the bytes to the kernel when it has room. They are copied only then, so that a buffer used again too
 * early arrives as garbage.
 */
export class SimLink implements Link {
  readonly remote: string;
  readonly address: string;
  readonly process: SimProcess;
  handler: LinkHandler = NO_HANDLER;
  tap: LinkTap | undefined;
  peer!: SimLink;
  /** When the last packet for this end arrives: none may overtake another. */
  lastArrivalMs = 0;
  /** Packets for this end that a cut holds up. */
  readonly held: Packet[] = [];
  /** Without a process that could be told anything. */
  gone = false;
  /** It went with the power: what it had sent is gone with it. */
  mute = false;
  closed = false;
  readonly #wire: Wire;
  readonly #windowBytes: number;
  readonly #outbox: Message[] = [];
  #outboxBytes = 0;
  /** Taken by the kernel and not read at the other end. */
  #flightBytes = 0;
  readonly #inbox: Buffer[] = [];
  #inboxBytes = 0;
  #readScheduled = false;
  #paused = false;
  #ended = false;
  #finSent = false;
  #finCame = false;
  #behind = false;
  /** The program knows that it is closed. */
  #told = false;

  constructor(wire: Wire, process: SimProcess, remote: string, windowBytes: number) {
    this.#wire = wire;
    this.process = process;
    this.remote = remote;
    this.address = remote;
    this.#windowBytes = windowBytes;
  }

  get bufferedBytes(): number {
    return this.#outboxBytes;
  }

  /** Nothing is on its way to the other side: only then does keepalive notice a cut soon. */
  get idle(): boolean {
    return this.#outboxBytes === 0 && this.#flightBytes === 0;
  }

  write(bytes: Uint8Array, written?: () => void): void {
    if (this.#ended || this.closed) {
      // One who has not been told of the end yet believes that it was sent.
      if (!this.#ended && !this.#told) this.tap?.sent(bytes);
      written?.();
      return;
    }
    this.tap?.sent(bytes);
    this.#outbox.push({ bytes, checksum: crc32(bytes), offset: 0, written });
    this.#outboxBytes += bytes.length;
    this.#pump();
    if (this.#outboxBytes > 0) this.#behind = true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#readSoon();
  }

  end(): void {
    if (this.#ended || this.closed) return;
    this.#ended = true;
    this.#paused = false;
    this.tap?.closed();
    this.#finish();
    this.#readSoon();
    this.#wire.later(END_TIMEOUT_MS, this.process, 'end timeout', () => this.destroy());
  }

  destroy(reason?: Error): void {
    if (this.closed) {
      // It ended a moment ago, and its program has not heard of that yet.
      this.#told = true;
      this.tap?.closed();
      return;
    }
    if (!this.#finSent) this.#send({ kind: this.#inboxBytes > 0 || !this.#ended ? 'reset' : 'fin' });
    this.#told = true;
    this.tap?.closed();
    this.#close(reason);
  }

  /** The process has ended: the kernel says goodbye, unless the machine went with it. */
  abandon(powerLost: boolean): void {
    if (!this.closed && !powerLost && !this.#finSent) this.#send({ kind: this.#inboxBytes > 0 ? 'reset' : 'fin' });
    this.gone = true;
    this.closed = true;
    this.mute = powerLost;
    if (powerLost) this.held.length = 0;
  }

  /** The kernel gives the connection up. */
  timeOut(code: string): void {
    if (this.closed) return;
    this.#send({ kind: 'reset' });
    this.#close(Object.assign(new Error(`${code}: the connection to ${this.remote} broke`), { code }));
  }

  arrive(packet: Packet): void {
    if (this.closed) {
      // Somebody sends to what is no longer there.
      if (packet.kind === 'bytes' && !this.peer.closed) this.#send({ kind: 'reset' });
      return;
    }
    if (packet.kind === 'reset') {
      this.#inbox.length = 0;
      const code = 'ECONNRESET';
      this.#close(Object.assign(new Error(`${code}: the connection was reset by ${this.remote}`), { code }));
      return;
    }
    if (packet.kind === 'bytes') {
      this.#inbox.push(packet.bytes);
      this.#inboxBytes += packet.bytes.length;
    } else this.#finCame = true;
    this.#readSoon();
  }

  #readSoon(): void {
    if (this.#readScheduled || this.#paused || this.closed) return;
    if (this.#inbox.length === 0 && !this.#finCame) return;
    this.#readScheduled = true;
    this.#wire.later(0, this.process, 'read', () => {
      this.#readScheduled = false;
      this.#read();
    });
  }

  /** One read of the kernel's buffer, as large as the system's would be. */
  #read(): void {
    if (this.closed || this.#paused) return;
    if (this.#inbox.length > 0) {
      const whole = this.#inbox.length === 1 ? (this.#inbox[0] as Buffer) : Buffer.concat(this.#inbox);
      this.#inbox.length = 0;
      if (whole.length > READ_BYTES_MAX) this.#inbox.push(whole.subarray(READ_BYTES_MAX));
      const bytes = whole.subarray(0, READ_BYTES_MAX);
      this.#inboxBytes -= bytes.length;
      this.peer.#taken(bytes.length);
      this.#readSoon();
      if (this.#ended) return;
      const lent = Buffer.from(bytes);
      this.tap?.received(lent);
      this.handler.data(lent);
      // Whoever kept it without a copy is found.
      lent.fill(0xa5);
      return;
    }
    if (!this.#finCame) return;
    if (this.#outbox.length > 0 && !this.#ended) this.#ended = true;
    this.#finish();
    if (this.#outbox.length === 0) this.#close(undefined);
  }

  /** The other end has read so much. */
  #taken(bytes: number): void {
    this.#flightBytes -= bytes;
    if (this.closed) return;
    this.#wire.later(this.#wire.latencyMs(), this.process, 'room', () => {
      if (this.closed) return;
      this.#pump();
      if (this.#behind && this.#outboxBytes === 0) {
        this.#behind = false;
        this.handler.drain();
      }
    });
  }

  #pump(): void {
    while (this.#outbox.length > 0) {
      const room = this.#windowBytes - this.#flightBytes;
      if (room <= 0) return;
      const message = this.#outbox[0] as Message;
      if (crc32(message.bytes) !== message.checksum) {
        throw new Violation('buffer-reused', `${this.process.name} changed what it had written to ${this.remote}`);
      }
      const bytes = Buffer.from(message.bytes.subarray(message.offset, message.offset + room));
      message.offset += bytes.length;
      this.#flightBytes += bytes.length;
      this.#outboxBytes -= bytes.length;
      this.#send({ kind: 'bytes', bytes });
      if (message.offset < message.bytes.length) return;
      this.#outbox.shift();
      if (message.written !== undefined) this.#wire.later(0, this.process, 'written', message.written);
    }
    this.#finish();
    if (this.#finCame && this.#ended && this.#inbox.length === 0) this.#close(undefined);
  }

  #finish(): void {
    if (!this.#ended && !this.#finCame) return;
    if (this.#finSent || this.#outbox.length > 0) return;
    this.#finSent = true;
    this.#send({ kind: 'fin' });
  }

  #send(packet: Packet): void {
    this.#wire.send(this, packet);
  }

  #close(reason: Error | undefined): void {
    if (this.closed) return;
    this.closed = true;
    const unwritten = this.#outbox.splice(0);
    this.#outboxBytes = 0;
    this.#wire.later(0, this.process, 'close', () => {
      for (const { written } of unwritten) written?.();
      this.#told = true;
      this.tap?.closed();
      this.handler.close(reason);
    });
  }
}
