import { connect, createServer, type Socket } from 'node:net';
import { InvariantError, MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Link, LinkHandler, Listener, Net } from './net.ts';

/**
 * A link that was dialled reads into one buffer for ever. A new one for each read costs little by itself, but V8 counts
 * what lies outside its heap and collects the whole heap for it: 78 full collections in a worker that ran 4,000,000
 * tasks, against 3. Node has no such way for a socket that was accepted.
 */
const READ_BYTES = 64 * 1024;

/** How long an ended link waits for the other side to close too. */
const END_TIMEOUT_MS = 2000;

/** Node gives keepalive probes an interval of 1 s and a count of 10: a silent host is noticed after about 12 s. */
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.keepAliveMs } as const;

const NO_HANDLER: LinkHandler = {
  data: () => {
    throw new InvariantError('a link got bytes before it had a handler');
  },
  drain: () => {},
  close: () => {},
};

/** A TCP socket. After `end` nothing more is handed to `handler.data`. */
class SocketLink implements Link {
  readonly remote: string;
  handler: LinkHandler = NO_HANDLER;
  readonly #socket: Socket;
  #reason: Error | undefined;
  #ended = false;
  #behind = false;
  #endTimer: NodeJS.Timeout | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    const host = socket.remoteAddress ?? 'unknown';
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

/** TCP over node:net. */
export const nodeNet: Net = {
  connect({ host, port }, timeoutMs) {
    return new Promise((resolve, reject) => {
      let link: SocketLink | undefined;
      const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
      const socket = connect({
        host,
        port,
        ...SOCKET_OPTIONS,
        onread: {
          buffer,
          callback: (byteCount) => {
            link?.received(buffer.subarray(0, byteCount));
            return true;
          },
        },
      });
      const timer = setTimeout(() => {
        const message = `no connection to ${host}:${port} within ${timeoutMs} ms: check the address and the firewall`;
        socket.destroy(new MillraceError('TIMEOUT', message, { details: { host, port, timeoutMs } }));
      }, timeoutMs);
      const failed = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      socket.once('error', failed);
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.off('error', failed);
        link = new SocketLink(socket);
        resolve(link);
      });
    });
  },

  listen({ host, port }, accept, notAccepted = () => {}) {
    return new Promise<Listener>((resolve, reject) => {
      const server = createServer(SOCKET_OPTIONS, (socket) => {
        const link = new SocketLink(socket);
        socket.on('data', (bytes: Buffer) => link.received(bytes));
        accept(link);
      });
      const failed = (error: NodeJS.ErrnoException): void => {
        reject(error.code === 'EADDRINUSE' ? addressInUse(host, port, error) : error);
      };
      server.once('error', failed);
      server.listen({ host, port }, () => {
        server.off('error', failed);
        server.on('error', notAccepted);
        const address = server.address();
        resolve({
          port: typeof address === 'object' && address !== null ? address.port : port,
          close: () =>
            new Promise((closed) => {
              // The callback of close() waits for open links; the port is free as soon as the handle is closed.
              server.close();
              setImmediate(closed);
            }),
        });
      });
    });
  },
};

function addressInUse(host: string, port: number, cause: Error): MillraceError {
  return new MillraceError(
    'ADDRESS_IN_USE',
    `port ${port} on ${host} is taken by another process: stop it, or choose another port`,
    { cause, details: { host, port } },
  );
}
