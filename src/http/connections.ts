import type { Socket } from 'node:net';
import type { HttpBindings } from '@hono/node-server';
import { MillraceError } from '../errors.ts';
import { AddressCounts } from '../io/address-counts.ts';
import type { Clock } from '../io/clock.ts';
import { LIMITS } from '../limits.ts';
import { problemResponse } from './problem.ts';

/**
 * Connections to a port of HTTP, in all and of each address. One that is too many is told so when it asks for something, over
 * TLS too, and is cut off when it does not soon.
 */
export class HttpConnections {
  readonly #clock: Clock;
  readonly #max: number;
  readonly #addresses: AddressCounts;
  /** By the other end. */
  readonly #refused = new Map<string, MillraceError>();
  #count = 0;

  constructor(clock: Clock, { max, perAddressMax }: { max: number; perAddressMax: number | undefined }) {
    this.#clock = clock;
    this.#max = max;
    this.#addresses = new AddressCounts(perAddressMax ?? Number.POSITIVE_INFINITY);
  }

  arrived(socket: Socket): void {
    try {
      const leave = this.#enter(socket.remoteAddress ?? 'unknown');
      socket.once('close', leave);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      this.#refuse(socket, error);
    }
  }

  /** The answer to whatever comes over a connection that is too many. */
  refusal({ incoming }: HttpBindings): Response | undefined {
    const error = this.#refused.get(endOf(incoming.socket));
    if (error === undefined) return undefined;
    const response = problemResponse(error);
    response.headers.set('connection', 'close');
    return response;
  }

  #enter(address: string): () => void {
    if (this.#count >= this.#max) {
      const message = `there are ${this.#count} connections over HTTP, as many as may be: close some, and keep fewer open`;
      throw new MillraceError('CONNECTION_LIMIT', message, { details: { bound: this.#max } });
    }
    const leave = this.#addresses.enter(address);
    this.#count++;
    return () => {
      this.#count--;
      leave();
    };
  }

  #refuse(socket: Socket, error: MillraceError): void {
    const end = endOf(socket);
    this.#refused.set(end, error);
    const timer = this.#clock.setTimer(LIMITS.handshakeTimeoutMs, () => socket.destroy());
    timer.unref();
    socket.once('close', () => {
      timer.cancel();
      this.#refused.delete(end);
    });
  }
}

/** Connections to HTTPS whose handshake is not over: Node's server knows only of those that are through. */
export class Handshakes {
  /** By the other end. */
  readonly #sockets = new Map<string, Socket>();

  began(socket: Socket): void {
    const end = endOf(socket);
    this.#sockets.set(end, socket);
    socket.once('close', () => {
      if (this.#sockets.get(end) === socket) this.#sockets.delete(end);
    });
  }

  /** `secure`: what came of it. */
  ended(secure: Socket): void {
    this.#sockets.delete(endOf(secure));
  }

  cutOff(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
