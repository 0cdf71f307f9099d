import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { MillraceError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Acceptor } from './net.ts';
import { SocketLink } from './socket-link.ts';
import { checkServing, type TlsServing } from './tls.ts';

/** The first byte of every TLS connection. */
const HANDSHAKE_RECORD = 0x16;

/**
 * What comes to a TLS port:
 *
 *   arrived ──first byte is TLS──► handshake ──done──► a link, accepted or refused
 *      ├── something else: a link that is told so
 *      └── nothing for LIMITS.handshakeTimeoutMs, or too many others: cut off
 *
 * The first byte is looked at before TLS gets it, because TLS only closes what it cannot read, and whoever has written tcp://
 * in place of tls:// should be told. A client without the certificate that is asked for finishes its handshake too: as
 * alerts of TLS reach it, when at all, after it has begun to write, it is told in our own words.
 */
export class TlsAcceptor {
  readonly #server: Server;
  readonly #acceptor: Acceptor;
  readonly #asksForCertificates: boolean;
  /** Connections that are no links yet, the oldest first, by the other end. */
  readonly #shaking = new Map<string, Socket>();
  /** Those that were let in for their certificates. */
  readonly #certified = new Set<TLSSocket>();
  #clientCa: string | undefined;

  readonly #timeoutMs: number;

  /** Throws INVALID_ARGUMENT. */
  constructor(tls: TlsServing, acceptor: Acceptor, { timeoutMs } = { timeoutMs: LIMITS.handshakeTimeoutMs as number }) {
    checkServing(tls, 'the certificate and key of the server');
    this.#acceptor = acceptor;
    this.#timeoutMs = timeoutMs;
    this.#asksForCertificates = tls.clientCa !== undefined;
    this.#clientCa = tls.clientCa;
    this.#server = createServer({
      ...contextOf(tls),
      requestCert: this.#asksForCertificates,
      rejectUnauthorized: false,
      handshakeTimeout: timeoutMs,
    });
    this.#server.on('secureConnection', (socket) => this.#secured(socket));
    this.#server.on('tlsClientError', (error, socket) => {
      // Of itself a handshake that takes too long is only told.
      socket.destroy();
      acceptor.notAccepted(handshakeFailed(error));
    });
  }

  /** With other authorities for clients those are cut off whom the ones before let in. Throws INVALID_ARGUMENT. */
  renew(tls: TlsServing): void {
    checkServing(tls, 'the certificate and key of the server');
    this.#server.setSecureContext(contextOf(tls));
    if (tls.clientCa === this.#clientCa) return;
    this.#clientCa = tls.clientCa;
    // Who may still come comes back, and is looked at anew; a handshake that has begun would end as it began.
    for (const socket of [...this.#certified, ...this.#shaking.values()]) socket.destroy();
  }

  arrived(socket: Socket): void {
    const key = keyOf(socket);
    const timer = setTimeout(() => socket.destroy(), this.#timeoutMs);
    this.#shaking.set(key, socket);
    this.#makeRoom();
    // It closes then, and has told nobody anything.
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(timer);
      if (this.#shaking.get(key) === socket) this.#shaking.delete(key);
    });
    socket.once('readable', () => {
      clearTimeout(timer);
      const bytes = socket.read() as Buffer | null;
      if (bytes === null) socket.destroy();
      else if (bytes[0] === HANDSHAKE_RECORD) {
        socket.unshift(bytes);
        this.#server.emit('connection', socket);
      } else {
        this.#shaking.delete(key);
        this.#acceptor.refuse(new SocketLink(socket), notTls());
      }
    });
  }

  #makeRoom(): void {
    if (this.#shaking.size <= LIMITS.tlsHandshakesMax) return;
    for (const [key, oldest] of this.#shaking) {
      this.#shaking.delete(key);
      oldest.destroy();
      return;
    }
  }

  /** Cuts off whoever has not finished his handshake. */
  close(): void {
    for (const socket of this.#shaking.values()) socket.destroy();
  }

  #secured(socket: TLSSocket): void {
    this.#shaking.delete(keyOf(socket));
    const link = new SocketLink(socket);
    socket.on('data', (bytes: Buffer) => link.received(bytes));
    if (!this.#asksForCertificates) this.#acceptor.accept(link);
    else if (socket.authorized) {
      this.#certified.add(socket);
      socket.once('close', () => this.#certified.delete(socket));
      this.#acceptor.accept(link);
    } else this.#acceptor.refuse(link, notCertified(socket));
  }
}

/** OpenSSL's own reason, without the place in its source. */
function handshakeFailed(cause: Error & { reason?: string }): Error {
  return new Error(`their TLS handshake failed: ${cause.reason ?? cause.message}`, { cause });
}

function contextOf({ cert, key, clientCa }: TlsServing): { cert: string; key: string; ca?: string } {
  return clientCa === undefined ? { cert, key } : { cert, key, ca: clientCa };
}

function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

function notTls(): MillraceError {
  return new MillraceError('PROTOCOL', 'this port speaks TLS only: use tls:// in place of tcp://');
}

function notCertified(socket: TLSSocket): MillraceError {
  const hasNone = Object.keys(socket.getPeerCertificate()).length === 0;
  const what = hasNone
    ? 'the client shows none'
    : `that of the client is not accepted (${String(socket.authorizationError)})`;
  return new MillraceError(
    'UNAUTHENTICATED',
    `the server asks clients for a certificate, and ${what}: give tls.cert and tls.key (--tls-cert FILE --tls-key FILE), signed by an authority of the server's --tls-client-ca`,
  );
}
