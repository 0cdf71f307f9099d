import type { MillraceError } from '../errors.ts';
import type { TlsDialing, TlsServing } from './tls.ts';

/**
 * A byte stream between two ends. `tcp` gives real sockets, `pair` two ends in one process; the simulation has a third.
 */
export interface Link {
  /** Who is at the other end, for logs and errors: `127.0.0.1:40312`, `in-process`. */
  readonly remote: string;
  /** The same without a port: whom connections are counted for. */
  readonly address: string;
  /** Set before the first byte can arrive, that is in the same turn in which the link was handed over. */
  handler: LinkHandler;
  /**
   * Sends the bytes, in order. The link owns `bytes` until `written` is called (called exactly once, also when the link
   * closes; possibly before `write` returns). Without `written` the bytes must never change.
   */
  write(bytes: Uint8Array, written?: () => void): void;
  /** Bytes taken by `write` that the kernel has not taken yet. */
  readonly bufferedBytes: number;
  /** Stops and resumes `handler.data`. */
  pause(): void;
  resume(): void;
  /** Sends what is buffered, then closes. */
  end(): void;
  /** Closes at once; `handler.close` follows. */
  destroy(reason?: Error): void;
}

export interface LinkHandler {
  /** `bytes` are lent for the call: what is kept longer must be copied. */
  data(bytes: Buffer): void;
  /** What was buffered has been taken; called after `bufferedBytes` had grown above 0. */
  drain(): void;
  /** Called once, last. `reason` is undefined when the other side closed in order. */
  close(reason: Error | undefined): void;
}

export interface Listener {
  /** The real port, when 0 was asked for. */
  readonly port: number;
  /** Shows this certificate to whoever comes from now on; nothing without TLS. Throws INVALID_ARGUMENT, and keeps the old one. */
  renewTls(tls: TlsServing): void;
  /** Stops accepting. Links that are open stay. */
  close(): Promise<void>;
}

export interface Address {
  readonly host: string;
  readonly port: number;
  /** With it the link is encrypted, and the other end has shown that it is `host`. */
  readonly tls?: TlsDialing | undefined;
}

/** What a listener calls. */
export interface Acceptor {
  accept(link: Link): void;
  /** It has a link and no right to it: to be told the error, and closed. */
  refuse(link: Link, error: MillraceError): void;
  /** One could not be taken; the listener goes on. */
  notAccepted(error: Error): void;
}

export interface Net {
  /**
   * Rejects with the system's error (`ECONNREFUSED`, …), with TIMEOUT, or, with TLS, with UNAUTHENTICATED when the other end is
   * not whom it should be and PROTOCOL when it does not speak TLS. `signal` gives it up: nothing is left of it, and it rejects with
   * the signal's reason.
   */
  connect(address: Address, timeoutMs: number, signal?: AbortSignal): Promise<Link>;
  /** Rejects with ADDRESS_IN_USE, the system's error, or INVALID_ARGUMENT for a certificate that is none. */
  listen(
    address: { readonly host: string; readonly port: number; readonly tls?: TlsServing | undefined },
    acceptor: Acceptor,
  ): Promise<Listener>;
}
