import type { MillraceError } from '../errors.ts';
import type { Listener, Net } from '../io/net.ts';
import { nodeNet } from '../io/node-net.ts';
import type { TlsServing } from '../io/tls.ts';
import { DEFAULTS, LIMITS } from '../limits.ts';
import { connectionLimits } from './connection-limits.ts';
import { Host, type HostOptions } from './host.ts';

export interface ServerOptions extends HostOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** Default 5555; 0 takes any free one. */
  port?: number;
  /** With it all connections are encrypted. */
  tls?: TlsServing | undefined;
  net?: Net;
}

/** A host that listens on TCP. */
export class Server {
  readonly host: Host;
  readonly #listener: Listener;
  /** Without the port. */
  readonly #place: string;

  /** Rejects with ADDRESS_IN_USE, INVALID_ARGUMENT (a certificate that is none), DIRECTORY_LOCKED, JOURNAL_DAMAGED, JOURNAL_VERSION, JOURNAL_UNUSABLE. */
  static async start(options: ServerOptions): Promise<Server> {
    const { net = nodeNet, connectionsMax = LIMITS.connectionsMax, onNotice } = options;
    const limits = net === nodeNet ? connectionLimits(connectionsMax, (line) => onNotice?.('warn', line)) : {};
    const host = await Host.start({ ...options, ...limits });
    const { tls } = options;
    const address = { host: options.host ?? DEFAULTS.host, port: options.port ?? DEFAULTS.port, tls };
    try {
      const listener = await net.listen(address, {
        accept: (link) => host.accept(link),
        refuse: (link, error) => host.refuse(link, error),
        notAccepted: (error) => host.notAccepted(error),
      });
      return new Server(host, listener, `${tls === undefined ? 'tcp' : 'tls'}://${inUrl(address.host)}`);
    } catch (error) {
      await host.stop({ timeoutMs: 0 });
      throw error as MillraceError;
    }
  }

  private constructor(host: Host, listener: Listener, place: string) {
    this.host = host;
    this.#listener = listener;
    this.#place = place;
  }

  get port(): number {
    return this.#listener.port;
  }

  get url(): string {
    return `${this.#place}:${this.port}`;
  }

  /** Another certificate for who connects from now on. Throws INVALID_ARGUMENT, and keeps the one before. */
  renewTls(tls: TlsServing): void {
    this.#listener.renewTls(tls);
  }

  /** See `Host.stop`. Nobody new is let in from the first moment. Always resolves. */
  async stop(options: { timeoutMs?: number } = {}): Promise<MillraceError | undefined> {
    const closed = this.#listener.close();
    const unwritten = await this.host.stop({ timeoutMs: options.timeoutMs ?? DEFAULTS.stopTimeoutMs });
    await closed;
    return unwritten;
  }
}

function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
