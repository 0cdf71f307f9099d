import type { MillraceError } from '../errors.ts';
import type { Listener, Net } from '../io/net.ts';
import { nodeNet } from '../io/node-net.ts';
import { DEFAULTS } from '../limits.ts';
import { Host, type HostOptions } from './host.ts';

export interface ServerOptions extends HostOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** Default 5555; 0 takes any free one. */
  port?: number;
  net?: Net;
}

/** A host that listens on TCP. */
export class Server {
  readonly host: Host;
  readonly #listener: Listener;
  readonly #address: string;

  /** Rejects with ADDRESS_IN_USE, DIRECTORY_LOCKED, JOURNAL_DAMAGED, JOURNAL_VERSION, JOURNAL_UNUSABLE. */
  static async start(options: ServerOptions): Promise<Server> {
    const host = await Host.start(options);
    const address = { host: options.host ?? DEFAULTS.host, port: options.port ?? DEFAULTS.port };
    try {
      const listener = await (options.net ?? nodeNet).listen(address, (link) => host.accept(link));
      return new Server(host, listener, address.host);
    } catch (error) {
      await host.stop({ timeoutMs: 0 });
      throw error as MillraceError;
    }
  }

  private constructor(host: Host, listener: Listener, address: string) {
    this.host = host;
    this.#listener = listener;
    this.#address = address;
  }

  get port(): number {
    return this.#listener.port;
  }

  get url(): string {
    return `tcp://${this.#address.includes(':') ? `[${this.#address}]` : this.#address}:${this.port}`;
  }

  /** See `Host.stop`. Nobody new is let in from the first moment. Always resolves. */
  async stop(options: { timeoutMs?: number } = {}): Promise<MillraceError | undefined> {
    const closed = this.#listener.close();
    const unwritten = await this.host.stop({ timeoutMs: options.timeoutMs ?? DEFAULTS.stopTimeoutMs });
    await closed;
    return unwritten;
  }
}
