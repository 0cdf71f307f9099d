import type { Socket } from 'node:net';
import { InvariantError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Link, LinkHandler } from './net.ts';

/** How long an ended link waits for the other side to close too. */
const END_TIMEOUT_MS = 2000;

/** Node gives keepalive probes an interval of 1 s and a count of 10: a silent host is noticed after about 12 s. */
export const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.keepAliveMs } as const;

const NO_HANDLER: LinkHandler = {
  data: () => {
    throw new InvariantError('a link got bytes before it had a handler');
  },
  drain: () => {},
  close: () => {},
};

/** A TCP socket, or TLS over one. After `end` nothing more is handed to `handler.data`. */
export class SocketLink implements Link {
  readonly remote: string;
  readonly address: string;
  handler: LinkHandler = NO_HANDLER;
  readonly #socket: Socket;
  #reason: Error | undefined;
  #ended = false;
  #behind = false;
  #endTimer: NodeJS.Timeout | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    const host = socket.remoteAddress ?? 'unknown';
    this.address = host;
    this.remote = `${host.includes(':') ? `[${host}]` : host}:${socket.remotePort ?? 0}`;
    socket.on('error', (error) => {
      this.#reason ??= error;
    });
    socket.on('close', () => {
      clearTimeout(this.#endTimer);
      this.handler.close(this.#reason);
    });
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  /** What came in, lent until this returns. */
  received(bytes: Buffer): void {
    if (!this.#ended) this.handler.data(bytes);
  }

  write(bytes: Uint8Array, written?: () => void): void {
    const socket = this.#socket;
    if (this.#ended || socket.destroyed) {
      written?.();
      return;
    }
    socket.write(bytes, () => {
      written?.();
      if (this.#behind && socket.writableLength === 0 && !socket.destroyed) {
        this.#behind = false;
        this.handler.drain();
      }
    });
    if (socket.writableLength > 0) this.#behind = true;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#ended || this.#socket.destroyed) return;
    this.#ended = true;
    this.#socket.end();
    // Reads on, so that the other side's end is seen, and so that closing with unread bytes does not reset the
    // connection and lose what was just sent.
    this.#socket.resume();
    this.#endTimer = setTimeout(() => this.#socket.destroy(), END_TIMEOUT_MS);
  }

  destroy(reason?: Error): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }
}
